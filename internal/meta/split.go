package meta

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// maxItems is ten times what Meta puts into a request at most.
	maxItems = 10_000
	// maxGrowth bounds what the items of one request may take together, as a
	// multiple of its size; growthFloor is allowed in any case. A thousand
	// statuses in one value come to four times their request.
	maxGrowth   = 8
	growthFloor = 1 << 20
)

var (
	errTooMany = errors.New("read webhook: it holds too many items")
	errTooBig  = errors.New("read webhook: taken apart it would be many times its size")
)

// Split takes a webhook body apart. An error means that nothing in it was
// understood; there is nothing to do then but to keep it whole. The items own
// their bodies, except that the only item of a request has the request's own
// bytes.
func Split(body []byte) ([]Item, error) {
	d, err := parseDeep(body)
	if err != nil {
		return nil, fmt.Errorf("read webhook: %w", err)
	}
	s := splitters.Get().(*splitter)
	s.document, s.budget = d, growthFloor+maxGrowth*len(body)
	defer s.release()
	if err := s.request(); err != nil {
		return nil, err
	}
	items := make([]Item, len(s.parts))
	for i := range s.parts {
		s.describe(&items[i], &s.parts[i])
	}
	if len(items) == 1 {
		items[0].Body = body
		return items, nil
	}
	var envelope []byte
	for i := range s.parts {
		envelope = s.appendRequest(envelope[:0], &s.parts[i])
		if !s.spend(len(envelope)) {
			return nil, errTooBig
		}
		items[i].Body = bytes.Clone(envelope)
	}
	return items, nil
}

// splitter finds the parts of one request.
type splitter struct {
	*document
	arrays  int // of entries; one, as a rule
	changes []change
	parts   []part
	budget  int // bytes that the items may still take
}

var splitters = sync.Pool{New: func() any { return new(splitter) }}

// maxKeptParts is the longest list of parts, or of changes, that is kept for the
// next request.
const maxKeptParts = 64

// release gives the memory back that no item needs.
func (s *splitter) release() {
	s.document.release()
	if cap(s.parts) > maxKeptParts || cap(s.changes) > maxKeptParts {
		return
	}
	clear(s.parts)
	clear(s.changes)
	*s = splitter{parts: s.parts[:0], changes: s.changes[:0]}
	splitters.Put(s)
}

// list is one of the arrays of a value whose elements are items.
type list int

const (
	messages list = iota
	statuses
	errorList
	echoes // messages the business sent by other means
	noList
)

// listOf tells which list a member of a value of the field is.
func listOf(field, name []byte) list {
	switch string(field) {
	case fieldMessages:
		return messagesListOf(name)
	case fieldEchoes, fieldBusinessAppEchoes:
		if string(name) == "message_echoes" {
			return echoes
		}
	}
	return noList
}

// messagesListOf is listOf for the field messages.
func messagesListOf(name []byte) list {
	switch string(name) {
	case "messages":
		return messages
	case "statuses":
		return statuses
	case "errors":
		return errorList
	default:
		return noList
	}
}

// hasLists reports whether changes of the field are taken apart.
func hasLists(field []byte) bool {
	switch string(field) {
	case fieldMessages, fieldEchoes, fieldBusinessAppEchoes:
		return true
	}
	return false
}

// noLists is a change of which nothing is taken apart.
var noLists = [noList]int{none, none, none, none}

// What all items of an entry or of a change share is looked up once, and kept
// with the two: a request that is wide in both directions stays cheap.

// entry is one entry of the request.
type entry struct {
	node    int
	within  int    // the array that it is in
	changes int    // its array of changes; none when the entry is odd
	id      string // the business account, mostly
	sent    []byte // the time, as written
	sentAt  time.Time
}

// change is one change of one entry.
type change struct {
	entry
	node     int // none when the entry is odd
	value    int // none when the change is odd
	field    []byte
	lists    [noList]int // the arrays to take apart; none where there is nothing to
	contacts int         // value.contacts, if they are shared out among several items
	only     int         // value.contacts has this one and no other
	address
}

// part is what becomes one item.
type part struct {
	change   int   // in splitter.changes
	list     list  // the list that the element is from; noList: the change as a whole
	element  int   // none: the change as a whole
	contacts []int // those that go with it, when the change shares them out
	odd      bool
}

// request collects the parts of the whole body.
func (s *splitter) request() error {
	if !s.isObject(root) {
		return errors.New("read webhook: it is not a JSON object")
	}
	if object := s.member(root, "object"); string(s.string(object)) != objectAccount {
		return errors.New("read webhook: its object is not " + objectAccount)
	}
	if s.isDeepBeside(root, "entry") {
		return fmt.Errorf("read webhook: %w", errTooDeep)
	}
	for member := range s.children(root) {
		if string(s.name(member)) != "entry" {
			continue
		}
		s.arrays++
		if !s.isArray(member) {
			return errors.New("read webhook: its entry is no array")
		}
		for node := range s.children(member) {
			if err := s.entry(entry{node: node, within: member}); err != nil {
				return err
			}
		}
	}
	switch {
	case len(s.parts) == 0:
		return errors.New("read webhook: it has no entry")
	case len(s.parts) == 1 && s.arrays > 1: // receivers would not all read the same one
		return errors.New("read webhook: it has an entry twice")
	}
	for i := range s.parts {
		if !s.parts[i].odd {
			return nil
		}
	}
	return errors.New("read webhook: no part of it is understood")
}

// sole finds a member that must not be there twice; not ok: it is.
func (s *splitter) sole(n int, name string) (member int, ok bool) {
	member = none
	if !s.isObject(n) {
		return none, true
	}
	for child := range s.children(n) {
		if string(s.name(child)) != name {
			continue
		}
		if member != none {
			return none, false
		}
		member = child
	}
	return member, true
}

// isDeepBeside reports whether an object has parts that lie too deep outside the
// members of a name. They would be too deep in the envelope of every item.
func (s *splitter) isDeepBeside(n int, name string) bool {
	if !s.deep || !s.isObject(n) {
		return s.isDeep(n)
	}
	for child := range s.children(n) {
		if string(s.name(child)) != name && s.isDeep(child) {
			return true
		}
	}
	return false
}

func (s *splitter) entry(e entry) error {
	changes, ok := s.sole(e.node, "changes")
	e.changes = changes
	e.id = string(identifier(s.string(s.member(e.node, "id"))))
	e.sent = s.string(s.member(e.node, "time"))
	e.sentAt = unixTime(e.sent)
	if !ok || !s.isArray(changes) || s.isEmpty(changes) || s.isDeepBeside(e.node, "changes") {
		return s.whole(change{entry: e, node: none, value: none}, true)
	}
	for node := range s.children(changes) {
		if err := s.change(change{entry: e, node: node, value: none}); err != nil {
			return err
		}
	}
	return nil
}

func (s *splitter) change(c change) error {
	field, okField := s.sole(c.node, "field")
	value, okValue := s.sole(c.node, "value")
	if s.begins(field, '"') {
		c.field = s.string(field)
	}
	if !okField || !okValue || len(c.field) == 0 || value == none || s.begins(value, 'n') || s.isDeepBeside(c.node, "value") {
		return s.whole(c, true)
	}
	c.value = value
	if !hasLists(c.field) {
		return s.whole(c, s.isDeep(value))
	}
	count, ok := s.findLists(&c)
	switch {
	case !ok:
		return s.whole(c, true)
	case count == 0:
		return s.whole(c, false)
	default:
		return s.elements(c, count)
	}
}

// findLists looks for what is to be taken apart in a value, and counts it. Not
// ok: the value is odd.
func (s *splitter) findLists(c *change) (count int, ok bool) {
	c.lists = noLists
	c.contacts = none
	if !s.isObject(c.value) {
		return 0, false
	}
	var seen [noList + 1]bool // noList stands for contacts
	for member := range s.children(c.value) {
		name := s.name(member)
		list := listOf(c.field, name)
		if list == noList && s.isDeep(member) {
			return 0, false
		}
		if list == noList && string(name) != "contacts" {
			continue
		}
		if seen[list] {
			return 0, false
		}
		seen[list] = true
		switch {
		case list == noList:
			c.contacts = member
		case s.begins(member, 'n'):
		case !s.isArray(member):
			return 0, false
		case !s.isEmpty(member):
			c.lists[list] = member
			count += s.count(member)
		}
	}
	if s.explains(c) && !s.isDeep(c.lists[errorList]) {
		count = 1
		c.lists[errorList] = none
	}
	if count < 2 || !s.isArray(c.contacts) || s.isEmpty(c.contacts) {
		c.contacts = none
	}
	return count, true
}

// explains reports whether the errors of a value are about its only message.
func (s *splitter) explains(c *change) bool {
	message := s.only(c.lists[messages])
	if c.lists[errorList] == none || c.lists[statuses] != none || !s.isObject(message) {
		return false
	}
	kind := s.string(s.member(message, "type"))
	return s.member(message, string(kind)) == none && s.member(message, "errors") == none
}

// whole makes a change, or an entry without changes, one part.
func (s *splitter) whole(c change, odd bool) error {
	c.lists = noLists
	c.contacts = none
	s.note(c)
	return s.add(part{list: noList, element: none, odd: odd})
}

// elements makes each element of a change's lists a part.
func (s *splitter) elements(c change, count int) error {
	s.note(c)
	first := len(s.parts)
	s.parts = slices.Grow(s.parts, min(count, maxItems-first))
	for l, array := range c.lists {
		for element := range s.children(array) {
			if err := s.add(part{list: list(l), element: element, odd: !s.isObject(element) || s.isDeep(element)}); err != nil {
				return err
			}
		}
	}
	if c.contacts == none {
		return nil
	}
	return s.shareContacts(c.contacts, s.parts[first:])
}

// note keeps a change for the parts that are about to be added.
func (s *splitter) note(c change) {
	c.address = s.address(&c)
	c.only = none
	if c.contacts == none {
		c.only = s.only(s.member(c.value, "contacts"))
	}
	s.changes = append(s.changes, c)
}

// add makes a part of the latest change.
func (s *splitter) add(p part) error {
	if len(s.parts) == maxItems {
		return errTooMany
	}
	p.change = len(s.changes) - 1
	s.parts = append(s.parts, p)
	return nil
}

// spend takes bytes from the budget, if there are enough.
func (s *splitter) spend(size int) bool {
	s.budget -= size
	return s.budget >= 0
}

// appendRequest writes the envelope of one part.
func (s *splitter) appendRequest(dst []byte, p *part) []byte {
	c := &s.changes[p.change]
	return s.appendWithin(dst, root, c.within, func(dst []byte) []byte {
		if c.node == none {
			return append(dst, s.raw(c.entry.node)...)
		}
		return s.appendWithin(dst, c.entry.node, c.changes, func(dst []byte) []byte {
			return s.appendChange(dst, c, p)
		})
	})
}

// appendWithin copies an object with what write gives as the only element of
// one of its arrays.
func (s *splitter) appendWithin(dst []byte, object, array int, write func([]byte) []byte) []byte {
	dst = append(dst, '{')
	for member := range s.children(object) {
		switch {
		case member == array:
			dst = append(s.appendName(dst, member), '[')
			dst = append(write(dst), ']')
		case s.arrays > 1 && object == root && string(s.name(member)) == "entry":
		default:
			dst = s.appendMember(dst, member)
		}
	}
	return append(dst, '}')
}

func (s *splitter) appendChange(dst []byte, c *change, p *part) []byte {
	if p.list == noList {
		return append(dst, s.raw(c.node)...)
	}
	dst = append(dst, '{')
	for member := range s.children(c.node) {
		if member != c.value {
			dst = s.appendMember(dst, member)
			continue
		}
		dst = s.appendValue(s.appendName(dst, member), c, p)
	}
	return append(dst, '}')
}

func (s *splitter) appendValue(dst []byte, c *change, p *part) []byte {
	dst = append(dst, '{')
	for member := range s.children(c.value) {
		switch member {
		case c.lists[p.list]:
			dst = append(s.appendElement(append(s.appendName(dst, member), '['), p.element), ']')
		case c.lists[messages], c.lists[statuses], c.lists[errorList], c.lists[echoes]:
		case c.contacts:
			dst = s.appendContacts(dst, member, p.contacts)
		default:
			dst = s.appendMember(dst, member)
		}
	}
	return append(dst, '}')
}
