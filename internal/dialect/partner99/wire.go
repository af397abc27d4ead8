package partner99

import "encoding/json"

// tokenIssued answers accessToken; expiration_time is unix seconds, as text:
//
//	{"status":"OK","access_token":"…","expiration_time":"1767229200","token_type":"Bearer","reason":1}
type tokenIssued struct {
	Status         string `json:"status"`
	AccessToken    string `json:"access_token"`
	ExpirationTime string `json:"expiration_time"`
	TokenType      string `json:"token_type"`
	Reason         int    `json:"reason"`
}

// webhook answers setWebhook and getWebhook:
//
//	{"status":"OK","url":"https://hooks.acme.test/partner","reason":1}
type webhook struct {
	Status string `json:"status"`
	URL    string `json:"url"`
	Reason int    `json:"reason"`
}

// refusal answers a call that failed: {"status":"FAIL","reason":3}.
type refusal struct {
	Status string `json:"status"`
	Reason int    `json:"reason"`
}

// The hooks are written from data that is read into the same members. The first
// two members of each are set here, never taken from the data.

// whatsappHook tells of a WhatsApp account. daily_limit and whatsapp_apiKey are
// only there with the codes 1 to 3:
//
//	{"status":"OK","event":"whatsapp","whatsapp":"972501234567","whatsapp_reference":"1234567",
//	 "whatsapp_extra_info":2,"daily_limit":250,"whatsapp_apiKey":"123-456-789"}
type whatsappHook struct {
	Status     string      `json:"status"`
	Event      string      `json:"event"`
	WhatsApp   text        `json:"whatsapp"`
	Reference  text        `json:"whatsapp_reference"`
	ExtraInfo  json.Number `json:"whatsapp_extra_info"`
	DailyLimit json.Number `json:"daily_limit,omitempty"`
	APIKey     text        `json:"whatsapp_apiKey,omitempty"`
}

// builderHook tells of a builder:
//
//	{"status":"OK","event":"builder","builderID":523,"builder_url":"https://builder.acme.test/523",
//	 "builder_reference":"63f563","builder_extra_info":1}
type builderHook struct {
	Status    string      `json:"status"`
	Event     string      `json:"event"`
	ID        json.Number `json:"builderID,omitempty"`
	URL       text        `json:"builder_url,omitempty"`
	Reference text        `json:"builder_reference"`
	ExtraInfo json.Number `json:"builder_extra_info"`
}

// onlineHook tells of an account in the omnichannel inbox:
//
//	{"status":"OK","event":"online","accountID":523,"agentID":14,"inboxID":3,"server":"online",
//	 "online_reference":"5234-my-code","online_extra_info":7}
type onlineHook struct {
	Status    string      `json:"status"`
	Event     string      `json:"event"`
	AccountID json.Number `json:"accountID,omitempty"`
	AgentID   json.Number `json:"agentID,omitempty"`
	InboxID   json.Number `json:"inboxID,omitempty"`
	Server    text        `json:"server,omitempty"`
	Reference text        `json:"online_reference"`
	ExtraInfo json.Number `json:"online_extra_info"`
}

// text reads a JSON string, and a number as its digits.
type text string

func (t *text) UnmarshalJSON(raw []byte) error {
	if raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9' {
		*t = text(raw)
		return nil
	}
	return json.Unmarshal(raw, (*string)(t))
}
