package config

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Sources is where kong finds the values of settings that are not on the
// command line: the environment and the file. A setting is any flag with an
// env tag; others are left alone.
//
// Kong's own reading of the environment is switched off, because it would let
// a file win over it and would quote what it can't read, secrets included.
type Sources struct {
	lookup func(string) (string, bool)
	vars   map[*kong.Flag]string
	file   *file
	faults []string
}

// New reads the environment through lookup, which is like os.LookupEnv.
func New(lookup func(string) (string, bool)) *Sources {
	return &Sources{lookup: lookup, vars: map[*kong.Flag]string{}}
}

// Options make kong take values from here.
func (s *Sources) Options() []kong.Option {
	return []kong.Option{
		kong.PostBuild(func(k *kong.Kong) error {
			s.detach(k.Model.Node)
			return nil
		}),
		kong.Resolvers(kong.ResolverFunc(s.resolve)),
		kong.ValueFormatter(s.help),
	}
}

// Faults are all the settings that could not be read, one line each. It is
// to be asked after parsing.
func (s *Sources) Faults() []string {
	slices.Sort(s.faults)
	return slices.Compact(s.faults)
}

func (s *Sources) detach(node *kong.Node) {
	for _, flag := range node.Flags {
		if len(flag.Tag.Envs) > 0 {
			s.vars[flag] = flag.Tag.Envs[0]
			flag.Envs, flag.Tag.Envs = nil, nil
		}
	}
	for _, child := range node.Children {
		s.detach(child)
	}
}

// help adds default and variable to a setting's help text.
func (s *Sources) help(value *kong.Value) string {
	for flag, name := range s.vars {
		if flag.Value != value {
			continue
		}
		if value.HasDefault {
			return fmt.Sprintf("%s (default %s, $%s)", value.Help, value.Default, name)
		}
		return fmt.Sprintf("%s ($%s)", value.Help, name)
	}
	return value.Help
}

// resolve gives kong the value of one flag, or nil. A value that can't be read
// is kept as a fault and not given, so that one run finds all of them.
func (s *Sources) resolve(context *kong.Context, path *kong.Path, flag *kong.Flag) (any, error) {
	name, ok := s.vars[flag]
	if !ok {
		return nil, nil
	}
	if s.file == nil {
		s.open(context, path.Flags)
	}
	text, from, ok := s.find(name, flag)
	if !ok {
		return nil, nil
	}
	if err := try(flag, text); err != nil {
		s.fault("%s: %s", from, explain(flag, text, err))
		return nil, nil
	}
	return text, nil
}

// find looks in the environment and then in the file.
func (s *Sources) find(name string, flag *kong.Flag) (text, from string, ok bool) {
	text, _ = s.lookup(name)
	if flag.IsSlice() {
		text = trimList(text, flag.Tag.Sep)
	}
	if path, _ := s.lookup(name + "_FILE"); path != "" && isSecret(flag.Value) {
		return s.fromFile(name, text, path)
	}
	if text != "" {
		return text, name, true
	}
	if entry, ok := s.file.entries[flag.Name]; ok {
		return entry.text, s.file.at(entry.line) + ": " + flag.Name, true
	}
	return "", "", false
}

func (s *Sources) fromFile(name, text, path string) (_, from string, ok bool) {
	if text != "" {
		s.fault("%s and %s_FILE are both set: unset one", name, name)
		return "", "", false
	}
	content, err := os.ReadFile(path)
	if err != nil {
		s.fault("%s_FILE: %v", name, err)
		return "", "", false
	}
	text = strings.TrimSpace(string(content))
	if text == "" {
		s.fault("%s_FILE: %s is empty", name, path)
		return "", "", false
	}
	return text, name + "_FILE", true
}

func (s *Sources) fault(format string, args ...any) {
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// open reads the file that --config or its variable names. It is done once,
// with the flags of the command at hand telling which keys there are.
func (s *Sources) open(context *kong.Context, flags []*kong.Flag) {
	s.file = &file{}
	settings := map[string]*kong.Flag{}
	for _, flag := range flags {
		if s.vars[flag] != "" {
			settings[flag.Name] = flag
		}
	}
	config, ok := settings["config"]
	if !ok {
		return
	}
	delete(settings, "config") // a file does not name a file
	path, _ := context.FlagValue(config).(string)
	if path == "" {
		path, _ = s.lookup(s.vars[config])
	}
	if path == "" {
		return
	}
	file, faults := readFile(path, settings)
	s.file = file
	s.faults = append(s.faults, faults...)
}

// try decodes the text the way kong will, into a place of no consequence.
func try(flag *kong.Flag, text string) error {
	target := reflect.New(flag.Target.Type()).Elem()
	scan := kong.Scan().PushTyped(text, kong.FlagValueToken)
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, target); err != nil {
		return err
	}
	if flag.Enum == "" || flag.EnumMap()[text] {
		return nil
	}
	return fmt.Errorf("%q is none of %s", text, strings.ReplaceAll(flag.Enum, ",", ", "))
}

// explain says what is wrong with a value and how to write it.
func explain(flag *kong.Flag, text string, err error) string {
	if isSecret(flag.Value) {
		return "the value can't be read"
	}
	switch flag.Target.Interface().(type) {
	case int:
		return fmt.Sprintf("%q is not a whole number", text)
	case time.Duration:
		return fmt.Sprintf("%q is not a duration: write it like 20s or 1m30s", text)
	case Age:
		return fmt.Sprintf("%q is not an age: write it like 90d or 36h, or forever", text)
	case Size:
		return fmt.Sprintf("%q is not a size: write it like 64M or 1.5G", text)
	case netip.Addr:
		return fmt.Sprintf("%q is not an IP address", text)
	case []netip.Prefix:
		return fmt.Sprintf("%q is not a list of CIDR ranges: write it like 10.0.0.0/8,192.168.1.7/32", text)
	case map[string]string:
		return fmt.Sprintf("%q is not a list of pairs: write it like a=b,c=d", text)
	}
	return err.Error()
}

// trimList lets people write spaces after commas.
func trimList(text string, sep rune) string {
	items := kong.SplitEscaped(text, sep)
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return kong.JoinEscaped(items, sep)
}

func isSecret(value *kong.Value) bool {
	switch value.Target.Type() {
	case reflect.TypeFor[waypost.Secret](), reflect.TypeFor[[]waypost.Secret]():
		return true
	}
	return value.Tag.Has("secret")
}
