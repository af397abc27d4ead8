package emulator

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// object is a JSON object that keeps its members in the order they were given,
// as the bytes Meta sends do.
type object []member

type member struct {
	key   string
	value any
}

// array is a JSON array.
type array []any

// write appends value the way Meta's servers write JSON: no spaces, everything
// outside ASCII as \u escapes with lower-case digits (surrogate pairs above the
// basic plane), and slashes escaped. The signature covers these very bytes.
func write(out []byte, value any) []byte {
	switch value := value.(type) {
	case nil:
		return append(out, "null"...)
	case string:
		return writeString(out, value)
	case bool:
		return strconv.AppendBool(out, value)
	case int:
		return strconv.AppendInt(out, int64(value), 10)
	case int64:
		return strconv.AppendInt(out, value, 10)
	case json.Number:
		return append(out, value...)
	case object:
		return writeObject(out, value)
	case array:
		return writeArray(out, value)
	default:
		panic(fmt.Sprintf("emulator: no JSON form for %T", value))
	}
}

func writeObject(out []byte, members object) []byte {
	out = append(out, '{')
	for i, m := range members {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(writeString(out, m.key), ':')
		out = write(out, m.value)
	}
	return append(out, '}')
}

func writeArray(out []byte, values array) []byte {
	out = append(out, '[')
	for i, value := range values {
		if i > 0 {
			out = append(out, ',')
		}
		out = write(out, value)
	}
	return append(out, ']')
}

var shortEscapes = map[rune]string{
	'"': `\"`, '\\': `\\`, '/': `\/`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`,
}

func writeString(out []byte, text string) []byte {
	out = append(out, '"')
	for _, r := range text {
		short, escaped := shortEscapes[r]
		switch {
		case escaped:
			out = append(out, short...)
		case r >= ' ' && r < utf8.RuneSelf:
			out = append(out, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return append(out, '"')
}
