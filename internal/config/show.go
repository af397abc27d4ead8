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
	shown := &yaml.Node{Kind: yaml.MappingNode}
	for _, flag := range parser.Model.Flags {
		if flag.Name == "help" || flag.Name == "config" {
			continue
		}
		var value yaml.Node
		if err := value.Encode(plain(flag)); err != nil {
			return fmt.Errorf("show %s: %w", flag.Name, err)
		}
		shown.Content = append(shown.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: flag.Name}, &value)
	}
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(shown); err != nil {
		return fmt.Errorf("show settings: %w", err)
	}
	return encoder.Close()
}

// plain is a setting's value in a form that may be shown.
func plain(flag *kong.Flag) any {
	switch value := flag.Target.Interface().(type) {
	case Secret:
		if value == "" {
			return ""
		}
		return value.String()
	case []Secret:
		shown := make([]string, len(value))
		for i, secret := range value {
			shown[i] = secret.String()
		}
		return shown
	case string:
		if isSecret(flag.Value) {
			return withoutPassword(value)
		}
		return value
	case netip.Addr:
		if !value.IsValid() {
			return ""
		}
		return value.String()
	case fmt.Stringer:
		return value.String()
	default:
		return value
	}
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
