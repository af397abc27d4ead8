package meta

import (
	"encoding/json"
	"reflect"
)

// Message is a message that came in, or, as an echo, one that the business
// sent. Type names the member that holds its content.
type Message struct {
	From      Text `json:"from"`
	UserID    Text `json:"from_user_id"`
	To        Text `json:"to"` // of an echo
	ToUserID  Text `json:"to_user_id"`
	GroupID   Text `json:"group_id"`
	ID        Text `json:"id"`
	Timestamp Text `json:"timestamp"` // unix seconds
	Type      Text `json:"type"`
	Context   struct {
		ID                  Text `json:"id"` // of the message that this one answers
		Forwarded           bool `json:"forwarded"`
		FrequentlyForwarded bool `json:"frequently_forwarded"`
	} `json:"context"`
	Referral Referral `json:"referral"`

	Text struct {
		Body Text `json:"body"`
	} `json:"text"`
	Image    Media `json:"image"`
	Video    Media `json:"video"`
	Audio    Media `json:"audio"`
	Voice    Media `json:"voice"` // of On-Premises clients; in the Cloud form audio with a flag
	Document Media `json:"document"`
	Sticker  Media `json:"sticker"`
	Location struct {
		Latitude  json.RawMessage `json:"latitude"`
		Longitude json.RawMessage `json:"longitude"`
		Name      Text            `json:"name"`
		Address   Text            `json:"address"`
		URL       Text            `json:"url"`
	} `json:"location"`
	Contacts []Card `json:"contacts"`
	Reaction struct {
		MessageID Text `json:"message_id"`
		Emoji     Text `json:"emoji"` // empty: the reaction was taken back
	} `json:"reaction"`
	Button struct {
		Text    Text `json:"text"`
		Payload Text `json:"payload"`
	} `json:"button"`
	Interactive map[string]json.RawMessage `json:"interactive"` // see Answer
	Order       struct {
		Text  Text      `json:"text"`
		Items []Product `json:"product_items"`
	} `json:"order"`
	System struct {
		Body   Text `json:"body"`
		UserID Text `json:"user_id"`
	} `json:"system"`
	Unsupported struct {
		Type Text `json:"type"`
	} `json:"unsupported"`
	Edit struct {
		OriginalMessageID Text     `json:"original_message_id"`
		Message           *Message `json:"message"` // as it is now
	} `json:"edit"`
	Revoke struct {
		OriginalMessageID Text `json:"original_message_id"`
	} `json:"revoke"`
}

// Media is a file.
type Media struct {
	ID       Text `json:"id"`
	Caption  Text `json:"caption"`
	Filename Text `json:"filename"`
	Voice    bool `json:"voice"` // of audio: recorded in the chat
}

// Card is one of the contacts that a message shares.
type Card struct {
	Name struct {
		FormattedName Text `json:"formatted_name"`
		FirstName     Text `json:"first_name"`
	} `json:"name"`
	Org struct {
		Company Text `json:"company"`
	} `json:"org"`
	Phones []struct {
		Phone Text `json:"phone"`
		WaID  Text `json:"wa_id"`
	} `json:"phones"`
	Emails []struct {
		Email Text `json:"email"`
	} `json:"emails"`
}

// Product is one line of an order.
type Product struct {
	RetailerID Text `json:"product_retailer_id"`
	Quantity   Text `json:"quantity"`
	ItemPrice  Text `json:"item_price"`
	Currency   Text `json:"currency"`
}

// Referral is the advertisement that led the customer here.
type Referral struct {
	CtwaClid     Text `json:"ctwa_clid"`
	SourceURL    Text `json:"source_url"`
	SourceID     Text `json:"source_id"`
	SourceType   Text `json:"source_type"`
	Headline     Text `json:"headline"`
	Body         Text `json:"body"`
	MediaType    Text `json:"media_type"`
	ImageURL     Text `json:"image_url"`
	VideoURL     Text `json:"video_url"`
	ThumbnailURL Text `json:"thumbnail_url"`
}

// Answer is what a customer answered to a message with choices. Answers of a
// kind without a title have the others, or nothing but Raw.
type Answer struct {
	Kind         Text            `json:"-"` // button_reply, list_reply, nfm_reply …
	Raw          json.RawMessage `json:"-"`
	ID           Text            `json:"id"`
	Title        Text            `json:"title"`
	ResponseJSON Text            `json:"response_json"` // of a flow
}

// Answer gives the member of an interactive message that its type names; ok is
// false if there is none.
func (m *Message) Answer() (answer Answer, ok bool) {
	kind := TextOf(m.Interactive["type"])
	raw, ok := m.Interactive[string(kind)]
	if !ok {
		return Answer{}, false
	}
	if d, err := parseDeep(raw); err == nil { // it was read once already
		readAnswer(d, root, reflect.ValueOf(&answer).Elem())
		d.release()
	}
	answer.Kind, answer.Raw = kind, raw
	return answer, true
}
