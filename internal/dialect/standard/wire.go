package standard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/waypost-gateway/waypost/internal/dialect"
)

// The form of data for WhatsApp events. It goes up only when something that
// receivers read changes its meaning; new members don't change it.
const version = "1"

// members are those of a JSON object in the order of the text, each with its own
// bytes. Names are matched exactly; of a name given twice the last counts.
type members []member

type member struct{ name, value []byte }

// read gives the members of a JSON object; nil if it is anything else. What is
// read was found to be JSON when it came in; if it is not any more, there are
// fewer members or none.
func read(raw []byte) members {
	if !isObject(raw) {
		return nil
	}
	m := make(members, 0, 6)
	for at := next(raw, 1); at < len(raw) && raw[at] == '"'; at = next(raw, at) {
		end := behind(raw, at)
		name := raw[at:end]
		at = next(raw, end)
		end = behind(raw, at)
		m = append(m, member{decode(name), raw[at:end]})
		at = end
	}
	return m
}

// only gives the single element of a JSON list; nil if it has none or more.
func only(raw []byte) []byte {
	elements := list(raw, 2)
	if len(elements) != 1 {
		return nil
	}
	return elements[0]
}

// list gives the elements of a JSON list, the first of them if there are more
// than most.
func list(raw []byte, most int) (elements [][]byte) {
	if len(raw) == 0 || raw[0] != '[' {
		return nil
	}
	for at := next(raw, 1); at < len(raw) && raw[at] != ']' && len(elements) < most; {
		end := behind(raw, at)
		elements = append(elements, raw[at:end])
		at = next(raw, end)
	}
	return elements
}

func isObject(raw []byte) bool { return len(raw) > 0 && raw[0] == '{' }

// next is where the next value or name begins, or the object or list ends.
func next(text []byte, at int) int {
	for at < len(text) && isBetween(text[at]) {
		at++
	}
	return at
}

func isBetween(c byte) bool {
	return c == ' ' || c == ',' || c == ':' || c == '\n' || c == '\r' || c == '\t'
}

// behind is the place behind the value that begins at a place.
func behind(text []byte, at int) int {
	depth := 0
	for at < len(text) {
		switch text[at] {
		case '"':
			at = behindString(text, at)
		case '{', '[':
			depth++
			at++
		case '}', ']':
			depth--
			at++
		default:
			for at++; at < len(text) && !isBetween(text[at]) && text[at] != '}' && text[at] != ']'; {
				at++
			}
		}
		if depth <= 0 {
			return at
		}
		at = next(text, at)
	}
	return len(text)
}

func behindString(text []byte, at int) int {
	for at++; at < len(text); at++ {
		quote := bytes.IndexByte(text[at:], '"')
		if quote < 0 {
			break
		}
		escape := bytes.IndexByte(text[at:at+quote], '\\')
		if escape < 0 {
			return at + quote + 1
		}
		at += escape + 1 // and what is escaped
	}
	return len(text)
}

// decode gives the text of a JSON string.
func decode(quoted []byte) []byte {
	if inner := quoted[1:max(1, len(quoted)-1)]; isPlain(inner) {
		return inner
	}
	var text string
	_ = json.Unmarshal(quoted, &text) // it was JSON when it came in
	return []byte(text)
}

// isPlain reports whether each byte of a text stands for itself in a JSON string,
// in whichever encoding.
func isPlain[T string | []byte](text T) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// get gives a member's value; nil if there is none.
func (m members) get(name string) []byte {
	for i := range slices.Backward(m) {
		if string(m[i].name) == name {
			return m[i].value
		}
	}
	return nil
}

// text gives a member that is text, or the digits of one that is a number.
func (m members) text(name string) string {
	raw := m.get(name)
	switch {
	case len(raw) == 0:
	case raw[0] == '"':
		return string(decode(raw))
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		return string(raw)
	}
	return ""
}

// without takes the members with these names out.
func (m members) without(names ...string) members {
	return slices.DeleteFunc(m, func(m member) bool {
		return slices.ContainsFunc(names, func(name string) bool { return string(m.name) == name })
	})
}

// object is a JSON object that is being written, member by member. Values are
// written with the very bytes they are given with; a value without any leaves
// its member out.
type object struct{ written []byte }

func newObject(size int) object { return object{append(make([]byte, 0, size), '{')} }

func (o *object) name(name string) {
	if last := o.written[len(o.written)-1]; last != '{' {
		o.written = append(o.written, ',')
	}
	o.written = append(appendQuoted(o.written, name), ':')
}

func (o *object) raw(name string, value []byte) {
	if len(value) > 0 {
		o.name(name)
		o.written = append(o.written, value...)
	}
}

// text leaves out what is empty, since that is not known.
func (o *object) text(name, value string) {
	if value != "" {
		o.name(name)
		o.written = appendQuoted(o.written, value)
	}
}

// open begins a member that is an object; what is written up to close is within.
func (o *object) open(name string) {
	o.name(name)
	o.written = append(o.written, '{')
}

func (o *object) close() { o.written = append(o.written, '}') }

// all writes members as an object, in the order of their names; without any, it
// leaves the object out.
func (o *object) all(name string, m members) {
	if len(m) == 0 {
		return
	}
	slices.SortStableFunc(m, func(a, b member) int { return bytes.Compare(a.name, b.name) })
	o.open(name)
	for i := range m {
		if i == len(m)-1 || !bytes.Equal(m[i].name, m[i+1].name) { // else a later one counts
			o.raw(string(m[i].name), m[i].value)
		}
	}
	o.close()
}

// appendQuoted writes text as JSON, with "<", ">" and "&" left as they are.
func appendQuoted(dst []byte, text string) []byte {
	if isPlain(text) {
		return append(append(append(dst, '"'), text...), '"')
	}
	quoted, err := dialect.EncodeJSON(text)
	if err != nil {
		panic(fmt.Sprintf("write text: %v", err)) // any text can be written
	}
	return append(dst, quoted...)
}
