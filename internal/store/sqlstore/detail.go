package sqlstore

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// AppendDetail appends an attempt's detail as it is stored: JSON, whatever bytes
// the receiver answered with. It is what encoding/json makes of it, without its
// looking at each field anew for each request.
func AppendDetail(b []byte, d *waypost.AttemptDetail) []byte {
	o := object{append(b, '{')}
	o.text("error", d.Error)
	o.text("address", d.Address)
	if d.Reused {
		o.name("reused")
		o.b = append(o.b, "true"...)
	}
	if p := d.Phases; p != (waypost.Phases{}) {
		o.name("phases")
		phases := object{append(o.b, '{')}
		phases.number("connected_ms", p.Connected)
		phases.number("sent_ms", p.Sent)
		phases.number("first_byte_ms", p.FirstByte)
		o.b = append(phases.b, '}')
	}
	if len(d.Headers) > 0 {
		o.name("headers")
		headers := object{append(o.b, '{')}
		for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
			headers.name(name)
			headers.b = appendQuoted(headers.b, d.Headers[name])
		}
		o.b = append(headers.b, '}')
	}
	o.text("response", d.Response)
	return append(o.b, '}')
}

// object is a JSON object that has been begun.
type object struct{ b []byte }

func (o *object) name(name string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(appendQuoted(o.b, name), ':')
}

func (o *object) text(name, value string) {
	if value != "" {
		o.name(name)
		o.b = appendQuoted(o.b, value)
	}
}

func (o *object) number(name string, value float64) {
	switch size := math.Abs(value); {
	case size >= 1e-6 && size < 1e21: // in this range JSON has no exponent
		o.name(name)
		o.b = strconv.AppendFloat(o.b, value, 'f', -1, 64)
	case size > 0:
		if text, err := json.Marshal(value); err == nil { // not of what is no number
			o.name(name)
			o.b = append(o.b, text...)
		}
	}
}

// appendQuoted leaves to encoding/json what it may write in another way.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string never fails
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
