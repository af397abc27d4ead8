package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/waypost-gateway/waypost/internal/emulator"
)

// registerConnectly registers one address for messages and one for the statuses
// of those that were sent.
func registerConnectly(ctx context.Context, s *devStage, r *emulator.Receiver) (devAccount, error) {
	key, err := s.tenantKey(ctx, "connectly")
	if err != nil {
		return devAccount{}, err
	}
	business := "/v1/businesses/" + key.BusinessID
	for _, topic := range []string{"messages", "delivery_status"} {
		err := s.api.call(ctx, http.MethodPost, business+"/create/webhooks", map[string]string{"X-API-Key": key.Key}, map[string]any{
			"topic": topic, "address": r.URL() + "/hooks/" + topic,
		}, nil)
		if err != nil {
			return devAccount{}, err
		}
	}
	return devAccount{
		secret: key.SigningSecret,
		how:    "POST /v1/businesses/{id}/create/webhooks, two topics",
		show:   s.curl(business+"/webhooks", "X-API-Key: "+key.Key),
	}, nil
}

func signedByConnectly(a devAccount, hook emulator.Request) error {
	return emulator.CheckBase64("X-Connectly-Hmac-Sha256", a.secret, hook)
}

// hookConnectly is what matters of a hook. Messages have no id: who wrote to
// whom, when and what stands for it.
type hookConnectly struct {
	Topic             string
	Timestamp         string
	Sender, Recipient struct{ ID string }
	Message           struct {
		Text        string
		Attachments []struct{ Type string }
		Location    struct{ Name string }
	}
	ButtonResponse struct{ Text string }
	StatusUpdate   struct{ ID, Status string }
}

func readConnectly(body []byte) devHook {
	var hook hookConnectly
	if json.Unmarshal(body, &hook) != nil || hook.Topic == "" {
		return unknownHook(body)
	}
	if status := hook.StatusUpdate; status.Status != "" {
		return devHook{
			key: "status " + status.ID + " " + status.Status, event: status.Status,
			what: "to " + hook.Recipient.ID,
		}
	}
	what := cmp.Or(hook.Message.Text, hook.Message.Location.Name, hook.ButtonResponse.Text)
	for _, attachment := range hook.Message.Attachments {
		what = strings.TrimSpace(attachment.Type + " " + what)
	}
	return devHook{
		key:   strings.Join([]string{hook.Topic, hook.Timestamp, hook.Sender.ID, hook.Recipient.ID}, " "),
		event: hook.Topic, what: what,
	}
}

// statusesConnectly are the statuses in the provider's words.
var statusesConnectly = map[string]string{
	"whatsapp.status.sent": "sent", "whatsapp.status.delivered": "delivered", "whatsapp.status.read": "read",
	"whatsapp.status.failed": "delivery_failed",
}

func wantConnectly(item emulator.Item, step devStep) devWant {
	if step.published != nil {
		return devWant{}
	}
	customer := map[string]string{"id": "+" + item.From, "channelType": "whatsapp"}
	business := map[string]string{"id": "+" + item.Number.Phone, "channelType": "whatsapp"}
	want := map[string]any{"timestamp": fmt.Sprint(item.At.Unix())}
	if status, isStatus := statusesConnectly[item.Type]; isStatus {
		want["topic"], want["sender"], want["recipient"] = "delivery_status", business, customer
		want["statusUpdate"] = map[string]string{"id": item.ID, "status": status}
		return wantObject(want, readConnectly)
	}
	want["topic"], want["sender"], want["recipient"] = "messages", customer, business
	m := messageIn(item)
	switch m.Type {
	case "text":
		want["message"] = map[string]string{"text": m.Text.Body}
	case "image":
		want["message"] = map[string]any{"text": m.Image.Caption, "attachments": []any{map[string]string{"type": "image"}}}
	case "interactive":
		want["buttonResponse"] = map[string]string{"text": m.Interactive.ButtonReply.Title, "payload": m.Interactive.ButtonReply.ID}
	case "location":
		want["message"] = map[string]any{"location": map[string]any{"latitude": m.Location.Latitude, "longitude": m.Location.Longitude}}
	}
	return wantObject(want, readConnectly)
}
