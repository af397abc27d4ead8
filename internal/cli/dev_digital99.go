package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/waypost-gateway/waypost/internal/emulator"
)

// answer99digital is how both of 99digital's APIs answer: with status 200, and
// the outcome inside.
type answer99digital struct {
	Status string
	Reason int
}

func (a answer99digital) check() error {
	if a.Status != "OK" || a.Reason != 1 {
		return fmt.Errorf("it was answered %s, reason %d", a.Status, a.Reason)
	}
	return nil
}

// register99digital sets the first number's webhook, with status hooks and
// retries switched on.
func register99digital(ctx context.Context, s *devStage, r *emulator.Receiver) (devAccount, error) {
	const set, get = "/whatsapp/v2/setWebhook", "/whatsapp/v2/getWebhook"
	key, err := s.numberKey(ctx, "99digital")
	if err != nil {
		return devAccount{}, err
	}
	credentials := map[string]any{"apiKey": key.Key, "from": s.meta.Numbers()[0].Phone}
	show, err := json.Marshal(credentials)
	if err != nil {
		return devAccount{}, err
	}
	credentials["url"], credentials["readStatus"], credentials["retry"] = r.URL()+"/hooks", 1, 1
	var answer answer99digital
	if err := s.api.call(ctx, http.MethodPost, set, nil, credentials, &answer); err != nil {
		return devAccount{}, err
	}
	return devAccount{
		how:  "POST " + set + ", readStatus and retry on",
		show: s.curl(get, "Content-Type: application/json", "-d "+quote(string(show))),
	}, answer.check()
}

// hook99digital is what matters of a V2 hook.
type hook99digital struct {
	Hook, Unique, Type, From, Caption string
	Body                              any // a list for orders, else text
	Ack                               int
}

func read99digital(body []byte) devHook {
	var hook hook99digital
	if json.Unmarshal(body, &hook) != nil || hook.Hook == "" {
		return unknownHook(body)
	}
	if hook.Hook == "update" {
		return devHook{
			key: fmt.Sprint("update ", hook.Unique, " ", hook.Ack), event: fmt.Sprint("update, ack ", hook.Ack),
			what: "to " + hook.From,
		}
	}
	what := hook.Caption
	if text, ok := hook.Body.(string); ok && what == "" {
		what = text
	}
	return devHook{key: hook.Hook + " " + hook.Unique, event: hook.Hook + ", " + hook.Type, what: what}
}

// acks99digital are the statuses in the provider's numbers.
var acks99digital = map[string]int{
	"whatsapp.status.failed": 0, "whatsapp.status.sent": 1, "whatsapp.status.delivered": 2, "whatsapp.status.read": 3,
}

func want99digital(item emulator.Item, step devStep) devWant {
	if step.published != nil {
		return devWant{}
	}
	want := map[string]any{"status": "OK", "unique": item.ID, "from": item.From, "to": item.Number.Phone}
	if ack, isStatus := acks99digital[item.Type]; isStatus {
		want["hook"], want["ack"] = "update", ack
		return wantObject(want, read99digital)
	}
	want["hook"], want["timestamp"] = "new", fmt.Sprint(item.At.Unix())
	m := messageIn(item)
	switch m.Type {
	case "text":
		want["type"], want["body"] = "text", m.Text.Body
	case "image": // the body is a link to the file
		want["type"], want["caption"] = "image", m.Image.Caption
	case "interactive":
		want["type"], want["body"] = "button", m.Interactive.ButtonReply.Title
	case "location":
		want["type"], want["body"] = "location", m.Location.Latitude.String()+","+m.Location.Longitude.String()
	}
	return wantObject(want, read99digital)
}

// wantObject is a hook that holds all of the given members.
func wantObject(members map[string]any, read func([]byte) devHook) devWant {
	body, err := json.Marshal(members)
	if err != nil {
		panic(err) // texts and numbers always have a JSON form
	}
	return devWant{read(body).key, func(hook emulator.Request) error { return emulator.HoldsJSON(body, hook.Body) }}
}

// registerPartner trades the partner's credentials for a token, as its clients
// do, and sets the account's one URL.
func registerPartner(ctx context.Context, s *devStage, r *emulator.Receiver) (devAccount, error) {
	const token, set, get = "/api/settings/accessToken", "/api/settings/setWebhook", "/api/settings/getWebhook"
	key, err := s.tenantKey(ctx, "99digital-partner")
	if err != nil {
		return devAccount{}, err
	}
	var granted struct {
		answer99digital
		AccessToken string `json:"access_token"`
	}
	credentials := map[string]string{"client_id": key.ClientID, "client_secret": key.ClientSecret}
	if err := s.api.call(ctx, http.MethodPost, token, nil, credentials, &granted); err != nil {
		return devAccount{}, err
	}
	if err := granted.check(); err != nil {
		return devAccount{}, err
	}
	bearer := "Bearer " + granted.AccessToken
	var answer answer99digital
	err = s.api.call(ctx, http.MethodPost, set, map[string]string{"Authorization": bearer}, map[string]string{
		"url": r.URL() + "/hooks",
	}, &answer)
	if err != nil {
		return devAccount{}, err
	}
	return devAccount{how: "POST " + set + " with an hour's token", show: s.curl(get, "Authorization: "+bearer)}, answer.check()
}

func readPartner(body []byte) devHook {
	var hook struct {
		Event, Whatsapp string
		ExtraInfo       int `json:"whatsapp_extra_info"`
	}
	if json.Unmarshal(body, &hook) != nil || hook.Event == "" {
		return unknownHook(body)
	}
	if hook.Event != "whatsapp" {
		return devHook{key: string(body), event: hook.Event, what: "(see the body)"}
	}
	return devHook{
		key:   fmt.Sprint(hook.Event, " ", hook.Whatsapp, " ", hook.ExtraInfo),
		event: hook.Event, what: fmt.Sprint(hook.Whatsapp, ": step ", hook.ExtraInfo),
	}
}

// wantPartner: the partner hears of accounts, never of messages.
func wantPartner(item emulator.Item, step devStep) devWant {
	if item.Type != "platform.whatsapp" {
		return devWant{}
	}
	want := map[string]any{"status": "OK", "event": "whatsapp"}
	for name, value := range step.published {
		want[name] = value
	}
	return wantObject(want, readPartner)
}
