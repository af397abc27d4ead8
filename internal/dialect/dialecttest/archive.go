package dialecttest

import (
	"bytes"
	"strings"
)

// archive is a text file that holds several: comment lines, and then parts that
// each begin with a line "-- name --" (the txtar format).
type archive struct {
	comment string
	parts   []part
}

type part struct{ name, text string }

func parseArchive(text string) archive {
	var a archive
	into := &a.comment
	for line := range strings.Lines(text) {
		if name, ok := marker(line); ok {
			a.parts = append(a.parts, part{name: name})
			into = &a.parts[len(a.parts)-1].text
			continue
		}
		*into += line
	}
	return a
}

func marker(line string) (name string, ok bool) {
	line = strings.TrimRight(line, "\r\n")
	if len(line) < len("-- x --") || !strings.HasPrefix(line, "-- ") || !strings.HasSuffix(line, " --") {
		return "", false
	}
	return strings.TrimSpace(line[3 : len(line)-3]), true
}

func (a archive) format() []byte {
	var text bytes.Buffer
	text.WriteString(a.comment)
	for _, p := range a.parts {
		text.WriteString("-- " + p.name + " --\n" + p.text)
		if p.text != "" && !strings.HasSuffix(p.text, "\n") {
			text.WriteByte('\n')
		}
	}
	return text.Bytes()
}
