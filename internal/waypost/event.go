package waypost

import (
	"path"
	"strings"
	"time"
)

// EventState says whether an event found its owner.
type EventState string

// The states of an event. None of them is ever dropped unseen.
const (
	EventRouted   EventState = "routed"   // its tenant is known (which says nothing about endpoints)
	EventUnrouted EventState = "unrouted" // no number, business account or source names a tenant
	EventUnparsed EventState = "unparsed" // authentic, but not understood; kept whole
)

// Form is how an event's body is written.
type Form string

// The forms of a body.
const (
	// FormCloud is a complete Meta Cloud API webhook body
	// ({"object":…,"entry":[…]}) that holds exactly this one item.
	FormCloud Form = "cloud"
	// FormData is the "data" member of an event that was published through the
	// management API: one JSON value.
	FormData Form = "data"
	// FormRaw is a request body that could not be understood.
	FormRaw Form = "raw"
)

// Event is one thing that happened: one message, one status, one error, one
// account or template notice, one platform event.
type Event struct {
	ID       EventID
	Type     string // dotted, see the Type constants
	State    EventState
	TenantID TenantID // 0 while unrouted
	NumberID NumberID // 0 when it concerns no single number
	SourceID SourceID
	// PhoneNumberID and WABAID are Meta's own ids as found in the item, kept so
	// that an unrouted event can be routed once its number is known.
	PhoneNumberID string
	WABAID        string
	// Conversation is a digest of number and contact; 0 when there is none.
	Conversation int64
	Form         Form
	Body         []byte    // exact bytes; a single-item request is kept as it came
	OccurredAt   time.Time // as told by the item; zero when it does not tell
}

// ReceivedAt is when the event was accepted.
func (e *Event) ReceivedAt() time.Time { return e.ID.Time() }

// Event types are dotted words. The names below are the fixed ones; messages
// and statuses put Meta's own type or status at the end
// (whatsapp.message.text, whatsapp.status.read), and every other Meta field
// becomes whatsapp.<field>.
const (
	TypeMessagePrefix    = "whatsapp.message."
	TypeStatusPrefix     = "whatsapp.status."
	TypeFieldPrefix      = "whatsapp."
	TypeError            = "whatsapp.error"
	TypePlatformWhatsApp = "platform.whatsapp"
	TypePlatformBuilder  = "platform.builder"
	TypePlatformOnline   = "platform.online"
	TypePlatformReport   = "platform.report"
	TypeUnparsed         = "unparsed"
)

// MatchType reports whether an event type matches any of the globs. "*" spans
// dots, so "whatsapp.message.*" and "*" do what they seem to. An empty list
// matches everything.
func MatchType(globs []string, eventType string) bool {
	if len(globs) == 0 {
		return true
	}
	for _, glob := range globs {
		if glob == "*" || glob == eventType {
			return true
		}
		if prefix, ok := strings.CutSuffix(glob, "*"); ok && !strings.ContainsAny(prefix, `*?[\`) {
			if strings.HasPrefix(eventType, prefix) {
				return true
			}
			continue
		}
		if ok, _ := path.Match(glob, eventType); ok { // types hold no slash, so "*" spans dots
			return true
		}
	}
	return false
}

// CheckGlob reports whether MatchType understands the glob.
func CheckGlob(glob string) error {
	if glob == "" || strings.ContainsAny(glob, "/ ") {
		return Errorf(KindInvalid, "%q is not an event type or a pattern such as %q", glob, "whatsapp.message.*")
	}
	if _, err := path.Match(glob, "x"); err != nil {
		return Errorf(KindInvalid, "%q is not a valid pattern: %v", glob, err)
	}
	return nil
}
