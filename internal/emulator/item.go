package emulator

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// makers makes each kind of item that Item knows by name. Locked by the caller.
var makers = []struct {
	name string
	make func(*Meta, Number) Item
}{
	{"text", func(m *Meta, n Number) Item { return m.text(n, "Is the oak shelf back in stock?") }},
	{"image", media("image", object{{"caption", "The chipped corner"}, {"mime_type", "image/jpeg"}})},
	{"video", media("video", object{{"caption", "It wobbles"}, {"mime_type", "video/mp4"}})},
	{"audio", media("audio", object{{"mime_type", "audio/mpeg"}}, member{"voice", false})},
	{"voice", media("audio", object{{"mime_type", "audio/ogg; codecs=opus"}}, member{"voice", true})},
	{"document", media("document", object{
		{"caption", "Signed quote"}, {"filename", "quote-8841.pdf"}, {"mime_type", "application/pdf"},
	})},
	{"sticker", media("sticker", object{{"mime_type", "image/webp"}}, member{"animated", false})},
	{"location", (*Meta).location},
	{"contacts", (*Meta).contacts},
	{"button", (*Meta).button},
	{"button_reply", reply("button_reply", object{{"id", "slot-am"}, {"title", "Morning"}})},
	{"list_reply", reply("list_reply", object{
		{"id", "ship-express"}, {"title", "Express"}, {"description", "Next working day"},
	})},
	{"nfm_reply", reply("nfm_reply", object{
		{"name", "flow"},
		{"body", "Sent"},
		{"response_json", `{"flow_token": "ft-9c1e", "rating": "4", "comments": "Quick delivery"}`},
	})},
	{"reaction", (*Meta).reaction},
	{"order", (*Meta).order},
	{"system", (*Meta).system},
	{"unsupported", (*Meta).unsupported},
	{"sent", statusOfNew("sent")},
	{"delivered", statusOfNew("delivered")},
	{"read", statusOfNew("read")},
	{"failed", statusOfNew("failed")},
	{"error", (*Meta).rateLimited},
	{"account_update", (*Meta).accountUpdate},
	{"account_review_update", (*Meta).accountReview},
	{"phone_number_quality_update", (*Meta).qualityUpdate},
	{"message_template_status_update", (*Meta).templateStatus},
}

// Names lists the items that Item can make, each a word a person would type.
func Names() []string {
	names := make([]string, len(makers))
	for i, maker := range makers {
		names[i] = maker.name
	}
	return names
}

// Item makes the named item for a number, with content made up for it.
func (m *Meta) Item(n Number, name string) (Item, error) {
	i := slices.Index(Names(), name)
	if i < 0 {
		return Item{}, fmt.Errorf("make item %q: there is none of that name", name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return makers[i].make(m, n), nil
}

// Text makes a text message with the given words.
func (m *Meta) Text(n Number, body string) Item {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text(n, body)
}

// customer is one of a few people who write to the business. Their numbers are
// in the range that Ofcom keeps for drama.
type customer struct{ name, phone string }

var customers = []customer{
	{"Maren Holt", "447700900361"},
	{"Tomas Idowu", "447700900142"},
	{"Zoë 東雲", "447700900778"},
}

func (m *Meta) anyCustomer() customer { return customers[m.rand.IntN(len(customers))] }

func (c customer) contact() object {
	return object{{"profile", object{{"name", c.name}}}, {"wa_id", c.phone}}
}

// message is the part that all incoming messages share; content comes after it.
func (m *Meta) message(n Number, kind string, content ...member) Item {
	return m.messageFrom(m.anyCustomer(), n, kind, content...)
}

func (m *Meta) messageFrom(from customer, n Number, kind string, content ...member) Item {
	item := Item{
		Type: "whatsapp.message." + kind, Number: n, ID: m.incomingID(from.phone), From: from.phone, At: m.tick(),
		field: "messages", part: "messages", contact: from.contact(),
	}
	item.content = append(object{
		{"from", item.From},
		{"id", item.ID},
		{"timestamp", seconds(item.At)},
		{"type", kind},
	}, content...)
	return item
}

func (m *Meta) text(n Number, body string) Item {
	return m.message(n, "text", member{"text", object{{"body", body}}})
}

// media makes a media message; head and tail are what stands before and after
// the members that all media share.
func media(kind string, head object, tail ...member) func(*Meta, Number) Item {
	return func(m *Meta, n Number) Item {
		id := m.digits(16)
		about := append(slices.Clone(head),
			member{"sha256", base64.StdEncoding.EncodeToString(m.randomBytes(32))},
			member{"id", id},
			member{"url", "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=" + id +
				"&source=webhook&ext=" + strconv.FormatInt(m.now.Unix()+3600, 10) + "&hash=ARk" + m.hexDigits(24)})
		return m.message(n, kind, member{kind, append(about, tail...)})
	}
}

func (m *Meta) location(n Number) Item {
	return m.message(n, "location", member{"location", object{
		{"latitude", json.Number("53.79648")},
		{"longitude", json.Number("-1.54785")},
		{"name", "Corn Exchange"},
		{"address", "Call Ln, Leeds LS1 7BR"},
		{"url", "https://example.org/corn-exchange"},
	}})
}

func (m *Meta) contacts(n Number) Item {
	return m.message(n, "contacts", member{"contacts", array{object{
		{"birthday", "1988-07-30"},
		{"emails", array{object{{"email", "ines@example.org"}, {"type", "Personal"}}}},
		{"name", object{{"formatted_name", "Dr. Ines Varga"}, {"first_name", "Ines"}, {"last_name", "Varga"}}},
		{"org", object{{"company", "Larkspur Ltd"}, {"title", "Director"}}},
		{"phones", array{
			object{{"phone", "+44 7700 900415"}, {"wa_id", "447700900415"}, {"type", "CELL"}},
			object{{"phone", "+44 1632 960001"}, {"type", "WORK"}},
		}},
	}}})
}

// answered is the context of a message that answers one of the business's own.
func (m *Meta) answered(n Number, from customer) member {
	return member{"context", object{{"from", n.Phone}, {"id", m.outgoingID(from.phone)}}}
}

func (m *Meta) button(n Number) Item {
	from := m.anyCustomer()
	return m.messageFrom(from, n, "button",
		member{"button", object{{"payload", "CONFIRM_8841"}, {"text", "Confirm"}}},
		m.answered(n, from))
}

func reply(kind string, content object) func(*Meta, Number) Item {
	return func(m *Meta, n Number) Item {
		from := m.anyCustomer()
		return m.messageFrom(from, n, "interactive",
			member{"interactive", object{{"type", kind}, {kind, content}}},
			m.answered(n, from))
	}
}

func (m *Meta) reaction(n Number) Item {
	from := m.anyCustomer()
	return m.messageFrom(from, n, "reaction",
		member{"reaction", object{{"message_id", m.outgoingID(from.phone)}, {"emoji", "👍"}}})
}

func (m *Meta) order(n Number) Item {
	return m.message(n, "order", member{"order", object{
		{"catalog_id", m.digits(15)},
		{"text", "Please gift-wrap"},
		{"product_items", array{
			object{{"product_retailer_id", "shelf-oak-90"}, {"quantity", 2}, {"item_price", json.Number("129.5")}, {"currency", "GBP"}},
			object{{"product_retailer_id", "bracket-brass"}, {"quantity", 4}, {"item_price", 8}, {"currency", "GBP"}},
		}},
	}})
}

// system messages come without contacts.
func (m *Meta) system(n Number) Item {
	from := m.anyCustomer()
	const moved = "447700900862"
	item := m.messageFrom(from, n, "system", member{"system", object{
		{"body", "User " + from.name + " changed from " + from.phone + " to " + moved},
		{"wa_id", moved},
		{"type", "user_changed_number"},
	}})
	item.contact = nil
	return item
}

func (m *Meta) unsupported(n Number) Item {
	return m.message(n, "unsupported",
		member{"unsupported", object{{"type", "poll_creation"}}},
		member{"errors", array{object{
			{"code", 131051},
			{"title", "Message type unknown"},
			{"message", "Message type unknown"},
			{"error_data", object{{"details", "Message type is currently not supported."}}},
		}}})
}
