// Package dialect is the contract that every provider's wire format fulfils.
//
// A dialect is one provider's way to talk about webhooks: the settings API its
// customers already use, and the hooks their receivers already understand. It
// consists of data and pure functions. It never sees the store, the clock or
// the network: what it may ask of the gateway is Admin, and what it makes of
// an event is bytes and headers.
//
// A dialect lives in one folder below this one and is switched on by one line
// in internal/app/dialects.go. dialecttest.Run checks what every dialect must
// hold; docs/dialects/adding.md walks through a small one.
package dialect

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// ErrNotWanted is what Encode returns when the endpoint, as it is set now,
// takes no hook for this event. The delivery ends as exhausted with
// waypost.ReasonNotWanted. Route should have kept it from being owed; this
// covers settings that changed in between.
var ErrNotWanted = errors.New("the endpoint takes no hook for this event")

// Dialect is one provider's wire format. All methods are safe for concurrent use.
type Dialect interface {
	// Info describes the dialect. It is constant.
	Info() Info
	// Handler serves the provider's settings API, with paths as in Info.Paths,
	// in the provider's own shapes and errors. nil: the dialect has none, and
	// its endpoints are made through the management API only.
	Handler(Admin) http.Handler
	// Encode writes the hook for one event to one endpoint. It is pure: the
	// same item gives the same hook, and the item is left as it was.
	Encode(Item) (Hook, error)
	// Policy is the default policy for an endpoint with these options, before
	// the endpoint's own PolicyChange. Its schedule is not to be written to.
	Policy(*waypost.Endpoint) waypost.Policy
}

// Router is implemented by dialects whose endpoints depend on each other or on
// their options. Route picks, from the dialect's endpoints that could take the
// event (same tenant; same number, business account or tenant-wide; URL set or
// not; event filter passed), those that are owed it. Dialects without it are
// owed it at every such endpoint that has a URL.
type Router interface {
	Route(event *waypost.Event, endpoints []*waypost.Endpoint) []Target
}

// Target is one endpoint that is owed an event.
type Target struct {
	Endpoint *waypost.Endpoint
	// After, if not nil, is the endpoint whose delivery of the same event must
	// be received first. If that one is given up, this one ends as exhausted
	// with waypost.ReasonMainFailed.
	After *waypost.Endpoint
}

// Challenger is implemented by dialects that prove a receiver before an
// endpoint is made through the management API.
type Challenger interface {
	// Challenge gives the question to put to the receiver by GET, or nil when
	// this endpoint needs none. nonce is fresh and unguessable.
	Challenge(endpoint *waypost.Endpoint, nonce string) *Challenge
}

// Challenge is a question to a receiver and the check of its answer.
type Challenge struct {
	URL   string
	Check func(status int, body []byte) error // the error tells the customer what to mend
}

// PublicKeyer is implemented by dialects that sign with a key pair.
type PublicKeyer interface {
	// PublicKey is what the endpoint's receiver checks signatures with, as text;
	// empty when this endpoint's hooks have none to check.
	PublicKey(endpoint *waypost.Endpoint) string
}

// Judger is implemented by dialects some of whose receivers say in the answer's
// body what the policy can't tell from the status.
type Judger interface {
	// Judge reads an answer. ok false leaves the matter to the policy.
	Judge(endpoint *waypost.Endpoint, status int, body []byte) (verdict Verdict, ok bool)
}

// Verdict is what an answer means.
type Verdict struct {
	Received bool
	// GiveUp ends the delivery as exhausted: another try would end the same way.
	GiveUp bool
	// Wait is the least time before the next attempt; the schedule may say more.
	Wait time.Duration
}

// Info describes a dialect as data, so that the management API, the command
// line, validation and the documentation all come from one place.
type Info struct {
	ID    string // lower-case, stable; part of URLs and stored rows
	Title string
	Docs  string // the provider's own page
	// Events are globs over the event types this dialect has a form for.
	Events  []string
	Options []Option
	URL     URLRules
	// Paths are the provider's own paths of Handler, as http.ServeMux patterns
	// without a method. Everything is also served below /dialects/{id}/.
	Paths []string
	// CredentialHeader is the request header that carries the key. Where two
	// dialects share a path it decides which of them answers.
	CredentialHeader string
	// Keys says how the settings API's credentials are made; nil when there is
	// no settings API.
	Keys *KeySpec
	// SecretPrefix: when not nil, each endpoint has a signing secret, made as
	// this prefix and random text unless one is given.
	SecretPrefix *string
}

// OptionType is the type of an option's value in JSON.
type OptionType string

// The option types.
const (
	OptionText    OptionType = "string"
	OptionFlag    OptionType = "boolean"
	OptionInteger OptionType = "integer" // held as float64 in Endpoint.Options
)

// Option is one setting of an endpoint that only this dialect has.
type Option struct {
	Name     string
	Type     OptionType
	Default  any      // shown in answers when it is not set; nil: left out
	Enum     []string // allowed texts; empty: any
	Secret   bool     // never shown
	Internal bool     // kept by the settings API itself; refused in the management API
	Doc      string   // one sentence
}

// KeySpec says how the keys of a settings API look to the management API.
type KeySpec struct {
	PerNumber bool // a key speaks for one number; else for the whole tenant
	// KeyMember names the member that shows the key text; "" means "key".
	KeyMember string
	// AccountMember names a public account id made beside the key
	// ("business_id", "client_id"); empty: none.
	AccountMember string
	// SecretMember names a tenant-wide signing secret made with the first key
	// and shown with it ("signing_secret"); empty: none.
	SecretMember string
	// ClearsWebhook: a new key removes the URL of the number's "number" slot,
	// and what is queued for it is held until a URL is set again.
	ClearsWebhook bool
	// AccountIsPhone: Credential.Account is the phone (digits) of the key's
	// number. Authenticate fails with KindNotFound if there is no number with
	// that phone, and with KindUnauthorized if there is but the key is not its.
	AccountIsPhone bool
	// Tokens: a key, shown together with its account name, is good for nothing
	// but a token; see Tokens.
	Tokens bool
	// BadTries within BadTriesWindow close the address they came from out for
	// Block: right credentials, too, fail with KindRateLimited then. A token
	// that ran out is not a bad try. 0: the gateway's own limits.
	BadTries              int
	BadTriesWindow, Block time.Duration
}

// URLRules say which receiver URLs a dialect takes. A host that the operator
// trusts (an IP literal or localhost inside the egress allow-list) may use
// http and any port whatever they say.
type URLRules struct {
	AllowHTTP    bool
	Only443      bool // port 443, written out or not
	NoPort       bool // no port in the URL at all, not even :443
	NoUnderscore bool // no underscore in the host
	MaxLength    int  // in bytes; 0: 2048
}

// Item is all that Encode may look at.
type Item struct {
	Event    *waypost.Event
	Endpoint *waypost.Endpoint
	Number   *waypost.Number // nil when the event concerns no known number
	// TenantSecret is the tenant's signing secret for this dialect; may be empty.
	TenantSecret waypost.Secret
	Now          time.Time // of this attempt
	Attempt      int       // 1 for the first
	// MediaURL gives a link from which the receiver can fetch a media object of
	// this number, the same at each attempt. nil when there is none to give,
	// because the number has no access token or no public URL is configured.
	MediaURL func(mediaID string) string
}

// Hook is what goes over the wire: a POST of Body. Content-Type is
// application/json unless Header says otherwise. Header wins over the
// endpoint's own headers. URL, if not empty, wins over the endpoint's: it is for
// endpoints that stand for an API of the operator's choice.
type Hook struct {
	URL    string
	Body   []byte
	Header http.Header
}

// Admin is what a settings API may ask of the gateway.
type Admin interface {
	// Authenticate finds whom a credential speaks for. Errors: KindUnauthorized
	// (unknown, expired or missing key), KindRateLimited (too many bad tries
	// from this address).
	Authenticate(ctx context.Context, c Credential) (Account, error)
}

// Tokens is what the Admin of a dialect with KeySpec.Tokens also implements.
// For such a dialect Authenticate takes a key only together with its account
// name, and a token, as Credential.Key, only without one: a key is not a token,
// and no token can be traded for the next.
type Tokens interface {
	// IssueToken makes a token that speaks for the account until it expires.
	// Earlier tokens live on.
	IssueToken(ctx context.Context, account Account, ttl time.Duration) (token string, expires time.Time, err error)
}

// Credential is what a request shows to say who it is.
type Credential struct {
	Dialect string
	Key     string
	// Account is the public name shown beside the key, where the dialect has
	// one; it must belong to the key.
	Account string
	Remote  string // address the request came from, to slow down guessing
}

// Account is the part of the gateway that one credential may read and change:
// one dialect's settings of one number or one tenant.
type Account interface {
	Tenant() waypost.Tenant
	// Number is the number the key is for; nil for a tenant-wide key.
	Number() *waypost.Number
	// Numbers are all the numbers of the tenant.
	Numbers(ctx context.Context) ([]waypost.Number, error)
	// Endpoints are this dialect's endpoints of the tenant that sit in a slot,
	// oldest first.
	Endpoints(ctx context.Context) ([]waypost.Endpoint, error)
	// Change edits the endpoint in a place: the present one, or a new one if
	// the place is empty. edit may set URL, Headers, Options and Events;
	// nothing is saved if it returns an error. Header names, the URL (by
	// Info.URL; it may be empty) and options are checked: KindInvalid, naming
	// "url", "headers.<name>" or "options.<name>".
	Change(ctx context.Context, place Place, edit func(*waypost.Endpoint) error) (waypost.Endpoint, error)
	// Remove deletes the endpoint in a place. KindNotFound if there is none.
	Remove(ctx context.Context, place Place) error
}

// Place names one slot. A number's place outside the account's tenant is
// refused with KindForbidden.
type Place struct {
	NumberID waypost.NumberID
	WABAID   string
	Slot     string
}
