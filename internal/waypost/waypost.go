// Package waypost is the vocabulary of the gateway: what a tenant, a number,
// an event, an endpoint, a delivery and an attempt are. Every other package
// speaks in these words, and this one depends on nothing but the standard
// library: no storage, no network, no wire format.
//
// The life of a delivery, in one sentence: an event is accepted together with
// one delivery for each endpoint that is owed it; each delivery stays owed
// until an attempt is received by the endpoint (delivered) or the endpoint's
// schedule has no wait left (exhausted); both ends are kept and can be retried.
package waypost

import (
	"log/slog"
	"time"
)

// Secret is text that must not appear in logs or error messages. Printing or
// logging one shows a placeholder; Reveal is the only way to the text.
type Secret string

const redacted = "[redacted]"

// Reveal returns the secret text.
func (s Secret) Reveal() string { return string(s) }

// String hides the text.
func (s Secret) String() string { return redacted }

// GoString hides the text from %#v.
func (s Secret) GoString() string { return redacted }

// LogValue hides the text from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON hides the text, so that a secret which slips into an answer or
// a structured log does no harm.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Tenant is a business that owns numbers and endpoints.
type Tenant struct {
	ID        TenantID
	Name      string
	Reference string // the operator's own id for it; free text
	// Secrets holds, by dialect id, the secret that signs this tenant's hooks
	// where the dialect has one per account rather than one per endpoint
	// (360dialog's platform secret, Connectly's signing secret).
	Secrets   map[string]Secret
	CreatedAt time.Time
}

// Lifecycle is how far a number has come on its way to being usable.
type Lifecycle string

// The states a number's lifecycle can be in.
const (
	LifecycleUnknown   Lifecycle = ""
	LifecycleOnboarded Lifecycle = "onboarded"
	LifecycleReceiving Lifecycle = "receiving"
	LifecycleReady     Lifecycle = "ready"
	LifecycleDeleted   Lifecycle = "deleted"
	LifecycleFailed    Lifecycle = "failed"
)

// Number is one WhatsApp business number.
type Number struct {
	ID            NumberID
	TenantID      TenantID
	Phone         string // digits only, no plus
	PhoneNumberID string // Meta's id; empty for a number that only an On-Premises client serves
	WABAID        string // WhatsApp business account; may be empty
	Reference     string
	AccessToken   Secret // Graph API token; never shown
	Lifecycle     Lifecycle
	DailyLimit    int64 // conversations a day, as last reported; 0 unknown
	CreatedAt     time.Time
}

// SourceKind says what stands behind a source.
type SourceKind string

// The kinds of source.
const (
	SourceMeta    SourceKind = "meta"
	SourceOnPrem  SourceKind = "onprem"
	SourcePublish SourceKind = "publish"
)

// Source is where events come from. Its Name is part of the ingest URL.
type Source struct {
	ID       SourceID
	Name     string
	Kind     SourceKind
	TenantID TenantID // owner of what can't be routed by number; 0: none
	NumberID NumberID // On-Premises: the number this client serves; 0: told by each request
	// Secrets are Meta app secrets (any may have signed a request, so that they
	// can be rotated) or the one token of an On-Premises client.
	Secrets     []Secret
	VerifyToken Secret // Meta: what the hub challenge must carry
	CreatedAt   time.Time
}

// Key is a credential of a provider's settings API. The key's text is shown
// once and only its digest is kept.
type Key struct {
	ID       KeyID
	Dialect  string
	TenantID TenantID
	NumberID NumberID // 0: the key speaks for the whole tenant
	Digest   [32]byte // SHA-256 of the key text
	// Account is the public name the dialect puts beside the key, where it has
	// one (Connectly's business id, 99digital Partner's client id); unique
	// within a dialect when not empty.
	Account   string
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
}
