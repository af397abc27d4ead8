package egress

import (
	"iter"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// Field is one line of a request's header.
type Field struct{ Name, Value string }

// has reports whether there is a field of a name, however it is written.
func has(h []Field, name string) bool {
	return slices.ContainsFunc(h, func(f Field) bool { return isNamed(f.Name, name) })
}

// isNamed holds a header's name against one of our own.
func isNamed(name, own string) bool {
	return len(name) == len(own) && strings.EqualFold(name, own)
}

// fieldsOf takes a header apart.
func fieldsOf(h http.Header) []Field {
	fields := make([]Field, 0, len(h))
	for name, values := range h {
		for _, value := range values {
			fields = append(fields, Field{name, value})
		}
	}
	return fields
}

// httpHeader puts a header together as net/http wants it.
func httpHeader(fields []Field) http.Header {
	h := make(http.Header, len(fields))
	for _, f := range fields {
		h[f.Name] = append(h[f.Name], f.Value)
	}
	return h
}

// Header is the header of an answer: its lines as they came, each ended by CRLF.
// Most of them nobody ever asks for.
type Header string

// Get is the first value of a name, or empty.
func (h Header) Get(name string) string {
	for n, value := range h.fields() {
		if isNamed(n, name) {
			return value
		}
	}
	return ""
}

// fields are the names, as they are written, and the values.
func (h Header) fields() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for rest := string(h); rest != ""; {
			var line string
			line, rest, _ = strings.Cut(rest, "\r\n")
			name, value, _ := strings.Cut(line, ":")
			if !yield(name, textproto.TrimString(value)) {
				return
			}
		}
	}
}

// linesOf writes down a header that net/http took in.
func linesOf(h http.Header) Header {
	var b strings.Builder
	_ = h.Write(&b) // to memory, which takes everything
	return Header(b.String())
}
