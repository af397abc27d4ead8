// Package whizard is the dialect of Whizard, which kept the On-Premises
// generation of 360dialog's API under a header of its own: one key and one
// webhook per number, hooks in the form of the On-Premises API, refusals in its
// "meta" shape. A webhook can be replaced but not taken away, so nothing here
// ever clears one.
package whizard

import (
	"net/http"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/d360"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Dialect is Whizard's. The zero value is ready.
type Dialect struct{}

// New makes the dialect.
func New() Dialect { return Dialect{} }

// Info implements dialect.Dialect.
func (Dialect) Info() dialect.Info {
	return dialect.Info{
		ID:               "whizard",
		Title:            "Whizard",
		Docs:             "https://whizardapi.com/api/docs/use-of-whatsapp-api/webhooks",
		Events:           []string{"whatsapp.*"},
		Options:          []dialect.Option{d360.PayloadDefault(d360.PayloadOnPrem)},
		URL:              dialect.URLRules{Only443: true},
		Paths:            []string{pathWebhook, pathPhoneNumber, pathPhoneNumberShort},
		CredentialHeader: keyHeader,
		Keys:             &dialect.KeySpec{PerNumber: true},
	}
}

// Policy implements dialect.Dialect. Whichever form the hooks have, the retries
// are those of the On-Premises client.
func (Dialect) Policy(*waypost.Endpoint) waypost.Policy { return d360.PolicyOf(d360.PayloadOnPrem) }

func payloadOf(endpoint *waypost.Endpoint) string {
	return endpoint.OptionString(d360.OptionPayload, d360.PayloadOnPrem)
}

// Route implements dialect.Router: every endpoint on its own, as far as its
// form can tell of the event.
func (Dialect) Route(event *waypost.Event, endpoints []*waypost.Endpoint) []dialect.Target {
	return dialect.Targets(endpoints, func(e *waypost.Endpoint) bool { return d360.Takes(payloadOf(e), event.Type) })
}

// Encode implements dialect.Dialect. Hooks are not signed.
func (Dialect) Encode(item dialect.Item) (dialect.Hook, error) {
	body, err := d360.Body(item.Event, payloadOf(item.Endpoint))
	if err != nil {
		return dialect.Hook{}, err
	}
	return dialect.Hook{Body: body, Header: http.Header{}}, nil
}
