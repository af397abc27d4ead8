package standard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/waypost-gateway/waypost/internal/dialect"
)

// The form of data for WhatsApp events. It goes up only when something that
// receivers read changes its meaning; new members don't change it.
const version = "1"

// members are those of a JSON object, each with its own bytes. Names are matched
// exactly; of a name given twice the last counts.
type members map[string]json.RawMessage

// read gives the members of a JSON object; nil if it is anything else.
func read(raw []byte) members {
	var m members
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

// only gives the single element of a JSON list; nil if it has none or more.
func only(raw []byte) json.RawMessage {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || len(list) != 1 {
		return nil
	}
	return list[0]
}

// text gives a member that is text, or the digits of one that is a number.
func (m members) text(name string) string {
	raw := m[name]
	var text string
	switch {
	case len(raw) == 0:
	case raw[0] == '"':
		_ = json.Unmarshal(raw, &text) // it was read once already
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		text = string(raw)
	}
	return text
}

// without are the members with other names than these.
func (m members) without(names ...string) members {
	rest := maps.Clone(m)
	for _, name := range names {
		delete(rest, name)
	}
	return rest
}

// object writes a JSON object member by member. Values are written with the very
// bytes they are given with; a value without any leaves its member out.
type object struct{ written bytes.Buffer }

func (o *object) raw(name string, value []byte) {
	if len(value) == 0 {
		return
	}
	separator := byte(',')
	if o.written.Len() == 0 {
		separator = '{'
	}
	o.written.WriteByte(separator)
	o.written.Write(quote(name))
	o.written.WriteByte(':')
	o.written.Write(value)
}

// text leaves out what is empty, since that is not known.
func (o *object) text(name, value string) {
	if value != "" {
		o.raw(name, quote(value))
	}
}

// all writes members in the order of their names; without any, it leaves the
// object out.
func (o *object) all(name string, m members) {
	if len(m) == 0 {
		return
	}
	var inner object
	for _, name := range slices.Sorted(maps.Keys(m)) {
		inner.raw(name, m[name])
	}
	o.raw(name, inner.bytes())
}

func (o *object) empty() bool { return o.written.Len() == 0 }

func (o *object) bytes() []byte {
	if o.empty() {
		return []byte("{}")
	}
	o.written.WriteByte('}')
	return o.written.Bytes()
}

// quote writes text as JSON, with "<", ">" and "&" left as they are.
func quote(text string) []byte {
	quoted, err := dialect.EncodeJSON(text)
	if err != nil {
		panic(fmt.Sprintf("write text: %v", err)) // any text can be written
	}
	return quoted
}
