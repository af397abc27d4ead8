package standard

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"sync"

	"github.com/waypost-gateway/waypost/internal/dialect"
)

// The form of data for WhatsApp events. It goes up only when something that
// receivers read changes its meaning; new members don't change it.
const version = "1"

// maxDepth is how deep the index of a document goes: to the single message or
// contact of a body in the Cloud form.
const maxDepth = 7

// document is a JSON text with an index of its values, made in one pass, so that
// each can be found and copied with its own bytes. What is read was found to be
// JSON when it came in; if it is not any more, there are fewer values or none.
type document struct {
	text  []byte
	nodes []node // in the order of the text; the whole of it is the first
}

// node is one value of a document, by places in the text.
type node struct {
	name, nameEnd int32 // of a member, with the quotes; 0: not a member
	start, end    int32
	after         int32 // the first node that is not within this one
	escaped       bool  // the name has escapes
}

// Nodes go by their number in document.nodes.
const (
	root = 0
	none = -1 // there is no such value
)

var documents = sync.Pool{New: func() any { return new(document) }}

// maxKept is the largest index that is kept for the next text.
const maxKept = 1 << 10

// read indexes a text, which is the caller's until release.
func read(text []byte) *document {
	d := documents.Get().(*document)
	d.text, d.nodes = text, d.nodes[:0]
	d.index(next(text, 0), 0)
	return d
}

func (d *document) release() {
	if d.text = nil; cap(d.nodes) <= maxKept {
		documents.Put(d)
	}
}

// index adds the value that begins at a place and gives the place behind it.
func (d *document) index(at, depth int) (end int) {
	n := len(d.nodes)
	d.nodes = append(d.nodes, node{start: int32(at)})
	switch {
	case depth == maxDepth:
		end = behind(d.text, at)
	case at < len(d.text) && d.text[at] == '{':
		end = d.indexMembers(at+1, depth+1)
	case at < len(d.text) && d.text[at] == '[':
		end = d.indexElements(at+1, depth+1)
	default:
		end = behind(d.text, at)
	}
	d.nodes[n].end, d.nodes[n].after = int32(end), int32(len(d.nodes))
	return end
}

func (d *document) indexMembers(at, depth int) (end int) {
	for at = next(d.text, at); at < len(d.text) && d.text[at] == '"'; at = next(d.text, at) {
		name, nameEnd, n := at, behindString(d.text, at), len(d.nodes)
		at = d.index(next(d.text, nameEnd), depth)
		member := &d.nodes[n]
		member.name, member.nameEnd = int32(name), int32(nameEnd)
		member.escaped = bytes.IndexByte(d.text[name:nameEnd], '\\') >= 0
	}
	return min(at+1, len(d.text))
}

func (d *document) indexElements(at, depth int) (end int) {
	for at = next(d.text, at); at < len(d.text) && d.text[at] != ']'; at = next(d.text, at) {
		at = d.index(at, depth)
	}
	return min(at+1, len(d.text))
}

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

// raw gives a value's own bytes; nil if there is none.
func (d *document) raw(n int) []byte {
	if n == none {
		return nil
	}
	return d.text[d.nodes[n].start:d.nodes[n].end]
}

// begins tells what kind of value it is.
func (d *document) begins(n int, c byte) bool {
	raw := d.raw(n)
	return len(raw) > 0 && raw[0] == c
}

func (d *document) isObject(n int) bool { return d.begins(n, '{') }

// children are the members of an object or the elements of a list.
func (d *document) children(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		if n == none {
			return
		}
		for child, after := n+1, int(d.nodes[n].after); child < after; child = int(d.nodes[child].after) {
			if !yield(child) {
				return
			}
		}
	}
}

// only is the single element of a list; none if it has none or more.
func (d *document) only(n int) int {
	if !d.begins(n, '[') {
		return none
	}
	first, after := n+1, d.nodes[n].after
	if first == int(after) || d.nodes[first].after != after {
		return none
	}
	return first
}

// name is that of a member.
func (d *document) name(n int) []byte {
	m := &d.nodes[n]
	if m.escaped {
		return decode(d.text[m.name:m.nameEnd])
	}
	return d.text[m.name+1 : max(m.name+1, m.nameEnd-1)]
}

// get is a member of an object by its exact name. Of one given twice the last counts.
func (d *document) get(n int, name string) int {
	found := none
	if d.isObject(n) {
		for member := range d.children(n) {
			if string(d.name(member)) == name {
				found = member
			}
		}
	}
	return found
}

// word gives a member that is text, or the digits of one that is a number.
func (d *document) word(n int, name string) string {
	member := d.get(n, name)
	raw := d.raw(member)
	switch {
	case len(raw) == 0:
	case raw[0] == '"':
		return string(decode(raw))
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		return string(raw)
	}
	return ""
}

// without gives the members of an object but those with these names.
func (d *document) without(n int, names ...string) (rest []int) {
	if !d.isObject(n) {
		return nil
	}
	for member := range d.children(n) {
		if !slices.Contains(names, string(d.name(member))) {
			rest = append(rest, member)
		}
	}
	return rest
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

// isPlain reports whether each byte stands for itself in a JSON string, in
// whichever encoding.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// object is a hook that is being written. Its own ways to write a member leave it
// out when there is nothing to tell.
type object struct{ *dialect.Writer }

func (o object) text(name, value string) {
	if value != "" {
		o.Text(name, value)
	}
}

func (o object) raw(name string, value []byte) {
	if len(value) > 0 {
		o.Raw(name, value)
	}
}

// all writes members as an object, in the order of their names; without any, it
// leaves the object out.
func (o object) all(name string, d *document, members []int) {
	if len(members) == 0 {
		return
	}
	slices.SortStableFunc(members, func(a, b int) int { return bytes.Compare(d.name(a), d.name(b)) })
	o.Open(name)
	for i, member := range members {
		if i == len(members)-1 || !bytes.Equal(d.name(member), d.name(members[i+1])) { // else a later one counts
			o.raw(string(d.name(member)), d.raw(member))
		}
	}
	o.Close()
}
