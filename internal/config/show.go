package config

import (
	"fmt"
	"io"
	"net/netip"
	"net/url"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// Show writes the settings in the form of a configuration file, with what is
// secret blanked out.
func (c *Config) Show(w io.Writer) error {
	holder := struct {
		Config `embed:""`
	}{*c}
	parser, err := kong.New(&holder, New(func(string) (string, bool) { return "", false }).Options()...)
	if err != nil {
		return fmt.Errorf("list settings: %w", err)
	}
	list := &yaml.Node{Kind: yaml.MappingNode}
	for _, flag := range parser.Model.Flags {
		if flag.Name == "help" || flag.Name == "config" {
			continue
		}
		value, err := shown(flag)
		if err != nil {
			return fmt.Errorf("show %s: %w", flag.Name, err)
		}
		list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: flag.Name}, value)
	}
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(list); err != nil {
		return fmt.Errorf("show settings: %w", err)
	}
	return encoder.Close()
}

// shown is a setting's value in a form that may be shown.
func shown(flag *kong.Flag) (*yaml.Node, error) {
	var value any
	switch v := flag.Target.Interface().(type) {
	case Secret:
		if v != "" {
			return hidden(), nil
		}
		value = ""
	case []Secret:
		if len(v) > 0 {
			return hidden(), nil
		}
		value = []string{}
	case string:
		value = v
		if isSecret(flag.Value) {
			value = withoutPassword(v)
		}
	case netip.Addr:
		value = ""
		if v.IsValid() {
			value = v.String()
		}
	case fmt.Stringer:
		value = v.String()
	default:
		value = v
	}
	node := &yaml.Node{}
	return node, node.Encode(value)
}

// hidden is a value that says it is there and, read again, is none.
func hidden() *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", LineComment: "set, and not shown"}
}

func withoutPassword(text string) string {
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil {
		return Secret(text).String()
	}
	u.RawQuery = "" // PostgreSQL takes a password there too
	return u.Redacted()
}
