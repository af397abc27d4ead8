// Package standard is Waypost's own dialect: one JSON form for every event,
// signed as the Standard Webhooks specification says, so that receivers check
// hooks with a library they may already have.
//
// A hook is {"id","type","timestamp","tenant_id","number_id","data"}. id is the
// event's id, the same at every attempt and in the header webhook-id: receivers
// tell repeats by it. data of an event that was published is what was
// published, byte for byte. data of a WhatsApp event has the parts of Meta's
// body under plain names, each with the very bytes it had: no number is ever
// rounded, and no member is lost because it is new. What a type's data looks
// like is told by its JSON Schema, see SchemaHandler.
//
// Every secret in force signs, so that a secret can be changed without a hook
// being refused meanwhile. An endpoint that asks for it also gets Ed25519
// signatures; the keys are derived from the secrets and there is nothing more
// to keep. Without a secret nothing is sent: a receiver that checks would refuse
// it, one that doesn't should not be taught to.
//
// There is no settings API; endpoints are made through the management API.
package standard

import (
	"net/http"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// The option that says how hooks are signed, and its values.
const (
	optionSignature = "signature"
	schemeHMAC      = "v1"
	schemeEd25519   = "v1a"
)

// Dialect is Waypost's own. The zero value is ready.
type Dialect struct{}

// New makes the dialect.
func New() Dialect { return Dialect{} }

// Info implements dialect.Dialect.
func (Dialect) Info() dialect.Info {
	prefix := secretPrefix
	return dialect.Info{
		ID:     "standard",
		Title:  "Standard Webhooks",
		Docs:   "https://www.standardwebhooks.com",
		Events: []string{"*"},
		Options: []dialect.Option{{
			Name: optionSignature, Type: dialect.OptionText, Default: schemeHMAC, Enum: []string{schemeHMAC, schemeEd25519},
			Doc: "How hooks are signed: v1 is HMAC-SHA256; v1a adds Ed25519, which a receiver checks with a public key.",
		}},
		SecretPrefix: &prefix,
	}
}

// Handler implements dialect.Dialect: there is no settings API.
func (Dialect) Handler(dialect.Admin) http.Handler { return nil }

// schedule is made once, since every attempt asks for it.
var schedule = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// Policy implements dialect.Dialect: any 2xx within 15 seconds, the retries that
// the specification has as its example, which span three days, and an end to it
// when the receiver answers 410.
func (Dialect) Policy(*waypost.Endpoint) waypost.Policy {
	return waypost.Policy{
		Success:      waypost.Success2xx,
		Timeout:      15 * time.Second,
		Schedule:     schedule,
		GoneDisables: true,
	}
}

// PublicKey gives the key that checks the endpoint's Ed25519 signatures, that of
// its newest secret; empty if it has none or did not ask for such signatures.
func (Dialect) PublicKey(endpoint *waypost.Endpoint) string {
	if len(endpoint.Secrets) == 0 || endpoint.OptionString(optionSignature, schemeHMAC) != schemeEd25519 {
		return ""
	}
	return PublicKey(endpoint.Secrets[0].Value)
}
