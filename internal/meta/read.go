package meta

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Read reads the body of one item in the Cloud form; of several it reads the
// first change. The error says why there is none to read. What the change keeps
// as it came in shares its bytes with the body.
func Read(body []byte) (*Change, error) {
	d, err := parseDeep(body)
	if err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	defer d.release()
	entry := d.head(d.member(root, "entry"))
	n := d.head(d.member(entry, "changes"))
	if n == none {
		return nil, errors.New("read event: there is no change in it")
	}
	change := new(Change)
	readChange(d, n, reflect.ValueOf(change).Elem())
	change.Time = d.word(d.member(entry, "time"))
	return change, nil
}

// reader puts what a node says into a Go value, which is zero before.
type reader func(d *document, n int, into reflect.Value)

var (
	readChange = readers{}.of(reflect.TypeFor[Change]())
	readAnswer = readers{}.of(reflect.TypeFor[Answer]())
)

// readers makes readers for Go types, and keeps the layouts of structs it has met.
// They read by the tags, and with the outcome, of encoding/json, but from the index.
// Two things differ: names are matched exactly, and of two members with the same
// name the last counts alone. What has another type than the Go value is as good as
// absent.
type readers map[reflect.Type]layout

// layout is where the members of an object go in a struct, by name.
type layout map[string]place

type place struct {
	field int
	read  reader
}

func (r readers) of(t reflect.Type) reader {
	switch t {
	case reflect.TypeFor[Text]():
		return func(d *document, n int, into reflect.Value) { into.SetString(string(d.word(n))) }
	case reflect.TypeFor[json.RawMessage]():
		return func(d *document, n int, into reflect.Value) { into.SetBytes(slices.Clip(d.raw(n))) }
	case reflect.TypeFor[ErrorInfo]():
		return r.ofError()
	}
	switch t.Kind() {
	case reflect.String:
		return readString
	case reflect.Bool:
		return func(d *document, n int, into reflect.Value) { into.SetBool(d.begins(n, 't')) }
	case reflect.Struct:
		return r.ofStruct(t)
	case reflect.Slice:
		return r.ofList(t)
	case reflect.Pointer:
		return r.ofPointer(t)
	case reflect.Map:
		return r.ofMap(t)
	default:
		panic("no reader for " + t.String())
	}
}

func readString(d *document, n int, into reflect.Value) {
	if d.begins(n, '"') {
		into.SetString(string(d.word(n)))
	}
}

func (r readers) ofStruct(t reflect.Type) reader {
	places := r.layoutOf(t)
	return func(d *document, n int, into reflect.Value) {
		if !d.isObject(n) {
			return
		}
		for child := range d.children(n) {
			if p, ok := places[string(d.name(child))]; ok {
				field := into.Field(p.field)
				field.SetZero() // of what a member of the same name has said
				p.read(d, child, field)
			}
		}
	}
}

// layoutOf is the layout of a struct, which may be within itself.
func (r readers) layoutOf(t reflect.Type) layout {
	if known, ok := r[t]; ok {
		return known
	}
	places := layout{}
	r[t] = places
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "-" {
			places[name] = place{field: i, read: r.of(t.Field(i).Type)}
		}
	}
	return places
}

func (r readers) ofError() reader {
	members := r.ofStruct(reflect.TypeFor[ErrorInfo]())
	return func(d *document, n int, into reflect.Value) {
		into.Addr().Interface().(*ErrorInfo).Raw = slices.Clip(d.raw(n))
		members(d, n, into)
	}
}

func (r readers) ofList(t reflect.Type) reader {
	element := r.of(t.Elem())
	return func(d *document, n int, into reflect.Value) {
		if !d.isArray(n) {
			return
		}
		count := d.count(n)
		into.Set(reflect.MakeSlice(t, count, count))
		i := 0
		for child := range d.children(n) {
			element(d, child, into.Index(i))
			i++
		}
	}
}

func (r readers) ofPointer(t reflect.Type) reader {
	pointee := r.of(t.Elem())
	return func(d *document, n int, into reflect.Value) {
		if d.begins(n, 'n') {
			return
		}
		into.Set(reflect.New(t.Elem()))
		pointee(d, n, into.Elem())
	}
}

func (r readers) ofMap(t reflect.Type) reader {
	element := r.of(t.Elem())
	return func(d *document, n int, into reflect.Value) {
		if !d.isObject(n) {
			return
		}
		into.Set(reflect.MakeMap(t))
		value := reflect.New(t.Elem()).Elem()
		for child := range d.children(n) {
			element(d, child, value)
			into.SetMapIndex(reflect.ValueOf(decoded(d.name(child), d.rawName(child))), value)
		}
	}
}

// word is what a value says in one word; see Text.
func (d *document) word(n int) Text {
	if d.isArray(n) {
		if n = d.head(n); !d.begins(n, '"') {
			return ""
		}
	}
	if n == none {
		return ""
	}
	return Text(decoded(d.string(n), d.raw(n)))
}

// decoded is the text of a string, with what is not UTF-8 in it replaced.
func decoded(text, quoted []byte) string {
	if !utf8.Valid(text) {
		text = unescape(quoted)
	}
	return string(text)
}
