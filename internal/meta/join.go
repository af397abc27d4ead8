package meta

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Join puts webhook bodies together into one, the opposite of Split: entries
// that differ in their changes only become one, and so do changes of the field
// messages that differ in their messages, statuses, errors and contacts only.
// A contact that several of them have is written once; nothing else is dropped.
func Join(items ...[]byte) ([]byte, error) {
	j := joiner{entries: map[string]*joinedEntry{}}
	for i, item := range items {
		if err := j.add(item); err != nil {
			return nil, fmt.Errorf("join webhook %d: %w", i, err)
		}
	}
	if len(items) == 0 {
		return nil, errors.New("join webhooks: there are none")
	}
	return j.append(nil), nil
}

// joiner holds one request in the making. The members of an object that stay
// as they are, are its frame: what tells whether two can become one.
type joiner struct {
	frame   []byte
	order   []*joinedEntry
	entries map[string]*joinedEntry // by frame
}

type joinedEntry struct {
	raw     []byte // an entry that can't be joined
	frame   []byte
	order   []*joinedChange
	changes map[string]*joinedChange // by frame
}

type joinedChange struct {
	raw      []byte // a change that can't be joined
	frame    []byte // of the change
	value    []byte // frame of its value
	lists    [noList][][]byte
	contacts [][]byte
	known    map[string]bool // the contacts, by their bytes
}

func (j *joiner) add(body []byte) error {
	d, err := parse(body)
	if err != nil {
		return err
	}
	defer d.release()
	entries := d.member(root, "entry")
	if !d.isObject(root) || !d.isArray(entries) {
		return errors.New("it has no entry")
	}
	frame := d.frame(root, func(member int) bool { return member == entries })
	if j.frame == nil {
		j.frame = frame
	}
	if !bytes.Equal(j.frame, frame) {
		return errors.New("it is about another object")
	}
	for entry := range d.children(entries) {
		j.addEntry(d, entry)
	}
	return nil
}

func (j *joiner) addEntry(d *document, entry int) {
	changes := d.member(entry, "changes")
	if !d.isArray(changes) || d.isEmpty(changes) {
		j.order = append(j.order, &joinedEntry{raw: d.raw(entry)})
		return
	}
	frame := d.frame(entry, func(member int) bool { return member == changes })
	e := j.entries[string(frame)]
	if e == nil {
		e = &joinedEntry{frame: frame, changes: map[string]*joinedChange{}}
		j.entries[string(frame)] = e
		j.order = append(j.order, e)
	}
	for change := range d.children(changes) {
		e.add(d, change)
	}
}

func (e *joinedEntry) add(d *document, change int) {
	value := d.member(change, "value")
	field := d.string(d.member(change, "field"))
	if !d.joins(field, value) {
		e.order = append(e.order, &joinedChange{raw: d.raw(change)})
		return
	}
	frame := d.frame(change, func(member int) bool { return member == value })
	valueFrame := d.frame(value, func(member int) bool { return d.isShared(field, member) })
	key := string(frame) + "\n" + string(valueFrame)
	c := e.changes[key]
	if c == nil {
		c = &joinedChange{frame: frame, value: valueFrame, known: map[string]bool{}}
		e.changes[key] = c
		e.order = append(e.order, c)
	}
	c.add(d, field, value)
}

// joins reports whether a value has anything to join, and each of its lists
// once.
func (d *document) joins(field []byte, value int) bool {
	if !hasLists(field) || !d.isObject(value) {
		return false
	}
	var seen [noList + 1]int
	for member := range d.children(value) {
		if d.isShared(field, member) {
			seen[listOf(field, d.name(member))]++
		}
	}
	lists := seen[:noList]
	return slices.Max(lists) == 1 && seen[noList] <= 1
}

// isShared reports whether a member of a value is a list that can be joined.
func (d *document) isShared(field []byte, member int) bool {
	name := d.name(member)
	return (listOf(field, name) != noList || string(name) == "contacts") && d.isArray(member) && !d.isEmpty(member)
}

func (c *joinedChange) add(d *document, field []byte, value int) {
	for member := range d.children(value) {
		if !d.isShared(field, member) {
			continue
		}
		list := listOf(field, d.name(member))
		for element := range d.children(member) {
			switch raw := d.raw(element); {
			case list != noList:
				c.lists[list] = append(c.lists[list], raw)
			case !c.known[string(raw)]:
				c.known[string(raw)] = true
				c.contacts = append(c.contacts, raw)
			}
		}
	}
}

// frame writes the members of an object, except some.
func (d *document) frame(n int, except func(member int) bool) []byte {
	frame := []byte{'{'}
	for member := range d.children(n) {
		if !except(member) {
			frame = d.appendMember(frame, member)
		}
	}
	return frame
}

func (j *joiner) append(dst []byte) []byte {
	dst = append(separate(append(dst, j.frame...)), `"entry":[`...)
	for _, e := range j.order {
		dst = separate(dst)
		if e.raw != nil {
			dst = append(dst, e.raw...)
			continue
		}
		dst = append(separate(append(dst, e.frame...)), `"changes":[`...)
		for _, c := range e.order {
			dst = c.append(separate(dst))
		}
		dst = append(dst, "]}"...)
	}
	return append(dst, "]}"...)
}

func (c *joinedChange) append(dst []byte) []byte {
	if c.raw != nil {
		return append(dst, c.raw...)
	}
	dst = append(separate(append(dst, c.frame...)), `"value":`...)
	dst = append(dst, c.value...)
	dst = appendList(dst, "contacts", c.contacts)
	dst = appendList(dst, "messages", c.lists[messages])
	dst = appendList(dst, "statuses", c.lists[statuses])
	dst = appendList(dst, "errors", c.lists[errorList])
	dst = appendList(dst, "message_echoes", c.lists[echoes])
	return append(dst, "}}"...)
}

func appendList(dst []byte, name string, elements [][]byte) []byte {
	if len(elements) == 0 {
		return dst
	}
	dst = append(append(append(separate(dst), '"'), name...), `":[`...)
	for _, element := range elements {
		dst = append(separate(dst), element...)
	}
	return append(dst, ']')
}
