package digital99

import (
	"bytes"
	"encoding/json"
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
type newHook struct {
	Status               string      `json:"status"`
	Hook                 string      `json:"hook"`
	Unique               string      `json:"unique"`
	From                 string      `json:"from"` // the phone, or from_id where it is hidden
	FromID               string      `json:"from_id"`
	Username             *string     `json:"username"`
	Country              string      `json:"country"`
	Phone                *string     `json:"phone"` // null where it is hidden
	To                   string      `json:"to"`
	SenderName           string      `json:"senderName"`
	Type                 string      `json:"type"`
	Body                 any         `json:"body"` // a list for orders, else text
	Caption              string      `json:"caption"`
	IsForwarded          bool        `json:"isForwarded"`
	Timestamp            string      `json:"timestamp"`
	Media                textOrFalse `json:"media"`
	Quote                textOrFalse `json:"quote"`
	QuoteUnique          textOrFalse `json:"quoteUnique"`
	ProfilePic           string      `json:"profilePic"`
	ConversationTimeLeft string      `json:"conversationTimeLeft"`
}

// textOrFalse is text, and false where there is none.
type textOrFalse string

func (t textOrFalse) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("false"), nil
	}
	return encode(string(t))
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
	Status string `json:"status"`
	Hook   string `json:"hook"`
	Unique string `json:"unique"`
	From   string `json:"from"`
	To     string `json:"to"`
	Ack    int    `json:"ack"`
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
		Code text `json:"code"`
	} `json:"error"`
}

// The rest is the incoming Cloud form, as far as hooks are made of it.

type envelope struct {
	Entry []struct {
		Time    text `json:"time"`
		Changes []struct {
			Field string `json:"field"`
			Value value  `json:"value"`
		} `json:"changes"`
	} `json:"entry"`
}

type value struct {
	Metadata struct {
		DisplayPhoneNumber text `json:"display_phone_number"`
	} `json:"metadata"`
	Contacts []contact `json:"contacts"`
	Messages []message `json:"messages"`
	Statuses []status  `json:"statuses"`

	// Members of account and template notices.
	Event              text `json:"event"`
	PhoneNumber        text `json:"phone_number"`
	DisplayPhoneNumber text `json:"display_phone_number"`
	CurrentLimit       text `json:"current_limit"`
	BusinessLimit      text `json:"max_daily_conversations_per_business"`
	PhoneLimit         text `json:"max_daily_conversation_per_phone"`
	TemplateName       text `json:"message_template_name"`
	NewQuality         text `json:"new_quality_score"`
	BanInfo            struct {
		State text `json:"waba_ban_state"`
	} `json:"ban_info"`
	AlertInfo struct {
		Status text `json:"alert_status"`
		Type   text `json:"alert_type"`
	} `json:"alert_info"`
}

type contact struct {
	Profile struct {
		Name     text `json:"name"`
		Username text `json:"username"`
	} `json:"profile"`
	WaID   text `json:"wa_id"`
	UserID text `json:"user_id"`
}

type message struct {
	From      text `json:"from"`
	UserID    text `json:"from_user_id"`
	GroupID   text `json:"group_id"`
	ID        text `json:"id"`
	Timestamp text `json:"timestamp"`
	Type      text `json:"type"`
	Context   struct {
		ID                  text `json:"id"`
		Forwarded           bool `json:"forwarded"`
		FrequentlyForwarded bool `json:"frequently_forwarded"`
	} `json:"context"`

	Text struct {
		Body text `json:"body"`
	} `json:"text"`
	Image    media `json:"image"`
	Video    media `json:"video"`
	Audio    media `json:"audio"`
	Voice    media `json:"voice"`
	Document media `json:"document"`
	Sticker  media `json:"sticker"`
	Location struct {
		Latitude  text `json:"latitude"`
		Longitude text `json:"longitude"`
	} `json:"location"`
	Contacts []struct {
		Phones []struct {
			Phone text `json:"phone"`
			WaID  text `json:"wa_id"`
		} `json:"phones"`
	} `json:"contacts"`
	Reaction struct {
		MessageID text `json:"message_id"`
		Emoji     text `json:"emoji"`
	} `json:"reaction"`
	Button struct {
		Text text `json:"text"`
	} `json:"button"`
	Interactive map[string]json.RawMessage `json:"interactive"`
	Order       struct {
		Text  text `json:"text"`
		Items []struct {
			ProductRetailerID text `json:"product_retailer_id"`
			Quantity          text `json:"quantity"`
			ItemPrice         text `json:"item_price"`
			Currency          text `json:"currency"`
		} `json:"product_items"`
	} `json:"order"`
	System struct {
		Body   text `json:"body"`
		UserID text `json:"user_id"`
	} `json:"system"`
	Unsupported struct {
		Type text `json:"type"`
	} `json:"unsupported"`
	Edit struct {
		OriginalMessageID text     `json:"original_message_id"`
		Message           *message `json:"message"`
	} `json:"edit"`
	Revoke struct {
		OriginalMessageID text `json:"original_message_id"`
	} `json:"revoke"`
}

type media struct {
	ID       text `json:"id"`
	Caption  text `json:"caption"`
	Filename text `json:"filename"`
	Voice    bool `json:"voice"`
}

// interactiveReply is the member of an interactive message that its type names.
type interactiveReply struct {
	Title        text `json:"title"`
	ResponseJSON text `json:"response_json"`
}

type status struct {
	ID              text `json:"id"`
	Status          text `json:"status"`
	Timestamp       text `json:"timestamp"`
	RecipientID     text `json:"recipient_id"`
	RecipientUserID text `json:"recipient_user_id"`
	RecipientType   text `json:"recipient_type"`
	CallbackData    text `json:"biz_opaque_callback_data"`
	Errors          []struct {
		Code text `json:"code"`
	} `json:"errors"`
}

// text reads a JSON string or the digits of a number, since Meta is not
// constant in which of them it sends, and the first of a list; all else is "".
type text string

func (t *text) UnmarshalJSON(raw []byte) error {
	*t = ""
	switch raw = bytes.TrimSpace(raw); {
	case raw[0] == '"':
		return json.Unmarshal(raw, (*string)(t))
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		*t = text(raw)
	case raw[0] == '[':
		var list []string
		_ = json.Unmarshal(raw, &list) // an element of another type is left empty
		if len(list) > 0 {
			*t = text(list[0])
		}
	}
	return nil
}

// number is the text as a JSON number, 0 if it isn't one.
func (t text) number() json.Number {
	var number json.Number
	if json.Unmarshal([]byte(t), &number) != nil || number == "" {
		return "0"
	}
	return number
}

// encode writes a hook: UTF-8, with "<", ">" and "&" left as they are.
func encode(value any) ([]byte, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(body.Bytes(), []byte("\n")), nil
}
