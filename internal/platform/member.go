package platform

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// member is one member of a JSON object, and where its value is.
type member struct {
	name       string
	value      json.RawMessage
	start, end int
}

var errNotObject = errors.New("read data: it is not an object")

// readMembers lists the members of an object in their order. Its errors quote
// nothing of the data.
func readMembers(data []byte) ([]member, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil, errNotObject
	}
	var members []member
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, errNotObject
		}
		m := member{}
		m.name, _ = name.(string) // the decoder takes nothing else here
		if decoder.Decode(&m.value) != nil {
			return nil, errNotObject
		}
		m.end = int(decoder.InputOffset())
		m.start = m.end - len(m.value)
		members = append(members, m)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errNotObject
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotObject
	}
	return members, nil
}

// replace gives the data with the values of some members replaced: those for
// which change gives a value. All other bytes stay as they are.
func replace(data []byte, change func(member) (json.RawMessage, error)) ([]byte, error) {
	members, err := readMembers(data)
	if err != nil {
		return nil, err
	}
	var replaced []byte
	from := 0
	for _, m := range members {
		value, err := change(m)
		if err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		replaced = append(append(replaced, data[from:m.start]...), value...)
		from = m.end
	}
	if from == 0 {
		return data, nil
	}
	return append(replaced, data[from:]...), nil
}
