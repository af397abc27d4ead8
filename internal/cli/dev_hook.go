package cli

import (
	"cmp"
	"encoding/json"

	"github.com/waypost-gateway/waypost/internal/emulator"
)

// devHook is what the table and the judge read out of a hook: what it is about,
// in a few words, and a key that is the same for every try of the same hook and
// differs between hooks.
type devHook struct {
	key   string
	event string // "message.text", "status.read"
	what  string
}

// devValue is what a Cloud webhook has as "value" and an On-Premises callback
// at its top.
type devValue struct {
	Messages []devMessage
	Statuses []struct {
		ID, Status  string
		RecipientID string `json:"recipient_id"`
	}
	Errors []struct{ Title string }
}

type devMessage struct {
	ID, Type string
	Text     struct{ Body string }
	Image    struct{ Caption string }
	Video    struct{ Caption string }
	Document struct{ Filename string }
	Location struct {
		Name                string
		Latitude, Longitude json.Number
	}
	Button      struct{ Text string }
	Reaction    struct{ Emoji string }
	Interactive struct {
		ButtonReply struct{ ID, Title string } `json:"button_reply"`
		ListReply   struct{ Title string }     `json:"list_reply"`
	}
}

// words are the words a person would recognise the message by.
func (m devMessage) words() string {
	return cmp.Or(m.Text.Body, m.Image.Caption, m.Video.Caption, m.Document.Filename, m.Location.Name, m.Button.Text,
		m.Reaction.Emoji, m.Interactive.ButtonReply.Title, m.Interactive.ListReply.Title, "(no text)")
}

// messageIn is the message of an item that is one, as the Cloud API writes it.
func messageIn(item emulator.Item) devMessage {
	var cloud devCloud
	if json.Unmarshal(emulator.Body(item), &cloud) != nil || len(cloud.Entry[0].Changes[0].Value.Messages) == 0 {
		return devMessage{}
	}
	return cloud.Entry[0].Changes[0].Value.Messages[0]
}

// devCloud is the Cloud API's envelope.
type devCloud struct {
	Entry []struct {
		Changes []struct {
			Field string
			Value devValue
		}
	}
}

// readCloud reads a body in the Cloud API's form with one item in it.
func readCloud(body []byte) devHook {
	var cloud devCloud
	if json.Unmarshal(body, &cloud) != nil || len(cloud.Entry) == 0 || len(cloud.Entry[0].Changes) == 0 {
		return unknownHook(body)
	}
	change := cloud.Entry[0].Changes[0]
	if hook, ok := change.Value.read("Cloud"); ok {
		return hook
	}
	return devHook{key: change.Field + string(body), event: change.Field, what: "Cloud"}
}

// readOnPrem reads a callback of the On-Premises client's form.
func readOnPrem(body []byte) devHook {
	var value devValue
	if json.Unmarshal(body, &value) == nil {
		if hook, ok := value.read("On-Prem"); ok {
			return hook
		}
	}
	return unknownHook(body)
}

func (v devValue) read(form string) (devHook, bool) {
	switch {
	case len(v.Messages) > 0:
		m := v.Messages[0]
		event := "message." + m.Type
		return devHook{key: event + " " + m.ID, event: event, what: form + ": " + m.words()}, true
	case len(v.Statuses) > 0:
		s := v.Statuses[0]
		event := "status." + s.Status
		return devHook{key: event + " " + s.ID, event: event, what: form + ": to " + s.RecipientID}, true
	case len(v.Errors) > 0:
		return devHook{key: "error " + v.Errors[0].Title, event: "error", what: form + ": " + v.Errors[0].Title}, true
	default:
		return devHook{}, false
	}
}

func unknownHook(body []byte) devHook {
	return devHook{key: string(body), event: "?", what: string(body[:min(len(body), 80)])}
}
