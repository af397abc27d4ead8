package standard

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// timeForm is RFC 3339 with milliseconds, as everywhere in the gateway.
const timeForm = "2006-01-02T15:04:05.000Z07:00"

// spare is what a hook may be longer than its event by, without growing.
const spare = 512

// Encode implements dialect.Dialect. Every event has a form.
func (Dialect) Encode(item dialect.Item) (dialect.Hook, error) {
	event := item.Event
	id := event.ID.String()
	hook := object{dialect.NewWriter(len(event.Body) + spare)}
	hook.text("id", id)
	hook.text("type", event.Type)
	hook.text("timestamp", timeOf(event).UTC().Format(timeForm))
	if event.TenantID != 0 {
		hook.text("tenant_id", event.TenantID.String())
	}
	if event.NumberID != 0 {
		hook.text("number_id", event.NumberID.String())
	}
	if err := hook.data(item); err != nil {
		return dialect.Hook{}, err
	}
	body, err := hook.Finish()
	if err != nil {
		return dialect.Hook{}, err
	}
	header, err := sign(item, id, body)
	if err != nil {
		return dialect.Hook{}, err
	}
	return dialect.Hook{Body: body, Header: header}, nil
}

// timeOf is when the event happened, as it tells itself, else when it came in.
func timeOf(event *waypost.Event) time.Time {
	if event.OccurredAt.IsZero() {
		return event.ReceivedAt()
	}
	return event.OccurredAt
}

// data writes the member of that name.
func (o object) data(item dialect.Item) error {
	event := item.Event
	switch {
	case event.Form == waypost.FormData:
		if !json.Valid(event.Body) {
			return errors.New("read event: what was published is not JSON")
		}
		o.raw("data", event.Body)
		return nil
	case event.Form == waypost.FormCloud && event.Type != waypost.TypeUnparsed:
		d := read(event.Body)
		defer d.release()
		c, err := changeOf(d)
		if err != nil {
			return err
		}
		return o.change(item, c)
	}
	o.unparsed(item)
	return nil
}

// unparsed writes a body that was not understood:
// {"version":1,"business":{},"body":…}, with base64 in the place of body where
// that is not JSON.
func (o object) unparsed(item dialect.Item) {
	o.Open("data")
	o.raw("version", []byte(version))
	o.business(item, "", "")
	if json.Valid(item.Event.Body) {
		o.raw("body", item.Event.Body)
	} else {
		o.text("base64", base64.StdEncoding.EncodeToString(item.Event.Body))
	}
	o.Close()
}

// change is what a body in the Cloud form, which holds one item, consists of.
type change struct {
	*document
	entry, change, value int
	metadata             int // of the value
}

func changeOf(d *document) (*change, error) {
	c := &change{document: d}
	c.entry = d.only(d.get(root, "entry"))
	c.change = d.only(d.get(c.entry, "changes"))
	c.value = d.get(c.change, "value")
	if !d.isObject(c.value) {
		return nil, errors.New("read event: there is not one change in it")
	}
	c.metadata = d.get(c.value, "metadata")
	return c, nil
}

// subject is what an event of a type is about: the member of data, and the list
// in Meta's value that holds it.
type subject struct{ member, list string }

func subjectOf(eventType string) (subject, bool) {
	switch {
	case strings.HasPrefix(eventType, waypost.TypeMessagePrefix):
		return subject{"message", "messages"}, true
	case strings.HasPrefix(eventType, waypost.TypeStatusPrefix):
		return subject{"status", "statuses"}, true
	case eventType == waypost.TypeError:
		return subject{"error", "errors"}, true
	default:
		return subject{}, false
	}
}

// change writes the data of a WhatsApp event. A message, a status and an error
// stand under their own names:
//
//	{"version":1,"business":{"waba_id":"…","phone_number_id":"…","display_phone_number":"…"},
//	 "contact":{"profile":{"name":"Maren Holt"},"wa_id":"447700900361"},
//	 "message":{"from":"447700900361","id":"wamid.…","timestamp":"1767571200","type":"text","text":{"body":"hi"}}}
//
// A change of another field stands as a whole:
//
//	{"version":1,"business":{"waba_id":"…"},"field":"account_update","time":1767571200,"value":{…}}
//
// more has what else Meta wrote, by where it stood; mostly there is nothing.
func (o object) change(item dialect.Item, c *change) error {
	about, single := subjectOf(item.Event.Type)
	o.Open("data")
	o.raw("version", []byte(version))
	o.business(item, c.word(c.metadata, "phone_number_id"), c.word(c.metadata, "display_phone_number"))
	var moreOfValue []int
	if single {
		element := c.only(c.get(c.value, about.list))
		if !c.isObject(element) {
			return fmt.Errorf("read event: there is not one %s in it", about.member)
		}
		contact := c.contact(element)
		o.raw("contact", c.raw(contact))
		o.raw(about.member, c.raw(element))
		moreOfValue = c.moreOfValue(about, contact)
	} else {
		o.raw("field", c.raw(c.get(c.change, "field")))
		o.raw("time", c.raw(c.get(c.entry, "time")))
		o.raw("value", c.raw(c.value))
	}
	o.more(c, moreOfValue, c.moreOfEntry(item.Event.WABAID, single))
	o.Close()
	return nil
}

// more writes the member of that name; without anything in it, it is left out.
func (o object) more(c *change, value, entry []int) {
	change, body := c.without(c.change, "value", "field"), c.without(root, "object", "entry")
	if len(value)+len(change)+len(entry)+len(body) == 0 {
		return
	}
	o.Open("more")
	o.all("value", c.document, value)
	o.all("change", c.document, change)
	o.all("entry", c.document, entry)
	o.all("body", c.document, body)
	o.Close()
}

// business writes the number and the account that the event concerns, as far as
// that is known. It takes what the body says before what is known otherwise.
func (o object) business(item dialect.Item, phoneNumberID, phone string) {
	if phone == "" && item.Number != nil {
		phone = item.Number.Phone
	}
	o.Open("business")
	o.text("waba_id", item.Event.WABAID)
	o.text("phone_number_id", cmp.Or(phoneNumberID, item.Event.PhoneNumberID))
	o.text("display_phone_number", phone)
	o.Close()
}

// contact is whom a message came from or a status is about: the only contact
// beside it, or of several the one that it names.
func (c *change) contact(about int) int {
	contacts := c.get(c.value, "contacts")
	if only := c.only(contacts); c.isObject(only) {
		return only
	}
	if !c.begins(contacts, '[') {
		return none
	}
	subject := read(c.raw(about))
	defer subject.release()
	for contact := range c.children(contacts) {
		if names(subject, c.raw(contact)) {
			return contact
		}
	}
	return none
}

// names reports whether a message or a status names a contact by one of its ids.
func names(about *document, raw []byte) bool {
	contact := read(raw)
	defer contact.release()
	var ids []string
	for _, name := range []string{
		"from", "from_user_id", "from_parent_user_id", "recipient_id", "recipient_user_id", "recipient_parent_user_id",
		"recipient_participant_id", "recipient_participant_user_id",
	} {
		if id := about.word(root, name); id != "" {
			ids = append(ids, id)
		}
	}
	return slices.ContainsFunc([]string{"wa_id", "user_id", "parent_user_id"}, func(name string) bool {
		return slices.Contains(ids, contact.word(root, name))
	})
}

// moreOfValue is what a value holds that data has no name for. Of several
// contacts it has them all.
func (c *change) moreOfValue(about subject, contact int) []int {
	named := append(make([]string, 0, 4), about.list)
	if string(c.raw(c.get(c.value, "messaging_product"))) == `"whatsapp"` {
		named = append(named, "messaging_product")
	}
	if contact != none && c.only(c.get(c.value, "contacts")) != none {
		named = append(named, "contacts")
	}
	if c.isObject(c.metadata) && len(c.without(c.metadata, "phone_number_id", "display_phone_number")) == 0 {
		named = append(named, "metadata")
	}
	return c.without(c.value, named...)
}

// moreOfEntry is what an entry holds that data has no name for. Its id is mostly
// that of the account; its time has a name beside a whole value.
func (c *change) moreOfEntry(wabaID string, single bool) []int {
	named := append(make([]string, 0, 3), "changes")
	if c.word(c.entry, "id") == wabaID {
		named = append(named, "id")
	}
	if !single {
		named = append(named, "time")
	}
	return c.without(c.entry, named...)
}
