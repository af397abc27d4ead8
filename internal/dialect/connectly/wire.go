package connectly

import (
	"encoding/json"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/meta"
)

// created answers a registration and its update: {"id":"wh_0abc…"}.
type created struct {
	ID string `json:"id"`
}

// listing answers GET …/webhooks:
//
//	{"entity":{"businessId":"biz_1","webhooks":[{"id":"wh_0abc…","topic":"messages","address":"https://hooks.acme.test/in",
//	 "configuration":{"echo":false,"channelTypes":["whatsapp"],"filters":[]}}]}}
type listing struct {
	Entity entity `json:"entity"`
}

type entity struct {
	BusinessID string    `json:"businessId"`
	Webhooks   []webhook `json:"webhooks"`
}

type webhook struct {
	ID            string        `json:"id"`
	Topic         string        `json:"topic"`
	Address       string        `json:"address"`
	Configuration configuration `json:"configuration"`
}

type configuration struct {
	Echo         bool       `json:"echo"`
	ChannelTypes []string   `json:"channelTypes"`
	Filters      []filter   `json:"filters"`
	Webengage    *webengage `json:"webengageConfiguration,omitempty"`
}

type filter struct {
	Field      string `json:"field"`
	Expression string `json:"expression"`
}

type webengage struct {
	Token      string `json:"webengageToken"`
	WebhookURL string `json:"webengageWebhookUrl"`
}

// fault is what is wrong, with a call of the settings API or with a message
// that was not delivered:
//
//	{"message":"…","type":"ERROR_TYPE_INVALID_REQUEST","code":"ERROR_CODE_UNSPECIFIED","userTitle":"…","userMessage":"",
//	 "cntTraceId":"0","details":{}}
type fault struct {
	Message     string          `json:"message"`
	Type        string          `json:"type"`
	Code        string          `json:"code"`
	UserTitle   string          `json:"userTitle"`
	UserMessage string          `json:"userMessage"`
	CntTraceID  string          `json:"cntTraceId"` // digits
	Details     json.RawMessage `json:"details"`    // an object
}

// The types and codes of faults, as far as they are used here.
const (
	typeUnspecified    = "ERROR_TYPE_UNSPECIFIED"
	typeInvalidRequest = "ERROR_TYPE_INVALID_REQUEST"

	codeUnspecified   = "ERROR_CODE_UNSPECIFIED"
	codeSender        = "ERROR_CODE_INVALID_SENDER_ID"
	codeNoTemplate    = "ERROR_CODE_MESSAGE_TEMPLATE_NOT_FOUND"
	codeTemplateInput = "ERROR_CODE_MESSAGE_TEMPLATE_INPUT_INVALID"
	codeAttachment    = "ERROR_CODE_MESSAGE_ATTACHMENT_INVALID"
	codeOutsideWindow = "ERROR_CODE_MESSAGE_OUTSIDE_OF_ELIGIBILITY_WINDOW"
	codeReachedLimits = "ERROR_CODE_BUSINESS_REACHED_LIMITS"
	codeSelf          = "ERROR_CODE_MESSAGE_SELF_INVALID"
	codePhone         = "ERROR_CODE_MESSAGE_PHONE_NUMBER_INVALID"
	codeOptedOut      = "ERROR_CODE_MESSAGE_CUSTOMER_OPTED_OUT"
)

// faultCodes are Meta's error codes (and those of the On-Premises client) in the
// provider's words. The rest is codeUnspecified.
var faultCodes = map[meta.Text]string{
	"33":     codeSender,
	"133010": codeSender,
	"132001": codeNoTemplate,
	"132000": codeTemplateInput,
	"132005": codeTemplateInput,
	"132012": codeTemplateInput,
	"132018": codeTemplateInput,
	"131052": codeAttachment,
	"131053": codeAttachment,
	"131047": codeOutsideWindow,
	"470":    codeOutsideWindow,
	"4":      codeReachedLimits,
	"80007":  codeReachedLimits,
	"130429": codeReachedLimits,
	"131048": codeReachedLimits,
	"131049": codeReachedLimits,
	"131056": codeReachedLimits,
	"471":    codeReachedLimits,
	"131021": codeSelf,
	"131026": codePhone,
	"1013":   codePhone,
	"131050": codeOptedOut,
}

// messageHook tells of a message that came in, or, as an echo, went out:
//
//	{"topic":"messages","timestamp":"1760000001","sender":{"id":"+34600111222","channelType":"whatsapp","name":"Lucia"},
//	 "recipient":{"id":"+34910000000","channelType":"whatsapp","name":null},"message":{"text":"hola"},"metadata":null}
//
// A choice of the customer's has buttonResponse in the place of message:
//
//	"context":{"replyToId":"wamid.HBg…"},"buttonResponse":{"id":"wamid.HBg…","text":"Yes please","payload":"opt-1"}
//
// It is written by hand, as statusHook is, since most hooks are one of the two.
type messageHook struct {
	timestamp string // seconds
	message   *message
	button    *buttonResponse
	replyTo   string
}

func (h *messageHook) encode(sender, recipient party) ([]byte, error) {
	size := hookSize
	if h.message != nil && h.message.text != nil {
		size += len(*h.message.text)
	}
	w := dialect.NewWriter(size)
	w.Text("topic", topicMessages)
	w.Text("timestamp", h.timestamp)
	sender.write(w, "sender")
	recipient.write(w, "recipient")
	if h.replyTo != "" {
		w.Open("context")
		w.Text("replyToId", h.replyTo)
		w.Close()
	}
	if h.message != nil {
		h.message.write(w)
	}
	if h.button != nil {
		w.Value("buttonResponse", h.button)
	}
	w.Null("metadata") // a message names no campaign
	return w.Finish()
}

// hookSize is what most hooks need beside the text of a message.
const hookSize = 384

// party is the business, or the customer. Of a customer with a user id both the
// id and the phone are told; a phone that is hidden is empty, and the user id
// stands in for it:
//
//	{"id":"ES.4002200118","channelType":"whatsapp","name":"Lucia","userId":"ES.4002200118","phoneNumber":""}
type party struct{ id, name, userID, phone string }

func (p *party) write(w *dialect.Writer, member string) {
	w.Open(member)
	w.Text("id", p.id)
	w.Text("channelType", channelWhatsApp)
	if p.name == "" {
		w.Null("name")
	} else {
		w.Text("name", p.name)
	}
	if p.userID != "" {
		w.Text("userId", p.userID)
		w.Text("phoneNumber", p.phone)
	}
	w.Close()
}

// message has the parts that there are.
type message struct {
	text        *string
	attachments []attachment
	location    *location
	referral    *referral
}

func (m *message) write(w *dialect.Writer) {
	w.Open("message")
	if m.text != nil {
		w.Text("text", *m.text)
	}
	if m.attachments != nil {
		w.Value("attachments", m.attachments)
	}
	if m.location != nil {
		w.Value("location", m.location)
	}
	if m.referral != nil {
		w.Value("referral", m.referral)
	}
	w.Close()
}

type attachment struct {
	Type string `json:"type"` // image, video, audio, document
	URL  string `json:"url"`  // empty when there is no link to give
}

// location has the provider's names for outgoing ones; it shows no incoming one.
type location struct {
	Latitude  json.RawMessage `json:"latitude"`
	Longitude json.RawMessage `json:"longitude"`
	Name      string          `json:"name,omitempty"`
	Address   string          `json:"address,omitempty"`
	URL       string          `json:"url,omitempty"`
}

// referral is the advertisement that led the customer here:
//
//	{"ctwaClid":"ARBk…","sourceUrl":"https://fb.me/7k","sourceId":"120","sourceType":"ad","headline":"…","body":"…",
//	 "mediaType":"image","imageUrl":"https://…"}
type referral struct {
	CtwaClid     meta.Text `json:"ctwaClid,omitempty"`
	SourceURL    meta.Text `json:"sourceUrl,omitempty"`
	SourceID     meta.Text `json:"sourceId,omitempty"`
	SourceType   meta.Text `json:"sourceType,omitempty"`
	Headline     meta.Text `json:"headline,omitempty"`
	Body         meta.Text `json:"body,omitempty"`
	MediaType    meta.Text `json:"mediaType,omitempty"`
	ImageURL     meta.Text `json:"imageUrl,omitempty"`
	VideoURL     meta.Text `json:"videoUrl,omitempty"`
	ThumbnailURL meta.Text `json:"thumbnailUrl,omitempty"`
}

type buttonResponse struct {
	ID      string `json:"id"`
	Text    string `json:"text"`
	Payload string `json:"payload"`
}

// statusHook tells what became of a message that was sent:
//
//	{"topic":"delivery_status","timestamp":"1760000200","sender":{"id":"+34910000000","channelType":"whatsapp","name":null},
//	 "recipient":{"id":"+34600111222","channelType":"whatsapp","name":"Lucia"},
//	 "statusUpdate":{"id":"wamid.HBg…","status":"delivered","error":null},"metadata":{"campaign_name":"spring-01"}}
//
// statusUpdate has metadata, too, where the message was not delivered.
type statusHook struct {
	timestamp         string
	sender, recipient party
	id, status        string
	fault             *fault // of a message that was not delivered
	sent              origin
}

func (h *statusHook) encode() ([]byte, error) {
	w := dialect.NewWriter(hookSize + len(h.sent.CallbackData))
	w.Text("topic", topicStatus)
	w.Text("timestamp", h.timestamp)
	h.sender.write(w, "sender")
	h.recipient.write(w, "recipient")
	h.writeUpdate(w)
	if len(h.sent.CallbackData) > 0 {
		w.Value("callbackData", h.sent.CallbackData)
	}
	if h.sent.Campaign == "" {
		w.Null("metadata")
	} else {
		w.Open("metadata")
		w.Text("campaign_name", h.sent.Campaign)
		w.Close()
	}
	return w.Finish()
}

func (h *statusHook) writeUpdate(w *dialect.Writer) {
	w.Open("statusUpdate")
	w.Text("id", h.id)
	w.Text("status", h.status)
	if h.fault == nil {
		w.Null("error")
	} else {
		w.Value("error", h.fault)
	}
	if h.fault != nil && h.sent.Campaign != "" { // in both spellings of the provider's pages
		w.Open("metadata")
		w.Text("campaign_name", h.sent.Campaign)
		w.Text("campaignName", h.sent.Campaign)
		w.Close()
	}
	w.Close()
}

// reportHook tells that a report is ready; the report is as it was published:
//
//	{"topic":"report","timestamp":"2026-03-04T05:06:07Z","report":{"id":"6f0d…","name":"Nightly","type":"campaign.daily.custom",
//	 "last_run":{"id":"run-77","status":"completed","result":{"url":"https://…","expires_at":"…","created_at":"…"}}}}
type reportHook struct {
	Topic     string          `json:"topic"`
	Timestamp string          `json:"timestamp"` // RFC 3339
	Report    json.RawMessage `json:"report"`
}

// published is what a platform publishes: a report, or the hook with one in it.
type published struct {
	Timestamp meta.Text       `json:"timestamp"`
	Report    json.RawMessage `json:"report"`
}
