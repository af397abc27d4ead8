package waypost

import "time"

// DeliveryState is where a delivery stands.
type DeliveryState string

// The states of a delivery; docs/states.md draws the arrows.
const (
	DeliveryPending   DeliveryState = "pending"   // owed, its endpoint is open
	DeliveryHeld      DeliveryState = "held"      // owed, its endpoint is paused, tripped, disabled or has no URL
	DeliveryDelivered DeliveryState = "delivered" // received
	DeliveryExhausted DeliveryState = "exhausted" // given up, visible, can be retried
)

// Delivery is one event owed, or once owed, to one endpoint.
type Delivery struct {
	ID       DeliveryID
	State    DeliveryState
	Attempts int // requests made so far, over all rounds of retries
	// NextAttemptAt is when it is due; zero once settled, and while it waits for
	// another delivery.
	NextAttemptAt time.Time
	LastStatus    int    // HTTP status of the last attempt; 0: none, or no answer
	Reason        Reason // of the last attempt, or why it was given up
}

// Outcome is what an attempt came to.
type Outcome string

// The outcomes of an attempt.
const (
	OutcomeDelivered Outcome = "delivered" // received; the delivery is settled
	OutcomeRetry     Outcome = "retry"     // failed; there will be another
	OutcomeExhausted Outcome = "exhausted" // failed; the schedule has ended
)

// Reason says why an attempt had its outcome. The set is closed: reasons are
// metric labels.
type Reason string

// The reasons.
const (
	ReasonOK              Reason = "ok"
	ReasonStatus          Reason = "status"           // an answer that does not count as received
	ReasonRedirect        Reason = "redirect"         // 3xx; never followed
	ReasonGone            Reason = "gone"             // 410 where the policy heeds it
	ReasonTimeout         Reason = "timeout"          // the time limit passed, in whatever phase
	ReasonDNS             Reason = "dns"              // the name did not resolve
	ReasonConnect         Reason = "connect"          // no TCP connection
	ReasonTLS             Reason = "tls"              // no acceptable TLS
	ReasonReset           Reason = "reset"            // the connection broke before a whole answer
	ReasonProtocol        Reason = "protocol"         // the answer is not HTTP
	ReasonForbidden       Reason = "forbidden"        // the address is one we never send to
	ReasonEncode          Reason = "encode"           // the event can't be written in this dialect
	ReasonNotWanted       Reason = "not_wanted"       // the endpoint no longer takes this kind of event
	ReasonEndpointDeleted Reason = "endpoint_deleted" // gone while the delivery was owed
	ReasonMainFailed      Reason = "main_failed"      // a clone whose main delivery was given up
	ReasonExpired         Reason = "expired"          // held without a URL past its retry window
	ReasonPurged          Reason = "purged"           // dropped by hand
	ReasonSkipped         Reason = "skipped"          // older than what its endpoint was resumed for
	ReasonInternal        Reason = "internal"         // our own fault; not charged to the endpoint
)

// Attempt is one HTTP request for a delivery and what came of it.
type Attempt struct {
	Delivery DeliveryID
	N        int // 1 for the first
	At       time.Time
	Duration time.Duration
	Status   int // 0 when there was no answer
	Outcome  Outcome
	Reason   Reason
	Detail   AttemptDetail
}

// AttemptDetail is what an operator reads to find out what went wrong.
type AttemptDetail struct {
	Error    string            `json:"error,omitempty"`    // for people; no secrets, no URL query
	Address  string            `json:"address,omitempty"`  // the address dialled, ip:port
	Reused   bool              `json:"reused,omitempty"`   // the connection was kept from an earlier attempt
	Phases   Phases            `json:"phases,omitzero"`    // where the time went
	Headers  map[string]string `json:"headers,omitempty"`  // of the answer: content-type, retry-after, …
	Response string            `json:"response,omitempty"` // head of the answer's body, capped
}

// Phases splits an attempt's time, in milliseconds from its start; 0 means the
// phase was not reached.
type Phases struct {
	Connected float64 `json:"connected_ms,omitempty"`
	Sent      float64 `json:"sent_ms,omitempty"`
	FirstByte float64 `json:"first_byte_ms,omitempty"`
}
