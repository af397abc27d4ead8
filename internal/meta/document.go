package meta

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"slices"
	"sync"
)

const (
	// maxDepth bounds the nesting that is looked into. Meta's deepest body has
	// about fifteen levels, and many a receiver's parser gives up at a few
	// hundred.
	maxDepth = 256
	// maxNesting bounds the nesting of what counts as JSON at all, as it does in
	// encoding/json.
	maxNesting = 10_000
	// A body may have one value in leastSpread bytes, and some more: what Meta
	// sends has one in twenty, and the index of one in two would take many times
	// the body's size.
	leastSpread = 8
	spareValues = 1 << 16
)

// document is a JSON text with an index of every value in it. The text is
// scanned once; after that, finding a member is a walk over the index, and
// every value can be copied with the very bytes it had.
type document struct {
	text  []byte
	nodes []node // in the order of the text; nodes[0] is the whole of it
	most  int    // nodes that there may be
	deep  bool   // there are values that are not in the index: see node.deep
}

// node is one value of a document.
type node struct {
	start, end int32 // of the value in the text
	key        int32 // start of its member name, behind the quote; 0: not a member
	keyEnd     int32
	after      int32 // the first node that does not lie within this one
	keyEscaped bool  // the name has escapes
	escaped    bool  // the value is a string with escapes
	deep       bool  // what lies within this one is beyond maxDepth, and has no nodes
}

// Nodes go by their number in document.nodes.
const (
	root = 0
	none = -1 // what looking for a node gives when there is none
)

var documents = sync.Pool{New: func() any { return new(document) }}

// maxKept is the largest index that is kept for the next body.
const maxKept = 1 << 14

// parse indexes a JSON text that is nowhere nested deeper than maxDepth. The
// document is the caller's until release.
func parse(text []byte) (*document, error) {
	d, err := parseDeep(text)
	if err == nil && d.deep {
		d.release()
		return nil, errTooDeep
	}
	return d, err
}

var (
	errTooDeep  = fmt.Errorf("read JSON: it is nested deeper than %d levels", maxDepth)
	errTooDense = errors.New("read JSON: it holds too many values for its size")
)

// parseDeep indexes a JSON text down to maxDepth.
func parseDeep(text []byte) (*document, error) {
	if len(text) > math.MaxInt32 {
		return nil, fmt.Errorf("read JSON: %d bytes are too many", len(text))
	}
	d := documents.Get().(*document)
	d.text, d.nodes, d.deep = text, d.nodes[:0], false
	d.most = spareValues + len(text)/leastSpread
	d.provide()
	at := d.scan(d.space(0), 0)
	if at >= 0 {
		if at = d.space(at); at != len(text) {
			at = broken(at)
		}
	}
	if at < 0 {
		dense := len(d.nodes) == d.most
		d.release()
		if dense {
			return nil, errTooDense
		}
		return nil, fmt.Errorf("read JSON: byte %d does not fit", -at-1)
	}
	return d, nil
}

// provide makes room for the index of a large text at once, where growing would
// take several times as much: there are at most as many values as there are
// commas and openings.
func (d *document) provide() {
	if len(d.text) < maxKept {
		return
	}
	values := 1
	for _, mark := range []string{",", "{", "["} {
		values += bytes.Count(d.text, []byte(mark))
	}
	d.nodes = slices.Grow(d.nodes, min(values, d.most))
}

// release gives the index back. What was copied or cut out of the text stays.
func (d *document) release() {
	if d.text = nil; cap(d.nodes) <= maxKept {
		documents.Put(d)
	}
}

// broken marks the place where a text stops being JSON; all such marks are
// negative, all places where it goes on are not.
func broken(at int) int { return -at - 1 }

// scan indexes the value at a place and gives the place behind it.
func (d *document) scan(at, depth int) int {
	if at >= len(d.text) || depth > maxNesting || len(d.nodes) == d.most {
		return broken(at)
	}
	index := len(d.nodes)
	d.nodes = append(d.nodes, node{})
	d.nodes[index].start = int32(at)
	var end int
	switch d.text[at] {
	case '{':
		end = d.scanObject(at+1, depth+1)
	case '[':
		end = d.scanArray(at+1, depth+1)
	case '"':
		end, d.nodes[index].escaped = d.scanString(at + 1)
	case 't':
		end = d.scanWord(at, "true")
	case 'f':
		end = d.scanWord(at, "false")
	case 'n':
		end = d.scanWord(at, "null")
	default:
		end = d.scanNumber(at)
	}
	if depth == maxDepth {
		d.hide(index)
	}
	d.nodes[index].end, d.nodes[index].after = int32(end), int32(len(d.nodes))
	return end
}

// hide takes what lies within a value out of the index.
func (d *document) hide(n int) {
	if len(d.nodes) > n+1 {
		d.nodes = d.nodes[:n+1]
		d.nodes[n].deep, d.deep = true, true
	}
}

// isDeep reports whether a value has parts that lie too deep to be looked at.
func (d *document) isDeep(n int) bool {
	if !d.deep || n == none {
		return false
	}
	return slices.ContainsFunc(d.nodes[n:d.nodes[n].after], func(n node) bool { return n.deep })
}

func (d *document) scanObject(at, depth int) int {
	at = d.space(at)
	if d.is(at, '}') {
		return at + 1
	}
	for {
		if !d.is(at, '"') {
			return broken(at)
		}
		key, index := at+1, len(d.nodes)
		keyEnd, escaped := d.scanString(key)
		if keyEnd < 0 {
			return keyEnd
		}
		if at = d.space(keyEnd); !d.is(at, ':') {
			return broken(at)
		}
		if at = d.scan(d.space(at+1), depth); at < 0 {
			return at
		}
		n := &d.nodes[index]
		n.key, n.keyEnd, n.keyEscaped = int32(key), int32(keyEnd-1), escaped
		switch at = d.space(at); {
		case d.is(at, ','):
			at = d.space(at + 1)
		case d.is(at, '}'):
			return at + 1
		default:
			return broken(at)
		}
	}
}

func (d *document) scanArray(at, depth int) int {
	at = d.space(at)
	if d.is(at, ']') {
		return at + 1
	}
	for {
		if at = d.scan(at, depth); at < 0 {
			return at
		}
		switch at = d.space(at); {
		case d.is(at, ','):
			at = d.space(at + 1)
		case d.is(at, ']'):
			return at + 1
		default:
			return broken(at)
		}
	}
}

// plain says of a byte that it stands for itself within a string. Bytes beyond
// ASCII are not looked at: what Meta signed is passed on even if it is not UTF-8.
var plain = func() (table [256]bool) {
	for c := 0x20; c < len(table); c++ {
		table[c] = c != '"' && c != '\\'
	}
	return table
}()

// scanString gives the place behind the closing quote.
func (d *document) scanString(at int) (end int, escaped bool) {
	text := d.text
	for at < len(text) {
		if len(text)-at >= 8 {
			marks := unplain(binary.LittleEndian.Uint64(text[at:]))
			if marks == 0 {
				at += 8
				continue
			}
			at += bits.TrailingZeros64(marks) / 8
		}
		switch c := text[at]; {
		case plain[c]:
			at++
		case c == '"':
			return at + 1, escaped
		case c == '\\':
			escaped = true
			length := escapeLength(text[at:])
			if length == 0 {
				return broken(at), true
			}
			at += length
		default:
			return broken(at), escaped
		}
	}
	return broken(at), escaped
}

// unplain looks at eight bytes of a string at once. The lowest bit that is set
// is in the first byte that does not stand for itself; none is set if all do.
func unplain(eight uint64) uint64 {
	const each, top = 0x0101010101010101, 0x8080808080808080
	quote, escape := eight^'"'*each, eight^'\\'*each
	return ((eight-' '*each)&^eight | (quote-each)&^quote | (escape-each)&^escape) & top
}

// escapeLength is how many bytes the escape in front takes; 0 if it is none.
func escapeLength(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(text) >= 6 && isHex(text[2]) && isHex(text[3]) && isHex(text[4]) && isHex(text[5]) {
			return 6
		}
	}
	return 0
}

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (d *document) scanWord(at int, word string) int {
	if end := at + len(word); end <= len(d.text) && string(d.text[at:end]) == word {
		return end
	}
	return broken(at)
}

func (d *document) scanNumber(at int) int {
	if d.is(at, '-') {
		at++
	}
	if d.is(at, '0') {
		at++
	} else if at = d.digits(at); at < 0 {
		return at
	}
	if d.is(at, '.') {
		if at = d.digits(at + 1); at < 0 {
			return at
		}
	}
	if d.is(at, 'e') || d.is(at, 'E') {
		at++
		if d.is(at, '+') || d.is(at, '-') {
			at++
		}
		at = d.digits(at)
	}
	return at
}

// digits passes over one digit or more.
func (d *document) digits(at int) int {
	start := at
	for at < len(d.text) && isDigit(d.text[at]) {
		at++
	}
	if at == start {
		return broken(at)
	}
	return at
}

func (d *document) is(at int, c byte) bool { return at < len(d.text) && d.text[at] == c }

func (d *document) space(at int) int {
	for at < len(d.text) {
		switch d.text[at] {
		case ' ', '\n', '\r', '\t':
			at++
		default:
			return at
		}
	}
	return at
}

// raw is the value's own bytes.
func (d *document) raw(n int) []byte { return d.text[d.nodes[n].start:d.nodes[n].end] }

// rawName is the name of a member in the bytes it had, quotes included.
func (d *document) rawName(n int) []byte { return d.text[d.nodes[n].key-1 : d.nodes[n].keyEnd+1] }

// name is the name of a member, decoded; what is no member has an empty one.
func (d *document) name(n int) []byte {
	if d.nodes[n].keyEscaped {
		return unescape(d.rawName(n))
	}
	return d.text[d.nodes[n].key:d.nodes[n].keyEnd]
}

// string is the decoded text of a string, or the digits of a number; nil for
// anything else.
func (d *document) string(n int) []byte {
	if n == none {
		return nil
	}
	switch raw := d.raw(n); {
	case d.nodes[n].escaped:
		return unescape(raw)
	case raw[0] == '"':
		return raw[1 : len(raw)-1]
	case raw[0] == '-' || isDigit(raw[0]):
		return raw
	default:
		return nil
	}
}

// unescape decodes a string that is known to be well formed.
func unescape(quoted []byte) []byte {
	var text string
	if json.Unmarshal(quoted, &text) != nil {
		return nil
	}
	return []byte(text)
}

func (d *document) isObject(n int) bool { return d.begins(n, '{') }

func (d *document) isArray(n int) bool { return d.begins(n, '[') }

func (d *document) begins(n int, c byte) bool { return n != none && d.text[d.nodes[n].start] == c }

// children are the members of an object or the elements of an array; other
// values have none.
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

// isEmpty reports whether an object or array holds nothing.
func (d *document) isEmpty(n int) bool { return int(d.nodes[n].after) == n+1 }

// count is how many children there are.
func (d *document) count(n int) int {
	count := 0
	for range d.children(n) {
		count++
	}
	return count
}

// head is the first element of an array.
func (d *document) head(n int) int {
	if !d.isArray(n) || d.isEmpty(n) {
		return none
	}
	return n + 1
}

// only is the element of an array that has exactly one.
func (d *document) only(n int) int {
	head := d.head(n)
	if head == none || d.nodes[head].after != d.nodes[n].after {
		return none
	}
	return head
}

// member finds a member by name, through objects within objects when several
// names are given. Of members with the same name the last counts, as it does
// for nearly every parser a receiver may use.
func (d *document) member(n int, path ...string) int {
	for _, name := range path {
		if !d.isObject(n) {
			return none
		}
		found := none
		for child := range d.children(n) {
			if string(d.name(child)) == name {
				found = child
			}
		}
		n = found
	}
	return n
}

// appendName begins a member of an object that is being written.
func (d *document) appendName(dst []byte, n int) []byte {
	return append(append(separate(dst), d.rawName(n)...), ':')
}

// appendMember copies a member as it is.
func (d *document) appendMember(dst []byte, n int) []byte {
	return append(d.appendName(dst, n), d.raw(n)...)
}

// appendElement copies a value into an array that is being written.
func (d *document) appendElement(dst []byte, n int) []byte {
	return append(separate(dst), d.raw(n)...)
}

// separate puts a comma unless the object or array has only just begun.
func separate(dst []byte) []byte {
	if last := dst[len(dst)-1]; last == '{' || last == '[' {
		return dst
	}
	return append(dst, ',')
}
