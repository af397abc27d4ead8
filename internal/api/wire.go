package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// placeholder stands where a secret is set but not shown.
var placeholder = waypost.Secret("").String()

// schemaName names the schemas after the types, which end in View where they
// show something.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	return strings.ReplaceAll(name, "View", "")
}

// jsonFormat is JSON that does not fail on numbers which are only passed on, and
// fails on text that is not UTF-8 rather than mend it.
var jsonFormat = huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: unmarshal}

// unmarshal is json.Unmarshal, but a number too large for a float64 is no error
// where the target is any: that is the copy made for checking members.
func unmarshal(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("it must be UTF-8")
	}
	err := json.Unmarshal(data, v)
	target, untyped := v.(*any)
	var tooLarge *json.UnmarshalTypeError
	if !untyped || !errors.As(err, &tooLarge) {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(target); err != nil {
		return err
	}
	*target = floats(*target)
	return nil
}

func floats(value any) any {
	switch v := value.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return math.MaxFloat64
		}
		return f
	case map[string]any:
		for name, member := range v {
			v[name] = floats(member)
		}
	case []any:
		for i, item := range v {
			v[i] = floats(item)
		}
	}
	return value
}

// moment is a time as the API writes it.
type moment time.Time

// Schema implements huma.SchemaProvider.
func (moment) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Description: "RFC 3339, UTC, milliseconds"}
}

// MarshalJSON implements json.Marshaler.
func (m moment) MarshalJSON() ([]byte, error) {
	return []byte(time.Time(m).UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// IsZero is for omitzero.
func (m moment) IsZero() bool { return time.Time(m).IsZero() }

// showDuration writes a duration in its shortest form.
func showDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// showID writes an id, or nothing for none.
func showID[ID interface {
	~int64
	String() string
}](id ID,
) string {
	if id == 0 {
		return ""
	}
	return id.String()
}

// input collects what is wrong with a request while it is read.
type input struct{ faults []waypost.FieldError }

func (in *input) refuse(field, message string) {
	in.faults = append(in.faults, waypost.FieldError{Field: field, Message: message})
}

func (in *input) err() error {
	if len(in.faults) == 0 {
		return nil
	}
	return waypost.Invalid(in.faults...)
}

// filterID reads an id that only narrows a list; empty: none.
func filterID[ID comparable](in *input, field, text string, parse func(string) (ID, error)) ID {
	var none ID
	if text == "" {
		return none
	}
	id, err := parse(text)
	if err != nil {
		in.refuse(field, "is not such an id")
		return none
	}
	return id
}

// plainText reads a text that only narrows a list.
func (in *input) plainText(field, text string) string {
	if !settings.IsPlainText(text) {
		in.refuse(field, "must be UTF-8 without control characters")
	}
	return text
}

// refID reads an id in a body that names something which must exist; empty: none.
func refID[ID comparable](field, text string, parse func(string) (ID, error)) (ID, error) {
	var none ID
	if text == "" {
		return none, nil
	}
	id, err := parse(text)
	if err != nil {
		return none, &waypost.Error{
			Kind:    waypost.KindNotFound,
			Message: err.Error(),
			Fields:  []waypost.FieldError{{Field: field, Message: "is not known"}},
		}
	}
	return id, nil
}

// duration reads a duration, if there is one.
func (in *input) duration(field string, text *string) *time.Duration {
	if text == nil {
		return nil
	}
	d, err := time.ParseDuration(*text)
	if err != nil {
		in.refuse(field, "must be a duration such as 5s, 5m or 1h30m")
		return nil
	}
	return &d
}

// Paging is part of every list.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"how many to list at most"`
	Cursor string `query:"cursor" doc:"next of the page before; empty: from the newest"`
}

// pageView is one page of a list, newest first.
type pageView[T any] struct {
	Data []T    `json:"data"`
	Next string `json:"next" doc:"cursor of the next page; empty: this is the last"`
}

// page cuts one page out of rows that are sorted newest first and shows it.
func page[Row, View any, ID interface {
	~int64
	String() string
}](p Paging, rows []Row, id func(Row) ID, parse func(string) (ID, error), show func(Row) View,
) (*answer[pageView[View]], error) {
	var in input
	before := filterID(&in, "cursor", p.Cursor, parse)
	if err := in.err(); err != nil {
		return nil, err
	}
	out := &answer[pageView[View]]{Body: pageView[View]{Data: []View{}}}
	var last ID
	for _, row := range rows {
		if before != 0 && id(row) >= before {
			continue
		}
		if len(out.Body.Data) == p.Limit {
			out.Body.Next = last.String()
			break
		}
		out.Body.Data = append(out.Body.Data, show(row))
		last = id(row)
	}
	return out, nil
}
