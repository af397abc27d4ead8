// Package d360 is the dialect of 360dialog: the settings API that its customers
// set their webhooks with, and hooks in Meta's Cloud form or, for receivers
// written for the retired On-Premises API, in that one's form.
//
// A number has one webhook, its business account (WABA) has one, and of the two
// the number's counts as soon as it has a URL: that is the number's main
// webhook. Up to three more receivers, if switched on, get a clone of each hook
// once the main one has received it. Taking a URL away leaves the endpoint in
// its place, so that what it is owed is held and goes to the next URL.
//
// Parts that Whizard's dialect shares, as a relative of the On-Premises
// generation, are exported.
package d360

import (
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// The slots of a webhook. A clone's is multiPrefix and its name.
const (
	SlotNumber  = "number"
	slotWABA    = "waba"
	multiPrefix = "multi:"
)

// OptionPayload names the option that says which form the hooks have.
const OptionPayload = "payload"

// The values of OptionPayload.
const (
	PayloadCloud  = "cloud"  // Meta's Cloud form, byte for byte
	PayloadOnPrem = "onprem" // the form of the retired On-Premises API
)

// optionMulti, on the number's own webhook, switches its clones on.
const optionMulti = "multi_webhook"

// Dialect is 360dialog's. The zero value is ready.
type Dialect struct{}

// New makes the dialect.
func New() Dialect { return Dialect{} }

// Info implements dialect.Dialect.
func (Dialect) Info() dialect.Info {
	return dialect.Info{
		ID:     "360dialog",
		Title:  "360dialog",
		Docs:   "https://docs.360dialog.com/docs/messaging/webhook",
		Events: []string{"whatsapp.*"},
		Options: []dialect.Option{
			PayloadDefault(PayloadCloud),
			{
				Name: optionMulti, Type: dialect.OptionFlag, Default: false, Internal: true,
				Doc: "Whether the number's further webhooks get a clone of each hook.",
			},
		},
		URL: dialect.URLRules{NoPort: true, NoUnderscore: true},
		Paths: []string{
			pathWebhook, "/configs/webhook", pathPhoneNumber,
			pathWABA, "/v1" + pathWABA, pathMulti, "/v1" + pathMulti,
		},
		CredentialHeader: keyHeader,
		Keys:             &dialect.KeySpec{PerNumber: true, ClearsWebhook: true},
	}
}

// PayloadDefault is the payload option with the given default.
func PayloadDefault(payload string) dialect.Option {
	return dialect.Option{
		Name: OptionPayload, Type: dialect.OptionText, Default: payload, Enum: []string{PayloadCloud, PayloadOnPrem},
		Doc: "Form of the hooks: Meta's Cloud form, or that of the retired On-Premises API, which only tells of messages, statuses and errors.",
	}
}

// Policy implements dialect.Dialect.
func (Dialect) Policy(endpoint *waypost.Endpoint) waypost.Policy {
	return PolicyOf(payloadOf(endpoint))
}

// The schedules; built once, since every attempt asks for one.
var (
	cloudSchedule  = waypost.Doubling(5*time.Second, time.Hour, 7*24*time.Hour)
	onPremSchedule = waypost.Doubling(3*time.Second, 15*time.Minute, 24*time.Hour)
)

// PolicyOf is the policy for hooks of the given form: status 200 within 5
// seconds, and retries for 7 days, or for 24 hours on the On-Premises clock.
func PolicyOf(payload string) waypost.Policy {
	policy := waypost.Policy{
		Success:  waypost.Success200,
		Timeout:  5 * time.Second,
		Schedule: cloudSchedule,
	}
	if payload == PayloadOnPrem {
		policy.Schedule = onPremSchedule
	}
	return policy
}

func payloadOf(endpoint *waypost.Endpoint) string {
	return endpoint.OptionString(OptionPayload, PayloadCloud)
}

// Route implements dialect.Router: the number's main webhook and its clones,
// and on its own every endpoint that was made through the management API. What
// the main webhook takes no hook for is not cloned either.
func (Dialect) Route(event *waypost.Event, endpoints []*waypost.Endpoint) []dialect.Target {
	var targets []dialect.Target
	var number, main *waypost.Endpoint
	var clones []*waypost.Endpoint
	for _, endpoint := range endpoints {
		switch {
		case endpoint.Slot == SlotNumber:
			number = endpoint
		case endpoint.URL == "":
		case endpoint.Slot == slotWABA:
			main = endpoint
		case strings.HasPrefix(endpoint.Slot, multiPrefix):
			clones = append(clones, endpoint)
		case takes(endpoint, event):
			targets = append(targets, dialect.Target{Endpoint: endpoint})
		}
	}
	if number != nil && number.URL != "" {
		main = number
	}
	if main != nil {
		if !takes(main, event) {
			return targets
		}
		targets = append(targets, dialect.Target{Endpoint: main})
	}
	if number == nil || !number.OptionBool(optionMulti, false) {
		return targets
	}
	for _, clone := range clones {
		if takes(clone, event) {
			targets = append(targets, dialect.Target{Endpoint: clone, After: main})
		}
	}
	return targets
}

func takes(endpoint *waypost.Endpoint, event *waypost.Event) bool {
	return Takes(payloadOf(endpoint), event.Type)
}

// Takes reports whether hooks of the given form tell of events of the type:
// the On-Premises form only has messages, statuses and errors.
func Takes(payload, eventType string) bool {
	return payload != PayloadOnPrem || eventType == waypost.TypeError ||
		strings.HasPrefix(eventType, waypost.TypeMessagePrefix) ||
		strings.HasPrefix(eventType, waypost.TypeStatusPrefix)
}
