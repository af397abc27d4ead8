package meta

import "encoding/json"

// Text is what Meta says in one word. It reads a JSON string, the digits of a
// number, and the first of a list of strings, since Meta is not constant in
// which of them it sends. All else, null included, is "".
type Text string

// TextOf reads a member that was kept as it came in; "" if it is absent.
func TextOf(raw json.RawMessage) Text {
	var t Text
	_ = json.Unmarshal(raw, &t) // absent
	return t
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(raw []byte) error {
	*t = ""
	switch {
	case raw[0] == '"':
		return json.Unmarshal(raw, (*string)(t))
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		*t = Text(raw)
	case raw[0] == '[':
		var list []json.RawMessage
		if err := json.Unmarshal(raw, &list); err == nil && len(list) > 0 && list[0][0] == '"' {
			return json.Unmarshal(list[0], (*string)(t))
		}
	}
	return nil
}
