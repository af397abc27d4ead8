package emulator

import (
	"strconv"
	"time"
)

// Item is one thing that Meta reports: a message, a status, an error, or a
// change of an account or a template.
type Item struct {
	// Type is the dotted type the gateway must give it.
	Type   string
	Number Number
	// ID is Meta's id of the message it is about; empty where there is none.
	ID string
	// From is the customer's number; empty where there is none.
	From string
	At   time.Time

	field   string // the subscription field
	part    string // the array of the value it sits in; "" when value is all of it
	contact object // what the value's contacts say of the customer; may be nil
	content object // the array's element, or the whole value
}

// Body writes a webhook with the given items, batched as Meta does it: one
// entry per business account, one change per number and kind. The body of one
// item alone is also the form in which that item must leave a batch.
func Body(items ...Item) []byte {
	var entries []*entry
	for _, item := range items {
		entries = addToEntries(entries, item)
	}
	list := array{}
	for _, e := range entries {
		list = append(list, e.json())
	}
	return write(nil, object{{"object", "whatsapp_business_account"}, {"entry", list}})
}

type entry struct {
	waba    string
	time    int64 // 0: the entry has none
	changes []*change
}

type change struct {
	number   Number
	field    string
	part     string
	contacts array
	known    map[string]bool // customers already in contacts
	items    array
	whole    object // the value, when part is ""
}

func addToEntries(entries []*entry, item Item) []*entry {
	for _, e := range entries {
		// Only notices of the account carry a time, so they don't mix.
		if e.waba == item.Number.WABAID && (e.time != 0) == (item.part == "") {
			e.add(item)
			return entries
		}
	}
	e := &entry{waba: item.Number.WABAID}
	if item.part == "" {
		e.time = item.At.Unix()
	}
	e.add(item)
	return append(entries, e)
}

func (e *entry) add(item Item) {
	for _, c := range e.changes {
		if c.part != "" && c.part == item.part && c.field == item.field && c.number == item.Number {
			c.add(item)
			return
		}
	}
	c := &change{number: item.Number, field: item.field, part: item.part, known: map[string]bool{}}
	c.add(item)
	e.changes = append(e.changes, c)
}

func (c *change) add(item Item) {
	if item.part == "" {
		c.whole = item.content
		return
	}
	if item.contact != nil && !c.known[item.From] {
		c.known[item.From] = true
		c.contacts = append(c.contacts, item.contact)
	}
	c.items = append(c.items, item.content)
}

func (e *entry) json() object {
	changes := array{}
	for _, c := range e.changes {
		changes = append(changes, object{{"value", c.value()}, {"field", c.field}})
	}
	out := object{{"id", e.waba}}
	if e.time != 0 {
		out = append(out, member{"time", e.time})
	}
	return append(out, member{"changes", changes})
}

func (c *change) value() object {
	if c.part == "" {
		return c.whole
	}
	value := object{
		{"messaging_product", "whatsapp"},
		{"metadata", object{
			{"display_phone_number", c.number.Phone},
			{"phone_number_id", c.number.PhoneNumberID},
		}},
	}
	if c.contacts != nil {
		value = append(value, member{"contacts", c.contacts})
	}
	return append(value, member{c.part, c.items})
}

func seconds(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
