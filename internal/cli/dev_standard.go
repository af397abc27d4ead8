package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/waypost-gateway/waypost/internal/emulator"
)

// registerStandard makes an endpoint of the whole tenant. Waypost's own dialect
// has no other API than the management API.
func registerStandard(ctx context.Context, s *devStage, r *emulator.Receiver) (devAccount, error) {
	var made struct{ ID, Secret string }
	err := s.api.manage(ctx, http.MethodPost, "/api/v1/endpoints", map[string]any{
		"tenant_id": s.tenant, "dialect": "standard", "url": r.URL() + "/hooks",
	}, &made)
	if err != nil {
		return devAccount{}, err
	}
	return devAccount{
		secret: made.Secret,
		how:    "POST /api/v1/endpoints",
		show:   s.manageCurl("/api/v1/endpoints/" + made.ID),
	}, nil
}

func signedStandard(a devAccount, hook emulator.Request) error {
	return emulator.CheckStandard(a.secret, hook)
}

// hookStandard is what matters of a hook.
type hookStandard struct {
	ID, Type string
	Data     json.RawMessage
}

func readStandard(body []byte) devHook {
	var hook hookStandard
	var data struct {
		Message devMessage
		Status  struct {
			ID          string
			RecipientID string `json:"recipient_id"`
		}
	}
	if json.Unmarshal(body, &hook) != nil || hook.Type == "" || json.Unmarshal(hook.Data, &data) != nil {
		return unknownHook(body)
	}
	read := devHook{event: shortType(hook.Type)}
	switch {
	case data.Message.ID != "":
		read.key, read.what = data.Message.ID, data.Message.words()
	case data.Status.ID != "":
		read.key, read.what = data.Status.ID, "to "+data.Status.RecipientID
	default:
		read.what = string(hook.Data)
	}
	read.key = hook.Type + " " + read.key
	return read
}

// wantStandard: the receiver hears of everything, in one form. Meta's own
// message or status stands in it whole.
func wantStandard(item emulator.Item, step devStep) devWant {
	want := map[string]any{"type": item.Type, "data": step.published}
	if step.published == nil {
		want["timestamp"] = item.At.UTC().Format("2006-01-02T15:04:05.000Z")
		want["data"] = contentOf(item)
	}
	wanted := wantObject(want, readStandard)
	return devWant{wanted.key, func(request emulator.Request) error {
		var hook hookStandard
		if err := json.Unmarshal(request.Body, &hook); err != nil {
			return fmt.Errorf("read hook: %w", err)
		}
		if id := request.Header.Get("Webhook-Id"); id != hook.ID || id == "" {
			return fmt.Errorf("Webhook-Id is %q, but the body has %q", id, hook.ID)
		}
		return wanted.check(request)
	}}
}

// contentOf is the message or the status of an item, as Meta wrote it, under
// its name.
func contentOf(item emulator.Item) map[string]json.RawMessage {
	var cloud struct {
		Entry []struct {
			Changes []struct {
				Value struct{ Messages, Statuses []json.RawMessage }
			}
		}
	}
	if err := json.Unmarshal(emulator.Body(item), &cloud); err != nil {
		panic(err) // the emulator writes JSON
	}
	value := cloud.Entry[0].Changes[0].Value
	switch {
	case len(value.Messages) > 0:
		return map[string]json.RawMessage{"message": value.Messages[0]}
	case len(value.Statuses) > 0:
		return map[string]json.RawMessage{"status": value.Statuses[0]}
	default:
		return nil
	}
}
