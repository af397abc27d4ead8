package standard

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
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
	hook := newObject(len(event.Body) + spare)
	hook.text("id", event.ID.String())
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
	hook.close()
	header, err := sign(item, hook.written)
	if err != nil {
		return dialect.Hook{}, err
	}
	return dialect.Hook{Body: hook.written, Header: header}, nil
}

// timeOf is when the event happened, as it tells itself, else when it came in.
func timeOf(event *waypost.Event) time.Time {
	if event.OccurredAt.IsZero() {
		return event.ReceivedAt()
	}
	return event.OccurredAt
}

// data writes the member of that name.
func (o *object) data(item dialect.Item) error {
	event := item.Event
	switch {
	case event.Form == waypost.FormData:
		if !json.Valid(event.Body) {
			return errors.New("read event: what was published is not JSON")
		}
		o.raw("data", event.Body)
		return nil
	case event.Form == waypost.FormCloud && event.Type != waypost.TypeUnparsed:
		c, err := readChange(event.Body)
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
func (o *object) unparsed(item dialect.Item) {
	o.open("data")
	o.raw("version", []byte(version))
	o.business(item, nil)
	if json.Valid(item.Event.Body) {
		o.raw("body", item.Event.Body)
	} else {
		o.text("base64", base64.StdEncoding.EncodeToString(item.Event.Body))
	}
	o.close()
}

// change is what a body in the Cloud form, which holds one item, consists of.
type change struct {
	body, entry, change, value members
	metadata                   members // of the value
}

func readChange(raw []byte) (*change, error) {
	c := change{body: read(bytes.TrimSpace(raw))}
	c.entry = read(only(c.body.get("entry")))
	c.change = read(only(c.entry.get("changes")))
	c.value = read(c.change.get("value"))
	if c.value == nil {
		return nil, errors.New("read event: there is not one change in it")
	}
	c.metadata = read(c.value.get("metadata"))
	return &c, nil
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
func (o *object) change(item dialect.Item, c *change) error {
	about, single := subjectOf(item.Event.Type)
	o.open("data")
	o.raw("version", []byte(version))
	o.business(item, c)
	more := newObject(0)
	if single {
		element := only(c.value.get(about.list))
		if !isObject(element) {
			return fmt.Errorf("read event: there is not one %s in it", about.member)
		}
		contact := c.contact(element)
		o.raw("contact", contact)
		o.raw(about.member, element)
		more.all("value", c.moreOfValue(about, contact))
	} else {
		o.raw("field", c.change.get("field"))
		o.raw("time", c.entry.get("time"))
		o.raw("value", c.change.get("value"))
	}
	more.all("change", c.change.without("value", "field"))
	more.all("entry", c.moreOfEntry(item.Event.WABAID, single))
	more.all("body", c.body.without("object", "entry"))
	if more.close(); len(more.written) > len("{}") {
		o.raw("more", more.written)
	}
	o.close()
	return nil
}

// business writes the number and the account that the event concerns, as far as
// that is known. It takes what the body says before what is known otherwise.
func (o *object) business(item dialect.Item, c *change) {
	var phoneNumberID, phone string
	if c != nil {
		phoneNumberID, phone = c.metadata.text("phone_number_id"), c.metadata.text("display_phone_number")
	}
	if phone == "" && item.Number != nil {
		phone = item.Number.Phone
	}
	o.open("business")
	o.text("waba_id", item.Event.WABAID)
	o.text("phone_number_id", cmp.Or(phoneNumberID, item.Event.PhoneNumberID))
	o.text("display_phone_number", phone)
	o.close()
}

// contact is whom a message came from or a status is about: the only contact
// beside it, or of several the one that it names.
func (c *change) contact(about []byte) []byte {
	contacts := list(c.value.get("contacts"), math.MaxInt)
	if len(contacts) == 1 && isObject(contacts[0]) {
		return contacts[0]
	}
	subject := read(about)
	for _, contact := range contacts {
		if names(subject, read(contact)) {
			return contact
		}
	}
	return nil
}

// names reports whether a message or a status names a contact by one of its ids.
func names(about, contact members) bool {
	var ids []string
	for _, name := range []string{
		"from", "from_user_id", "from_parent_user_id", "recipient_id", "recipient_user_id", "recipient_parent_user_id",
		"recipient_participant_id", "recipient_participant_user_id",
	} {
		if id := about.text(name); id != "" {
			ids = append(ids, id)
		}
	}
	return slices.ContainsFunc([]string{"wa_id", "user_id", "parent_user_id"}, func(name string) bool {
		return slices.Contains(ids, contact.text(name))
	})
}

// moreOfValue is what a value holds that data has no name for. Of several
// contacts it has them all.
func (c *change) moreOfValue(about subject, contact []byte) members {
	named := []string{about.list}
	if string(c.value.get("messaging_product")) == `"whatsapp"` {
		named = append(named, "messaging_product")
	}
	if contact != nil && only(c.value.get("contacts")) != nil {
		named = append(named, "contacts")
	}
	if c.metadata != nil && len(c.metadata.without("phone_number_id", "display_phone_number")) == 0 {
		named = append(named, "metadata")
	}
	return c.value.without(named...)
}

// moreOfEntry is what an entry holds that data has no name for. Its id is mostly
// that of the account; its time has a name beside a whole value.
func (c *change) moreOfEntry(wabaID string, single bool) members {
	named := []string{"changes"}
	if c.entry.text("id") == wabaID {
		named = append(named, "id")
	}
	if !single {
		named = append(named, "time")
	}
	return c.entry.without(named...)
}
