package connectly

import (
	"bytes"
	"encoding/json"
	"errors"
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
var faultCodes = map[text]string{
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
type messageHook struct {
	Topic          string          `json:"topic"`
	Timestamp      string          `json:"timestamp"` // seconds
	Sender         party           `json:"sender"`
	Recipient      party           `json:"recipient"`
	Context        *reply          `json:"context,omitempty"`
	Message        *message        `json:"message,omitempty"`
	ButtonResponse *buttonResponse `json:"buttonResponse,omitempty"`
	Metadata       *campaign       `json:"metadata"` // null: a message names no campaign
}

// party is the business, or the customer. Of a customer with a user id both the
// id and the phone are told; a phone that is hidden is empty, and the user id
// stands in for it:
//
//	{"id":"ES.4002200118","channelType":"whatsapp","name":"Lucia","userId":"ES.4002200118","phoneNumber":""}
type party struct {
	ID          string  `json:"id"`
	ChannelType string  `json:"channelType"`
	Name        *string `json:"name"`
	UserID      string  `json:"userId,omitempty"`
	PhoneNumber *string `json:"phoneNumber,omitempty"`
}

type reply struct {
	ReplyToID string `json:"replyToId"`
}

type message struct {
	Text        *string      `json:"text,omitempty"`
	Attachments []attachment `json:"attachments,omitempty"`
	Location    *location    `json:"location,omitempty"`
	Referral    *referral    `json:"referral,omitempty"`
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
	CtwaClid     text `json:"ctwaClid,omitempty"`
	SourceURL    text `json:"sourceUrl,omitempty"`
	SourceID     text `json:"sourceId,omitempty"`
	SourceType   text `json:"sourceType,omitempty"`
	Headline     text `json:"headline,omitempty"`
	Body         text `json:"body,omitempty"`
	MediaType    text `json:"mediaType,omitempty"`
	ImageURL     text `json:"imageUrl,omitempty"`
	VideoURL     text `json:"videoUrl,omitempty"`
	ThumbnailURL text `json:"thumbnailUrl,omitempty"`
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
type statusHook struct {
	Topic        string          `json:"topic"`
	Timestamp    string          `json:"timestamp"`
	Sender       party           `json:"sender"`
	Recipient    party           `json:"recipient"`
	StatusUpdate statusUpdate    `json:"statusUpdate"`
	CallbackData json.RawMessage `json:"callbackData,omitempty"`
	Metadata     *campaign       `json:"metadata"`
}

// statusUpdate has metadata where the message was not delivered.
type statusUpdate struct {
	ID       string          `json:"id"`
	Status   string          `json:"status"`
	Error    *fault          `json:"error"`
	Metadata *failedCampaign `json:"metadata,omitempty"`
}

type campaign struct {
	Name string `json:"campaign_name"`
}

// failedCampaign has both spellings of the provider's pages.
type failedCampaign struct {
	Name      string `json:"campaign_name"`
	CamelName string `json:"campaignName"`
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
	Timestamp text            `json:"timestamp"`
	Report    json.RawMessage `json:"report"`
}

// The rest is the incoming Cloud form, as far as hooks are made of it.

type envelope struct {
	Entry []struct {
		Changes []struct {
			Value value `json:"value"`
		} `json:"changes"`
	} `json:"entry"`
}

type value struct {
	Metadata struct {
		DisplayPhoneNumber text `json:"display_phone_number"`
	} `json:"metadata"`
	Contacts []contact  `json:"contacts"`
	Messages []incoming `json:"messages"`
	Echoes   []incoming `json:"message_echoes"`
	Statuses []status   `json:"statuses"`
}

type contact struct {
	Profile struct {
		Name text `json:"name"`
	} `json:"profile"`
	WaID     text `json:"wa_id"`
	UserID   text `json:"user_id"`
	ParentID text `json:"parent_user_id"`
}

// incoming is a message; to and to_user_id name the customer in an echo.
type incoming struct {
	From      text `json:"from"`
	UserID    text `json:"from_user_id"`
	To        text `json:"to"`
	ToUserID  text `json:"to_user_id"`
	ID        text `json:"id"`
	Timestamp text `json:"timestamp"`
	Type      text `json:"type"`
	Context   struct {
		ID text `json:"id"`
	} `json:"context"`
	Referral incomingReferral `json:"referral"`

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
		Latitude  json.RawMessage `json:"latitude"`
		Longitude json.RawMessage `json:"longitude"`
		Name      text            `json:"name"`
		Address   text            `json:"address"`
		URL       text            `json:"url"`
	} `json:"location"`
	Contacts []card `json:"contacts"`
	Reaction struct {
		MessageID text `json:"message_id"`
		Emoji     text `json:"emoji"`
	} `json:"reaction"`
	Button struct {
		Text    text `json:"text"`
		Payload text `json:"payload"`
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
		OriginalMessageID text      `json:"original_message_id"`
		Message           *incoming `json:"message"`
	} `json:"edit"`
	Revoke struct {
		OriginalMessageID text `json:"original_message_id"`
	} `json:"revoke"`
}

type incomingReferral struct {
	CtwaClid     text `json:"ctwa_clid"`
	SourceURL    text `json:"source_url"`
	SourceID     text `json:"source_id"`
	SourceType   text `json:"source_type"`
	Headline     text `json:"headline"`
	Body         text `json:"body"`
	MediaType    text `json:"media_type"`
	ImageURL     text `json:"image_url"`
	VideoURL     text `json:"video_url"`
	ThumbnailURL text `json:"thumbnail_url"`
}

type media struct {
	ID      text `json:"id"`
	Caption text `json:"caption"`
}

// card is one of the contacts that a message shares.
type card struct {
	Name struct {
		FormattedName text `json:"formatted_name"`
		FirstName     text `json:"first_name"`
	} `json:"name"`
	Org struct {
		Company text `json:"company"`
	} `json:"org"`
	Phones []struct {
		Phone text `json:"phone"`
		WaID  text `json:"wa_id"`
	} `json:"phones"`
	Emails []struct {
		Email text `json:"email"`
	} `json:"emails"`
}

// interactiveReply is the member of an interactive message that its type names.
type interactiveReply struct {
	ID           text `json:"id"`
	Title        text `json:"title"`
	ResponseJSON text `json:"response_json"`
}

// status is the status of a sent message; message.recipient_id is where some
// On-Premises clients have the recipient.
type status struct {
	ID              text              `json:"id"`
	Timestamp       text              `json:"timestamp"`
	RecipientID     text              `json:"recipient_id"`
	RecipientUserID text              `json:"recipient_user_id"`
	Participant     text              `json:"recipient_participant_id"`
	ParticipantAlt  text              `json:"participant_recipient_id"`
	ParticipantUser text              `json:"recipient_participant_user_id"`
	CallbackData    json.RawMessage   `json:"biz_opaque_callback_data"`
	Errors          []json.RawMessage `json:"errors"`
	Message         struct {
		RecipientID text `json:"recipient_id"`
	} `json:"message"`
}

// issue is one of a status's errors. The On-Premises client had details where
// the Cloud API has error_data.
type issue struct {
	Code      text `json:"code"`
	Title     text `json:"title"`
	Message   text `json:"message"`
	Details   text `json:"details"`
	ErrorData struct {
		Details text `json:"details"`
	} `json:"error_data"`
}

// text reads a JSON string or the digits of a number, since Meta is not
// constant in which of them it sends; all else is "".
type text string

func (t *text) UnmarshalJSON(raw []byte) error {
	*t = ""
	switch raw = bytes.TrimSpace(raw); {
	case raw[0] == '"':
		return json.Unmarshal(raw, (*string)(t))
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		*t = text(raw)
	}
	return nil
}

// decode reads JSON. A member of an unexpected type is as good as absent.
func decode(raw []byte, into any) error {
	err := json.Unmarshal(raw, into)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return nil
	}
	return err
}

// encode writes JSON: UTF-8, with "<", ">" and "&" left as they are.
func encode(value any) ([]byte, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(body.Bytes(), []byte("\n")), nil
}
