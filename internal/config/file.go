package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// file is a configuration file, flattened: each setting by its flag's name,
// its value as text, the way the environment would give it.
type file struct {
	path    string
	entries map[string]entry
}

type entry struct {
	text string
	line int
}

func (f *file) at(line int) string { return fmt.Sprintf("%s:%d", f.path, line) }

// fileReader collects the entries and every fault on the way.
type fileReader struct {
	file
	settings map[string]*kong.Flag
	faults   []string
}

func readFile(path string, settings map[string]*kong.Flag) (*file, []string) {
	r := &fileReader{file: file{path, map[string]entry{}}, settings: settings}
	content, err := os.ReadFile(path)
	if err != nil {
		return &r.file, []string{fmt.Sprintf("configuration file: %v", err)}
	}
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		return &r.file, []string{fmt.Sprintf("%s: %v", path, err)}
	}
	if len(document.Content) > 0 && document.Content[0].Tag != "!!null" { // else it is empty
		r.mapping(document.Content[0], "")
	}
	return &r.file, r.faults
}

// mapping reads "egress-allow: …" as well as "egress: {allow: …}".
func (r *fileReader) mapping(node *yaml.Node, prefix string) {
	if node.Kind != yaml.MappingNode {
		r.fault(node, "settings are written as \"name: value\"")
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := prefix + key.Value
		flag := r.settings[name]
		switch {
		case flag != nil:
			r.setting(flag, key, value)
		case value.Kind == yaml.MappingNode && r.begins(name+"-"):
			r.mapping(value, name+"-")
		default:
			r.fault(key, fmt.Sprintf("there is no setting %q%s", name, r.suggest(name)))
		}
	}
}

func (r *fileReader) begins(prefix string) bool {
	for name := range r.settings {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func (r *fileReader) setting(flag *kong.Flag, key, value *yaml.Node) {
	if _, ok := r.entries[flag.Name]; ok {
		r.fault(key, flag.Name+" is given twice")
		return
	}
	text, err := asText(flag, value)
	if err != nil {
		r.fault(key, flag.Name+": "+err.Error())
		return
	}
	if value.Tag == "!!null" { // "name:" with nothing after it
		return
	}
	r.entries[flag.Name] = entry{text, key.Line}
}

func (r *fileReader) fault(at *yaml.Node, text string) {
	r.faults = append(r.faults, r.at(at.Line)+": "+text)
}

// asText writes a value the way it would stand in the environment.
func asText(flag *kong.Flag, value *yaml.Node) (string, error) {
	switch {
	case value.Kind == yaml.AliasNode:
		return asText(flag, value.Alias)
	case value.Kind == yaml.ScalarNode:
		return value.Value, nil
	case value.Kind == yaml.SequenceNode && flag.IsSlice():
		items, err := scalars(value.Content)
		return kong.JoinEscaped(items, flag.Tag.Sep), err
	case value.Kind == yaml.MappingNode && flag.IsMap():
		items, err := scalars(value.Content)
		var pairs []string
		for i := 0; i+1 < len(items); i += 2 {
			pairs = append(pairs, items[i]+"="+items[i+1])
		}
		return kong.JoinEscaped(pairs, flag.Tag.MapSep), err
	case value.Kind == yaml.SequenceNode:
		return "", errors.New("a list is given where a single value belongs")
	}
	return "", errors.New("settings are given where a value belongs")
}

func scalars(nodes []*yaml.Node) ([]string, error) {
	items := make([]string, len(nodes))
	for i, node := range nodes {
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		if node.Kind != yaml.ScalarNode {
			return nil, errors.New("its items must be single values")
		}
		items[i] = node.Value
	}
	return items, nil
}

// suggest names the setting that was probably meant.
func (r *fileReader) suggest(name string) string {
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	best, distance := "", 3 // further away it would be a guess
	for known := range r.settings {
		if d := edits(name, known); d < distance || (d == distance && d < 3 && known < best) {
			best, distance = known, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; is %q meant?", best)
}

// edits counts the insertions, deletions and replacements between two words.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
