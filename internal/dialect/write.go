package dialect

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Writer writes the JSON object of a hook member by member, in the very bytes that
// EncodeJSON gives for the same members, but without asking what types they have.
type Writer struct {
	text []byte
	err  error
}

// NewWriter begins an object. Up to size bytes it takes no more memory.
func NewWriter(size int) *Writer {
	return &Writer{text: append(make([]byte, 0, size), '{')}
}

// Finish ends the object and gives it. The error is that of a Value which JSON
// can't hold.
func (w *Writer) Finish() ([]byte, error) {
	if w.err != nil {
		return nil, w.err
	}
	w.Close()
	return w.text, nil
}

// Open begins a member that is an object: what is written up to Close is within.
func (w *Writer) Open(name string) {
	w.name(name)
	w.text = append(w.text, '{')
}

// Close ends what Open began.
func (w *Writer) Close() { w.text = append(w.text, '}') }

// Text writes a member that is text.
func (w *Writer) Text(name, value string) {
	w.name(name)
	w.text = appendText(w.text, value)
}

// Int writes a member that is a whole number.
func (w *Writer) Int(name string, value int64) {
	w.name(name)
	w.text = strconv.AppendInt(w.text, value, 10)
}

// Bool writes a member that is true or false.
func (w *Writer) Bool(name string, value bool) {
	w.name(name)
	w.text = strconv.AppendBool(w.text, value)
}

// Null writes a member that is null.
func (w *Writer) Null(name string) {
	w.name(name)
	w.text = append(w.text, "null"...)
}

// Raw writes a member that is JSON already, byte for byte.
func (w *Writer) Raw(name string, value []byte) {
	w.name(name)
	w.text = append(w.text, value...)
}

// Value writes a member as EncodeJSON has it.
func (w *Writer) Value(name string, value any) {
	text, err := EncodeJSON(value)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("write %s: %w", name, err)
	}
	w.Raw(name, text)
}

func (w *Writer) name(name string) {
	if w.text[len(w.text)-1] != '{' {
		w.text = append(w.text, ',')
	}
	w.text = append(appendText(w.text, name), ':')
}

// appendText writes text as EncodeJSON does.
func appendText(dst []byte, text string) []byte {
	dst = append(dst, '"')
	done := 0
	for at := plainLength(text); at < len(text); {
		if c := text[at]; c < utf8.RuneSelf && escapes[c] == "" {
			at++
			continue
		}
		escape, size := escapeOf(text[at:])
		if escape != "" {
			dst = append(append(dst, text[done:at]...), escape...)
			done = at + size
		}
		at += size
	}
	return append(append(dst, text[done:]...), '"')
}

// plainLength is how many bytes in front, in eights, are ASCII that stands for
// itself: what is left in the top bits tells of one that does not.
func plainLength(text string) int {
	const each, top = 0x0101010101010101, 0x8080808080808080
	at := 0
	for ; len(text)-at >= 8; at += 8 {
		eight := binary.LittleEndian.Uint64([]byte(text[at:]))
		quote, escape := eight^'"'*each, eight^'\\'*each
		if (eight|(eight-' '*each)|(quote-each)&^quote|(escape-each)&^escape)&top != 0 {
			break
		}
	}
	return at
}

// escapes are how ASCII is written that does not stand for itself.
var escapes = func() (of [utf8.RuneSelf]string) {
	const hex = "0123456789abcdef"
	for c := range byte(' ') {
		of[c] = `\u00` + string([]byte{hex[c>>4], hex[c&0xF]})
	}
	of['\b'], of['\f'], of['\n'], of['\r'], of['\t'] = `\b`, `\f`, `\n`, `\r`, `\t`
	of['"'], of['\\'] = `\"`, `\\`
	return of
}()

// escapeOf is how the character in front is written, empty if it stands for
// itself, and how long it is.
func escapeOf(text string) (escape string, size int) {
	if text[0] < utf8.RuneSelf {
		return escapes[text[0]], 1
	}
	r, size := utf8.DecodeRuneInString(text)
	switch {
	case r == utf8.RuneError && size == 1:
		return `\ufffd`, 1
	case r == '\u2028':
		return `\u2028`, size
	case r == '\u2029':
		return `\u2029`, size
	default:
		return "", size
	}
}
