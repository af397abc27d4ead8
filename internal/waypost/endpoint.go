package waypost

import (
	"slices"
	"time"
)

// EndpointState says whether an endpoint is being delivered to.
type EndpointState string

// The states of an endpoint. All but active hold what is owed; none drops it.
const (
	EndpointActive   EndpointState = "active"
	EndpointPaused   EndpointState = "paused"   // by hand
	EndpointTripped  EndpointState = "tripped"  // by the breaker, which probes it
	EndpointDisabled EndpointState = "disabled" // by the receiver (410) or by the operator
)

// Drain is the order in which what was held goes out.
type Drain string

// The orders.
const (
	DrainOldest Drain = "" // oldest first
	DrainNewest Drain = "newest"
)

// SigningSecret is one of an endpoint's secrets. During a rotation there are
// several, newest first.
type SigningSecret struct {
	Value     Secret
	ExpiresAt time.Time // zero: does not expire
}

// Endpoint is a place hooks go to.
type Endpoint struct {
	ID       EndpointID
	TenantID TenantID
	// NumberID and WABAID narrow what the endpoint is owed: events of one
	// number, of one business account, or (both empty) of the whole tenant.
	NumberID NumberID
	WABAID   string
	Dialect  string
	// Slot is the place a provider's API gives the endpoint: "number", "waba",
	// "multi:<name>", "topic:<topic>". A slot holds one endpoint per tenant,
	// number, business account and dialect. Empty for those made through the
	// management API, of which there may be any number.
	Slot string
	// URL may be empty: settings are kept and what is owed is held, but nothing
	// new is owed until a URL is set.
	URL     string
	Headers map[string]Secret // sent with every hook
	Events  []string          // globs over event types; empty means all
	Options map[string]any    // the dialect's own: string, bool or float64 values
	Policy  PolicyChange      // what departs from the dialect's default
	Secrets []SigningSecret   // newest first; empty where the dialect does not sign
	// InFlight is how many requests may be under way to it at a time, over all
	// nodes; 0 means the installation's default.
	InFlight int
	State    EndpointState
	// StateReason says why it is not active, for people.
	StateReason string
	// Drain and SkipBefore are what the last resume asked for: the order in which
	// a backlog goes out, and the event before which it does not go out at all
	// but ends as exhausted with ReasonSkipped.
	Drain      Drain
	SkipBefore EventID
	CreatedAt  time.Time
	UpdatedAt  time.Time
	// DeletedAt is set once the endpoint is gone; what it was still owed ends as
	// exhausted with ReasonEndpointDeleted.
	DeletedAt time.Time
}

// Wants reports whether the endpoint's own filter lets the event type through.
func (e *Endpoint) Wants(eventType string) bool { return MatchType(e.Events, eventType) }

// Open reports whether hooks may be sent to the endpoint now.
func (e *Endpoint) Open() bool {
	return e.State == EndpointActive && e.URL != "" && e.DeletedAt.IsZero()
}

// LiveSecrets are the secrets in force at now, newest first.
func (e *Endpoint) LiveSecrets(now time.Time) []Secret {
	var live []Secret
	for _, secret := range e.Secrets {
		if secret.ExpiresAt.IsZero() || now.Before(secret.ExpiresAt) {
			live = append(live, secret.Value)
		}
	}
	return live
}

// OptionString is a text option, or fallback when it is not set.
func (e *Endpoint) OptionString(name, fallback string) string {
	if text, ok := e.Options[name].(string); ok {
		return text
	}
	return fallback
}

// OptionBool is a yes-or-no option, or fallback when it is not set.
func (e *Endpoint) OptionBool(name string, fallback bool) bool {
	if on, ok := e.Options[name].(bool); ok {
		return on
	}
	return fallback
}

// Success says which answers mean "received".
type Success string

// What counts as received.
const (
	Success200 Success = "200" // status 200 and no other
	Success2xx Success = "2xx"
)

// Policy is how an endpoint is delivered to.
type Policy struct {
	Success Success
	Timeout time.Duration // over connect, request, headers and body of the answer
	// Schedule holds the wait before each retry, in order, each counted from the
	// end of the attempt before it. Empty: one attempt and no retry.
	Schedule []time.Duration
	// GoneDisables: an answer 410 disables the endpoint.
	GoneDisables bool
}

// Window is how long the schedule runs.
func (p Policy) Window() time.Duration {
	var window time.Duration
	for _, wait := range p.Schedule {
		window += wait
	}
	return window
}

// PolicyChange is what one endpoint sets differently; nil members keep the
// dialect's default.
type PolicyChange struct {
	Success  *Success
	Timeout  *time.Duration
	Schedule *[]time.Duration
}

// Apply gives the policy with the change made.
func (c PolicyChange) Apply(p Policy) Policy {
	if c.Success != nil {
		p.Success = *c.Success
	}
	if c.Timeout != nil {
		p.Timeout = *c.Timeout
	}
	if c.Schedule != nil {
		p.Schedule = slices.Clone(*c.Schedule)
	}
	return p
}

// Doubling is a schedule that starts at first, doubles up to ceiling and stops
// before its sum passes window.
func Doubling(first, ceiling, window time.Duration) []time.Duration {
	var schedule []time.Duration
	var sum time.Duration
	for wait := first; sum+wait <= window; wait = min(2*wait, ceiling) {
		schedule = append(schedule, wait)
		sum += wait
	}
	return schedule
}
