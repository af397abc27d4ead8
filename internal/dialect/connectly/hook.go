package connectly

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/meta"
	"github.com/waypost-gateway/waypost/internal/signature"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const signatureHeader = "X-Connectly-Hmac-Sha256"

// Encode implements dialect.Dialect. With a signing secret of the tenant the
// hook is signed: HMAC-SHA256 of the body in standard base64.
func (Dialect) Encode(item dialect.Item) (dialect.Hook, error) {
	if !owed(item.Endpoint, item.Event) {
		return dialect.Hook{}, dialect.ErrNotWanted
	}
	body, err := bodyOf(item)
	if err != nil {
		return dialect.Hook{}, err
	}
	header := http.Header{}
	if item.Endpoint.OptionString(optionContentType, contentJSON) == contentText {
		header.Set("Content-Type", contentText+"; charset=utf-8")
	}
	if secret := item.TenantSecret.Reveal(); secret != "" {
		header.Set(signatureHeader, signature.Base64SHA256(secret, body))
	}
	return dialect.Hook{Body: body, Header: header}, nil
}

func bodyOf(item dialect.Item) ([]byte, error) {
	topic := topicOf(item.Event)
	if topic == topicReport {
		return reportOf(item.Event)
	}
	change, err := meta.Read(item.Event.Body)
	if err != nil {
		return nil, err
	}
	value := &change.Value
	business := businessOf(item, value)
	switch {
	case topic == topicStatus && len(value.Statuses) > 0:
		return statusOf(item.Event, value, business).encode()
	case isEcho(item.Event) && len(value.Echoes) > 0:
		m := &value.Echoes[0]
		return messageOf(item, m).encode(business, customerOf(value, m.To, m.ToUserID))
	case topic == topicMessages && len(value.Messages) > 0:
		m := &value.Messages[0]
		return messageOf(item, m).encode(customerOf(value, m.From, cmp.Or(m.UserID, m.System.UserID)), business)
	default:
		return nil, errors.New("read event: what its type speaks of is not in it")
	}
}

// seconds is a unix time as the item tells it, else that of the event.
func seconds(event *waypost.Event, told meta.Text) string {
	if _, err := strconv.ParseInt(string(told), 10, 64); err == nil {
		return string(told)
	}
	return strconv.FormatInt(timeOf(event).Unix(), 10)
}

func timeOf(event *waypost.Event) time.Time {
	if event.OccurredAt.IsZero() {
		return event.ReceivedAt()
	}
	return event.OccurredAt
}

// businessOf is the business number; nobody tells its name.
func businessOf(item dialect.Item, v *meta.Value) party {
	phone := v.Metadata.DisplayPhoneNumber
	if item.Number != nil {
		phone = meta.Text(item.Number.Phone)
	}
	return party{id: cmp.Or(phoneOf(phone), item.Event.PhoneNumberID)}
}

// customerOf is the customer whom a message or a status names, with what the
// contacts beside it know.
func customerOf(v *meta.Value, phone, userID meta.Text) party {
	known := v.ContactOf(phone, userID)
	phone, userID = cmp.Or(phone, known.WaID), cmp.Or(userID, known.UserID)
	shown := phoneOf(phone)
	return party{
		id:     cmp.Or(shown, string(cmp.Or(userID, known.ParentID))),
		name:   string(known.Profile.Name),
		userID: string(userID),
		phone:  shown,
	}
}

// phoneOf writes a phone with a plus, whichever way it came; the id of a group
// stays as it is.
func phoneOf(told meta.Text) string {
	digits := string(told)
	if !isDigits(digits) {
		digits = strings.Map(func(r rune) rune {
			if strings.ContainsRune("+-.() ", r) {
				return -1
			}
			return r
		}, digits)
	}
	if !isDigits(digits) {
		return string(told)
	}
	return "+" + digits
}

func isDigits(text string) bool { return text != "" && strings.Trim(text, "0123456789") == "" }

// messageOf is the hook of a message, but for who sent it to whom.
func messageOf(item dialect.Item, m *meta.Message) *messageHook {
	content := contentOf(m, item.MediaURL)
	hook := messageHook{
		timestamp: seconds(item.Event, m.Timestamp),
		message:   content.message,
		button:    content.button,
		replyTo:   string(cmp.Or(content.about, m.Context.ID)),
	}
	if shown := referral(m.Referral); hook.message != nil && shown != (referral{}) {
		hook.message.referral = &shown
	}
	return &hook
}

// content is what a message holds, in the provider's terms.
type content struct {
	message *message
	button  *buttonResponse
	about   meta.Text // the message that this one is about
}

// contentOf puts a message in the provider's terms. What they have no word for
// becomes text that a person can read, or, where there is nothing to read, the
// type in brackets.
func contentOf(m *meta.Message, mediaURL func(string) string) content {
	switch m.Type {
	case "image":
		return fileOf("image", m.Image, mediaURL)
	case "sticker": // no type of its own: receivers that show images show it
		return fileOf("image", m.Sticker, mediaURL)
	case "video":
		return fileOf("video", m.Video, mediaURL)
	case "audio":
		return fileOf("audio", m.Audio, mediaURL)
	case "voice":
		return fileOf("audio", m.Voice, mediaURL)
	case "document":
		return fileOf("document", m.Document, mediaURL)
	case "location":
		return content{message: &message{location: &location{
			Latitude: m.Location.Latitude, Longitude: m.Location.Longitude,
			Name: string(m.Location.Name), Address: string(m.Location.Address), URL: string(m.Location.URL),
		}}}
	case "button":
		return buttonOf(m, m.Button.Text, m.Button.Payload)
	case "interactive":
		return answerOf(m)
	case "reaction": // a removed one has no emoji
		return content{message: textOf(m.Reaction.Emoji).message, about: m.Reaction.MessageID}
	case "contacts":
		return linesOf(cardLines(m.Contacts))
	case "order":
		return linesOf(orderLines(m))
	case "system":
		return textOf(m.System.Body)
	case "edit":
		return editOf(m, mediaURL)
	case "revoke":
		return content{message: textOf("[revoke]").message, about: m.Revoke.OriginalMessageID}
	case "text":
		return textOf(m.Text.Body)
	default:
		return textOf(cmp.Or(m.Text.Body, "["+cmp.Or(m.Unsupported.Type, m.Type, "unsupported")+"]"))
	}
}

func textOf(body meta.Text) content {
	shown := string(body)
	return content{message: &message{text: &shown}}
}

func linesOf(lines []string) content { return textOf(meta.Text(strings.Join(lines, "\n"))) }

// fileOf links to a file. Its caption is the message's text.
func fileOf(kind string, file meta.Media, mediaURL func(string) string) content {
	m := message{attachments: []attachment{{Type: kind}}}
	if file.ID != "" && mediaURL != nil {
		m.attachments[0].URL = mediaURL(string(file.ID))
	}
	if caption := string(file.Caption); caption != "" {
		m.text = &caption
	}
	return content{message: &m}
}

// buttonOf is a choice that the customer made.
func buttonOf(m *meta.Message, label, payload meta.Text) content {
	return content{button: &buttonResponse{ID: string(m.ID), Text: string(label), Payload: string(payload)}}
}

// answerOf is the answer to a message with choices. An answer without a title,
// such as that of a flow, is text: the JSON of what was answered.
func answerOf(m *meta.Message) content {
	answer, ok := m.Answer()
	switch {
	case !ok:
		return textOf("[interactive]")
	case answer.Kind == "button_reply" || answer.Kind == "list_reply":
		return buttonOf(m, answer.Title, answer.ID)
	case answer.ResponseJSON != "":
		return textOf(answer.ResponseJSON)
	default:
		return textOf(meta.Text(answer.Raw))
	}
}

// editOf is an edited message: what it holds now, and which it was.
func editOf(m *meta.Message, mediaURL func(string) string) content {
	now := textOf("[edit]")
	if m.Edit.Message != nil && m.Edit.Message.Type != "edit" {
		now = contentOf(m.Edit.Message, mediaURL)
	}
	now.about = m.Edit.OriginalMessageID
	return now
}

// cardLines is a line for each shared contact: name, company, phones, emails.
func cardLines(cards []meta.Card) []string {
	var lines []string
	for _, card := range cards {
		parts := []meta.Text{cmp.Or(card.Name.FormattedName, card.Name.FirstName), card.Org.Company}
		for _, phone := range card.Phones {
			parts = append(parts, cmp.Or(phone.Phone, phone.WaID))
		}
		for _, email := range card.Emails {
			parts = append(parts, email.Email)
		}
		parts = slices.DeleteFunc(parts, func(t meta.Text) bool { return t == "" })
		lines = append(lines, join(parts, ", "))
	}
	return lines
}

// orderLines is the customer's text, and a line for each product:
// "2 x shelf-oak-90, 129.5 GBP".
func orderLines(m *meta.Message) []string {
	var lines []string
	if m.Order.Text != "" {
		lines = append(lines, string(m.Order.Text))
	}
	for _, item := range m.Order.Items {
		lines = append(lines, fmt.Sprintf("%s x %s, %s %s", item.Quantity, item.RetailerID, item.ItemPrice, item.Currency))
	}
	return lines
}

func join(parts []meta.Text, separator string) string {
	words := make([]string, len(parts))
	for i, part := range parts {
		words[i] = string(part)
	}
	return strings.Join(words, separator)
}

// statusOf is the hook of a sent message's status.
func statusOf(event *waypost.Event, v *meta.Value, business party) *statusHook {
	s := &v.Statuses[0]
	participant, user := cmp.Or(s.Participant, s.ParticipantAlt), cmp.Or(s.ParticipantUser, s.RecipientUserID)
	hook := statusHook{
		timestamp: seconds(event, s.Timestamp),
		sender:    business,
		recipient: customerOf(v, cmp.Or(participant, s.RecipientID, s.Message.RecipientID), user),
		id:        string(s.ID),
		status:    statuses[event.Type],
		sent:      originOf(s),
	}
	if hook.status == statusFailed {
		hook.fault = faultOf(s, event)
	}
	return &hook
}

// origin is what the sender of a message said about it.
type origin struct {
	Campaign     string
	CallbackData json.RawMessage // nil: nothing
}

// originOf reads biz_opaque_callback_data: an object with the campaign's name and
// data to call back with, or anything else, which is that data as a whole.
func originOf(s *meta.Status) origin {
	whole := s.CallbackData
	if len(whole) == 0 || string(whole) == "null" || string(whole) == `""` {
		return origin{}
	}
	object := []byte(whole)
	var quoted string
	if json.Unmarshal(whole, &quoted) == nil {
		object = []byte(quoted)
	}
	var members struct {
		Campaign      meta.Text       `json:"campaign_name"`
		CampaignCamel meta.Text       `json:"campaignName"`
		Data          json.RawMessage `json:"callbackData"`
		DataSnake     json.RawMessage `json:"callback_data"`
	}
	if json.Unmarshal(object, &members) != nil {
		return origin{CallbackData: whole}
	}
	found := origin{Campaign: string(cmp.Or(members.Campaign, members.CampaignCamel)), CallbackData: members.Data}
	if found.CallbackData == nil {
		found.CallbackData = members.DataSnake
	}
	if string(found.CallbackData) == "null" {
		found.CallbackData = nil
	}
	if found.Campaign == "" && found.CallbackData == nil {
		return origin{CallbackData: whole}
	}
	return found
}

// faultOf is why a message was not delivered, with Meta's own error as details.
func faultOf(s *meta.Status, event *waypost.Event) *fault {
	var first meta.ErrorInfo
	details := json.RawMessage("{}")
	if len(s.Errors) > 0 && bytes.HasPrefix(s.Errors[0].Raw, []byte("{")) {
		first = s.Errors[0]
		details = first.Raw
	}
	message := cmp.Or(first.Message, first.Title, "The message was not delivered")
	why := fault{
		Message: string(message), Type: typeUnspecified, Code: codeUnspecified,
		UserTitle:   string(cmp.Or(first.Title, message)),
		UserMessage: string(cmp.Or(first.ErrorData.Details, first.Details)),
		CntTraceID:  strconv.FormatInt(int64(event.ID), 10),
		Details:     details,
	}
	if code := faultCodes[first.Code]; code != "" {
		why.Type, why.Code = typeInvalidRequest, code
	}
	return &why
}

// reportOf is the hook of a report. What was published is the report, or the
// whole hook.
func reportOf(event *waypost.Event) ([]byte, error) {
	var data published
	if err := json.Unmarshal(event.Body, &data); err != nil {
		return nil, errors.New("read report: the data is not an object") // the cause may quote it
	}
	hook := reportHook{Topic: topicReport, Timestamp: string(data.Timestamp), Report: data.Report}
	if len(hook.Report) == 0 {
		hook.Report = event.Body
	}
	if hook.Timestamp == "" {
		hook.Timestamp = timeOf(event).UTC().Format(time.RFC3339)
	}
	return dialect.EncodeJSON(hook)
}
