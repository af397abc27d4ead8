package standard

import (
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

// Encode implements dialect.Dialect. Every event has a form.
func (Dialect) Encode(item dialect.Item) (dialect.Hook, error) {
	event := item.Event
	data, err := dataOf(item)
	if err != nil {
		return dialect.Hook{}, err
	}
	var hook object
	hook.text("id", event.ID.String())
	hook.text("type", event.Type)
	hook.text("timestamp", timeOf(event).UTC().Format(timeForm))
	if event.TenantID != 0 {
		hook.text("tenant_id", event.TenantID.String())
	}
	if event.NumberID != 0 {
		hook.text("number_id", event.NumberID.String())
	}
	hook.raw("data", data)
	body := hook.bytes()
	header, err := sign(item, body)
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

func dataOf(item dialect.Item) ([]byte, error) {
	event := item.Event
	switch event.Form {
	case waypost.FormData:
		if !json.Valid(event.Body) {
			return nil, errors.New("read event: what was published is not JSON")
		}
		return event.Body, nil
	case waypost.FormCloud:
		if event.Type == waypost.TypeUnparsed {
			return unparsed(item), nil
		}
		c, err := readChange(event.Body)
		if err != nil {
			return nil, err
		}
		return c.data(item)
	default:
		return unparsed(item), nil
	}
}

// unparsed is a body that was not understood: {"version":1,"business":{},"body":…},
// with base64 in the place of body where that is not JSON.
func unparsed(item dialect.Item) []byte {
	var data object
	data.raw("version", []byte(version))
	data.raw("business", business(item, nil))
	if json.Valid(item.Event.Body) {
		data.raw("body", item.Event.Body)
	} else {
		data.text("base64", base64.StdEncoding.EncodeToString(item.Event.Body))
	}
	return data.bytes()
}

// change is what a body in the Cloud form, which holds one item, consists of.
type change struct {
	body, entry, change, value members
}

func readChange(raw []byte) (*change, error) {
	c := change{body: read(raw)}
	c.entry = read(only(c.body["entry"]))
	c.change = read(only(c.entry["changes"]))
	c.value = read(c.change["value"])
	if c.value == nil {
		return nil, errors.New("read event: there is not one change in it")
	}
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

// data is that of a WhatsApp event. A message, a status and an error stand under
// their own names:
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
func (c *change) data(item dialect.Item) ([]byte, error) {
	about, single := subjectOf(item.Event.Type)
	var data object
	data.raw("version", []byte(version))
	data.raw("business", business(item, c))
	var more object
	if single {
		element := only(c.value[about.list])
		if read(element) == nil {
			return nil, fmt.Errorf("read event: there is not one %s in it", about.member)
		}
		contact := c.contact(read(element))
		if contact != nil {
			data.raw("contact", contact)
		}
		data.raw(about.member, element)
		more.all("value", c.moreOfValue(about, contact))
		more.all("change", c.change.without("value", "field"))
	} else {
		data.raw("field", c.change["field"])
		if sent, ok := c.entry["time"]; ok {
			data.raw("time", sent)
		}
		data.raw("value", c.change["value"])
		more.all("change", c.change.without("value", "field"))
	}
	more.all("entry", c.moreOfEntry(item.Event.WABAID, single))
	more.all("body", c.body.without("object", "entry"))
	if !more.empty() {
		data.raw("more", more.bytes())
	}
	return data.bytes(), nil
}

// business is the number and the account that the event concerns, as far as
// that is known. It takes what the body says before what is known otherwise.
func business(item dialect.Item, c *change) []byte {
	var metadata members
	if c != nil {
		metadata = read(c.value["metadata"])
	}
	phoneNumberID, phone := metadata.text("phone_number_id"), metadata.text("display_phone_number")
	if phoneNumberID == "" {
		phoneNumberID = item.Event.PhoneNumberID
	}
	if phone == "" && item.Number != nil {
		phone = item.Number.Phone
	}
	var o object
	o.text("waba_id", item.Event.WABAID)
	o.text("phone_number_id", phoneNumberID)
	o.text("display_phone_number", phone)
	return o.bytes()
}

// contact is whom a message came from or a status is about: the only contact
// beside it, or of several the one that it names.
func (c *change) contact(about members) json.RawMessage {
	if contact := only(c.value["contacts"]); read(contact) != nil {
		return contact
	}
	var contacts []json.RawMessage
	_ = json.Unmarshal(c.value["contacts"], &contacts) // absent or odd: none
	for _, contact := range contacts {
		if names(about, read(contact)) {
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
func (c *change) moreOfValue(about subject, contact json.RawMessage) members {
	more := c.value.without(about.list)
	if string(more["messaging_product"]) == `"whatsapp"` {
		delete(more, "messaging_product")
	}
	if contact != nil && only(more["contacts"]) != nil {
		delete(more, "contacts")
	}
	if metadata := read(more["metadata"]); metadata != nil && len(metadata.without("phone_number_id", "display_phone_number")) == 0 {
		delete(more, "metadata")
	}
	return more
}

// moreOfEntry is what an entry holds that data has no name for. Its id is mostly
// that of the account; its time has a name beside a whole value.
func (c *change) moreOfEntry(wabaID string, single bool) members {
	more := c.entry.without("changes")
	if c.entry.text("id") == wabaID {
		delete(more, "id")
	}
	if !single {
		delete(more, "time")
	}
	return more
}
