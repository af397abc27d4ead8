package digital99

import (
	"cmp"
	"encoding/json"
	"strconv"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/meta"
)

// settingsSet answers setWebhook:
//
//	{"status":"OK","url":"https://hooks.acme.test/wa","system":1,"systemPhoneAlert":"972541112233","readStatus":1,"retry":0,"reason":1}
type settingsSet struct {
	Status           string `json:"status"`
	URL              string `json:"url"`
	System           int    `json:"system"`
	SystemPhoneAlert string `json:"systemPhoneAlert"`
	ReadStatus       int    `json:"readStatus"`
	Retry            int    `json:"retry"`
	Reason           int    `json:"reason"`
}

// settingsShown answers getWebhook: system is text here, and retry comes before
// readStatus:
//
//	{"status":"OK","url":"https://hooks.acme.test/wa","system":"1","systemPhoneAlert":"972541112233","retry":0,"readStatus":1,"reason":1}
type settingsShown struct {
	Status           string `json:"status"`
	URL              string `json:"url"`
	System           string `json:"system"`
	SystemPhoneAlert string `json:"systemPhoneAlert"`
	Retry            int    `json:"retry"`
	ReadStatus       int    `json:"readStatus"`
	Reason           int    `json:"reason"`
}

// refusal answers a call that failed: {"status":"FAIL","reason":3}.
type refusal struct {
	Status string `json:"status"`
	Reason int    `json:"reason"`
}

// newHook is the hook of a message that came in:
//
//	{"status":"OK","hook":"new","unique":"wamid.HBg…","from":"972541112233","from_id":"IL.4410093377125588",
//	 "username":null,"country":"IL","phone":"972541112233","to":"972771230000","senderName":"Dana",
//	 "type":"image","body":"https://media.acme.test/f/1","caption":"receipt","isForwarded":false,
//	 "timestamp":"1767225600","media":"https://media.acme.test/f/1","quote":false,"quoteUnique":false,
//	 "profilePic":"","conversationTimeLeft":"1440"}
//
// It is written by hand, as updateHook is, since most hooks are one of the two.
type newHook struct {
	unique      string
	sender      user
	to          string
	content     content
	isForwarded bool
	timestamp   int64
	quoted      string // the message that this one answers or is about
}

func (h *newHook) encode() ([]byte, error) {
	w := dialect.NewWriter(len(h.content.body) + len(h.content.caption) + len(h.content.link) + 512)
	w.Text("status", statusOK)
	w.Text("hook", "new")
	w.Text("unique", h.unique)
	w.Text("from", cmp.Or(h.sender.phone, h.sender.userID))
	w.Text("from_id", h.sender.userID)
	textOrNull(w, "username", h.sender.username)
	w.Text("country", countryOf(h.sender.userID, h.sender.phone))
	textOrNull(w, "phone", h.sender.phone) // hidden
	w.Text("to", h.to)
	w.Text("senderName", h.sender.name)
	w.Text("type", h.content.kind)
	if h.content.items == nil {
		w.Text("body", h.content.body)
	} else {
		w.Value("body", h.content.items)
	}
	w.Text("caption", h.content.caption)
	w.Bool("isForwarded", h.isForwarded)
	w.Text("timestamp", strconv.FormatInt(h.timestamp, 10))
	textOrFalse(w, "media", h.content.link)
	w.Bool("quote", false) // its text is not known
	textOrFalse(w, "quoteUnique", h.quoted)
	w.Text("profilePic", "")
	w.Text("conversationTimeLeft", fullConversation)
	return w.Finish()
}

func textOrNull(w *dialect.Writer, name, value string) {
	if value == "" {
		w.Null(name)
		return
	}
	w.Text(name, value)
}

func textOrFalse(w *dialect.Writer, name, value string) {
	if value == "" {
		w.Bool(name, false)
		return
	}
	w.Text(name, value)
}

// orderItem is an element of the body of an order.
type orderItem struct {
	ProductRetailerID string      `json:"product_retailer_id"`
	Quantity          json.Number `json:"quantity"`
	ItemPrice         json.Number `json:"item_price"`
	Currency          string      `json:"currency"`
}

// updateHook is the hook of a sent message's status; from is its recipient:
//
//	{"status":"OK","hook":"update","unique":"wamid.HBg…","from":"972541112233","to":"972771230000","ack":2}
type updateHook struct {
	unique, from, to string
	ack              int64
}

func (h updateHook) encode() ([]byte, error) {
	w := dialect.NewWriter(256)
	w.Text("status", statusOK)
	w.Text("hook", "update")
	w.Text("unique", h.unique)
	w.Text("from", h.from)
	w.Text("to", h.to)
	w.Int("ack", h.ack)
	return w.Finish()
}

// systemHook is what all hooks of notices begin with.
type systemHook struct {
	Status    string `json:"status"`
	Hook      string `json:"hook"`
	Type      string `json:"type"`
	To        string `json:"to"`
	Timestamp int64  `json:"timestamp"` // a number here
}

// failedHook is the notice of a message that failed:
//
//	{"status":"OK","hook":"system","type":"messages","to":"972771230000","timestamp":1767225600,
//	 "unique":"wamid.HBg…","messageUpdate":8,"messageTo":"972541112233"}
type failedHook struct {
	systemHook
	Unique        string `json:"unique"`
	MessageUpdate int64  `json:"messageUpdate"`
	MessageTo     string `json:"messageTo"`
}

// limitHook is the notice of a daily limit; the provider shows no sample of
// this one nor of the two below:
//
//	{"status":"OK","hook":"system","type":"update","to":"972771230000","timestamp":1767225600,"dailyLimit":2000}
type limitHook struct {
	systemHook
	DailyLimit int64 `json:"dailyLimit"`
}

// templateHook is the notice of a template:
//
//	{"status":"OK","hook":"system","type":"template","to":"972771230000","timestamp":1767225600,
//	 "template":"order_packed","templateUpdate":"approved"}
type templateHook struct {
	systemHook
	Template       string `json:"template"`
	TemplateUpdate string `json:"templateUpdate"`
}

// issueHook is the notice of a number's or an account's standing:
//
//	{"status":"OK","hook":"system","type":"issues","to":"972771230000","timestamp":1767225600,"issueUpdate":"flagged"}
type issueHook struct {
	systemHook
	IssueUpdate string `json:"issueUpdate"`
}

// graphMessage is an alert as the Graph API takes it, as text or as a template
// whose body has one parameter.
type graphMessage struct {
	MessagingProduct string         `json:"messaging_product"`
	RecipientType    string         `json:"recipient_type"`
	To               string         `json:"to"`
	Type             string         `json:"type"`
	Text             *graphText     `json:"text,omitempty"`
	Template         *graphTemplate `json:"template,omitempty"`
	CallbackData     string         `json:"biz_opaque_callback_data"`
}

type graphText struct {
	PreviewURL bool   `json:"preview_url"`
	Body       string `json:"body"`
}

type graphTemplate struct {
	Name       string           `json:"name"`
	Language   graphLanguage    `json:"language"`
	Components []graphComponent `json:"components"`
}

type graphLanguage struct {
	Code string `json:"code"`
}

type graphComponent struct {
	Type       string           `json:"type"`
	Parameters []graphParameter `json:"parameters"`
}

type graphParameter struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// graphError is what the Graph API answers when it refuses.
type graphError struct {
	Error struct {
		Code meta.Text `json:"code"`
	} `json:"error"`
}
