package digital99

import (
	"cmp"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/meta"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const statusOK = "OK" // in every hook and every good answer

// fullConversation is what is left, in minutes, of the 24 hours in which the
// business may answer freely: a message that comes in opens them anew.
const fullConversation = "1440"

// acks are Meta's statuses in the provider's numbers. A voice message that was
// played was read.
var acks = map[meta.Text]int64{"failed": 0, "sent": 1, "delivered": 2, "read": 3, "played": 3}

// change is what an event's body says has happened.
type change struct {
	event *waypost.Event
	*meta.Change
}

func readChange(event *waypost.Event) (*change, error) {
	told, err := meta.Read(event.Body)
	return &change{event: event, Change: told}, err
}

func (c *change) ofGroup() bool {
	return len(c.Messages) > 0 && c.Messages[0].GroupID != "" || len(c.Statuses) > 0 && c.Statuses[0].RecipientType == "group"
}

func (c *change) ofAlert() bool {
	return len(c.Statuses) > 0 && strings.HasPrefix(string(meta.TextOf(c.Statuses[0].CallbackData)), alertMark)
}

// seconds is a unix time as the item tells it, else that of the event.
func (c *change) seconds(told meta.Text) int64 {
	if seconds, err := strconv.ParseInt(string(told), 10, 64); err == nil {
		return seconds
	}
	if !c.event.OccurredAt.IsZero() {
		return c.event.OccurredAt.Unix()
	}
	return c.event.ReceivedAt().Unix()
}

// Encode implements dialect.Dialect.
func (d Dialect) Encode(item dialect.Item) (dialect.Hook, error) {
	if !lets(item.Endpoint, item.Event) {
		return dialect.Hook{}, dialect.ErrNotWanted
	}
	change, err := readChange(item.Event)
	if err != nil {
		return dialect.Hook{}, err
	}
	if !fits(item.Endpoint, item.Event, change) {
		return dialect.Hook{}, dialect.ErrNotWanted
	}
	if isAlert(item.Endpoint) {
		return d.encodeAlert(item, change)
	}
	body, err := bodyOf(item, change)
	return dialect.Hook{Body: body}, err
}

func bodyOf(item dialect.Item, c *change) ([]byte, error) {
	if isMessage(item.Event) {
		if len(c.Messages) == 0 {
			return nil, errors.New("read event: there is no message in it")
		}
		return newHookOf(item, c).encode()
	}
	if isNotice(item.Event) && item.Endpoint.OptionBool(optionSystem, false) {
		notice, _ := noticeOf(c) // fits has seen that it is one
		return dialect.EncodeJSON(notice.hook(businessPhone(item, c)))
	}
	if len(c.Statuses) == 0 {
		return nil, errors.New("read event: there is no status in it")
	}
	status := &c.Statuses[0]
	return updateHook{
		unique: string(status.ID),
		from:   recipientOf(c),
		to:     businessPhone(item, c),
		ack:    acks[status.Status],
	}.encode()
}

func newHookOf(item dialect.Item, c *change) *newHook {
	m := &c.Messages[0]
	content := contentOf(m, item.MediaURL)
	return &newHook{
		unique:      string(m.ID),
		sender:      senderOf(c),
		to:          businessPhone(item, c),
		content:     content,
		isForwarded: m.Context.Forwarded || m.Context.FrequentlyForwarded,
		timestamp:   c.seconds(m.Timestamp),
		quoted:      string(cmp.Or(content.target, m.Context.ID)),
	}
}

// user is who sent a message, as far as it is told.
type user struct{ phone, userID, name, username string }

func senderOf(c *change) user {
	m := &c.Messages[0]
	found := c.ContactOf(m.From, m.UserID)
	return user{
		phone:    digits(cmp.Or(m.From, found.WaID)),
		userID:   string(cmp.Or(m.UserID, found.UserID, m.System.UserID)),
		name:     string(found.Profile.Name),
		username: string(found.Profile.Username),
	}
}

// recipientOf is whom a message was sent to: the phone, or the user id where it
// is hidden.
func recipientOf(c *change) string {
	status := &c.Statuses[0]
	known := cmp.Or(status.RecipientID, status.Message.RecipientID, status.RecipientUserID)
	if known == "" && len(c.Contacts) > 0 {
		known = cmp.Or(c.Contacts[0].WaID, c.Contacts[0].UserID)
	}
	return string(known)
}

// businessPhone is the number the event concerns, in digits; "" if nobody says.
func businessPhone(item dialect.Item, c *change) string {
	if item.Number != nil {
		return item.Number.Phone
	}
	return digits(cmp.Or(c.Metadata.DisplayPhoneNumber, c.DisplayPhoneNumber, c.PhoneNumber))
}

func digits[T ~string](phone T) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, string(phone))
}

// content is what a message holds, in the provider's terms.
type content struct {
	kind    string
	body    string
	items   []orderItem // of an order, in the place of body; nil for all else
	caption string
	link    string    // to the file
	target  meta.Text // the message that this one is about
}

// contentOf puts a message in the provider's terms. Types it has no word for
// keep Meta's.
func contentOf(m *meta.Message, mediaURL func(string) string) content {
	switch m.Type {
	case "text":
		return content{kind: "text", body: string(m.Text.Body)}
	case "image":
		return fileOf("image", m.Image, mediaURL)
	case "sticker": // no type of its own: receivers that show images show it
		return fileOf("image", m.Sticker, mediaURL)
	case "video":
		return fileOf("video", m.Video, mediaURL)
	case "document":
		return fileOf("document", m.Document, mediaURL)
	case "audio":
		if m.Audio.Voice {
			return fileOf("ptt", m.Audio, mediaURL)
		}
		return fileOf("audio", m.Audio, mediaURL)
	case "voice":
		return fileOf("ptt", m.Voice, mediaURL)
	case "location":
		return content{kind: "location", body: string(meta.TextOf(m.Location.Latitude) + "," + meta.TextOf(m.Location.Longitude))}
	case "contacts":
		return content{kind: "contacts", body: phoneOf(m)}
	case "button":
		return content{kind: "button", body: string(m.Button.Text)}
	case "interactive":
		return answerOf(m)
	case "reaction": // a removed one has no emoji
		return content{kind: "reaction", body: string(m.Reaction.Emoji), target: m.Reaction.MessageID}
	case "order":
		return content{kind: "order", items: itemsOf(m), caption: string(m.Order.Text)}
	case "edit":
		return editOf(m, mediaURL)
	case "revoke":
		return content{kind: "revoke", target: m.Revoke.OriginalMessageID}
	case "system":
		return content{kind: "system", body: string(m.System.Body)}
	case "unsupported", "unknown", "ephemeral", "":
		return content{kind: "unsupported", body: string(m.Unsupported.Type)}
	default:
		return content{kind: string(m.Type)}
	}
}

// fileOf gives a file's link in body and in media, since receivers read one or
// the other. Without a link body stays text.
func fileOf(kind string, file meta.Media, mediaURL func(string) string) content {
	found := content{kind: kind, caption: string(cmp.Or(file.Caption, file.Filename))}
	if file.ID != "" && mediaURL != nil {
		found.link = mediaURL(string(file.ID))
	}
	found.body = found.link
	return found
}

// phoneOf is the first phone among shared contacts.
func phoneOf(m *meta.Message) string {
	for _, contact := range m.Contacts {
		for _, phone := range contact.Phones {
			if known := digits(cmp.Or(phone.WaID, phone.Phone)); known != "" {
				return known
			}
		}
	}
	return ""
}

// answerOf is the answer to a message with choices. An answer without a title,
// such as that of a flow, is text: the JSON of what was answered.
func answerOf(m *meta.Message) content {
	answer, ok := m.Answer()
	switch {
	case !ok:
		return content{kind: "unsupported"}
	case answer.Kind == "button_reply":
		return content{kind: "button", body: string(answer.Title)}
	case answer.Kind == "list_reply":
		return content{kind: "list", body: string(answer.Title)}
	case answer.ResponseJSON != "":
		return content{kind: "text", body: string(answer.ResponseJSON)}
	default:
		return content{kind: "text", body: string(answer.Raw)}
	}
}

func itemsOf(m *meta.Message) []orderItem {
	items := []orderItem{}
	for _, item := range m.Order.Items {
		items = append(items, orderItem{
			ProductRetailerID: string(item.RetailerID),
			Quantity:          numberOf(item.Quantity),
			ItemPrice:         numberOf(item.ItemPrice),
			Currency:          string(item.Currency),
		})
	}
	return items
}

// numberOf is a text as a JSON number, 0 if it isn't one.
func numberOf(told meta.Text) json.Number {
	var number json.Number
	if json.Unmarshal([]byte(told), &number) != nil || number == "" {
		return "0"
	}
	return number
}

// editOf is an edited message: what it holds now, and which it was.
func editOf(m *meta.Message, mediaURL func(string) string) content {
	now := content{}
	if m.Edit.Message != nil && m.Edit.Message.Type != "edit" {
		now = contentOf(m.Edit.Message, mediaURL)
	}
	now.kind, now.target = "edit", m.Edit.OriginalMessageID
	return now
}
