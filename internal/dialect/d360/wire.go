package d360

// Webhook is a webhook as the settings API shows it, header values in clear:
//
//	{"url":"https://hooks.acme.test/wa","headers":{"Authorization":"Basic …"}}
//
// One that is not set has an empty URL and no headers: clients read this to
// see whether their key is good, so it is an answer and not an error.
type Webhook struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
}

// wabaWebhook is the answer to GET /waba_webhook:
//
//	{"url":"…","headers":{},"waba_id":1740000000000001,"numbers_on_this_waba":["1060000000000001"]}
type wabaWebhook struct {
	Webhook
	WABAID  any      `json:"waba_id"`              // a JSON number
	Numbers []string `json:"numbers_on_this_waba"` // phone_number_ids
}

// destination is one clone in GET /multi_webhook:
//
//	{"enabled":true,"destinations":[{"name":"crm","url":"…","headers":{}}]}
type destination struct {
	Name string `json:"name"`
	Webhook
}

type multiWebhook struct {
	Enabled      bool          `json:"enabled"`
	Destinations []destination `json:"destinations"`
}

// done is the answer to a change of a WABA's or of further webhooks.
type done struct {
	Message string `json:"message"`
}

// phoneNumber answers GET /v1/configs/phone_number. Clients are known to read
// phone_number, and others display_phone_number and id.
type phoneNumber struct {
	PhoneNumber        string `json:"phone_number"`
	DisplayPhoneNumber string `json:"display_phone_number"`
	ID                 string `json:"id,omitempty"`
}

// cloudError is a refusal on Cloud hosting: {"error":"Invalid API key"}.
type cloudError struct {
	Error string `json:"error"`
}

// metaError is a refusal on On-Premises hosting; details, the members refused,
// stand in those of the caller's making only:
//
//	{"meta":{"success":false,"http_code":400,"developer_message":"…","details":["url"]}}
type metaError struct {
	Meta metaStatus `json:"meta"`
}

type metaStatus struct {
	Success          bool     `json:"success"`
	HTTPCode         int      `json:"http_code"`
	DeveloperMessage string   `json:"developer_message"`
	Details          []string `json:"details,omitzero"`
}
