package waypost

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// Ids are 63-bit integers that sort by the time they were made: milliseconds
// since idEpoch, the node that made them, and a counter. Rows keyed by one are
// appended at the right edge of their table, and a time range is an id range.
// In text an id is a prefix and 13 characters of Crockford base32.
const (
	idNodeBits    = 10
	idCounterBits = 12
	idTickShift   = idNodeBits + idCounterBits
)

var idEpoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// The kinds of id. Zero means "none" for each of them.
type (
	// TenantID identifies a Tenant; "ten_…" in text.
	TenantID int64
	// NumberID identifies a Number; "num_…" in text.
	NumberID int64
	// SourceID identifies a Source; "src_…" in text.
	SourceID int64
	// KeyID identifies a Key; "key_…" in text.
	KeyID int64
	// EndpointID identifies an Endpoint; "ep_…" in text.
	EndpointID int64
	// EventID identifies an Event; "evt_…" in text.
	EventID int64
	// NodeID identifies one run of a Waypost process; it is never used again.
	NodeID int64
)

// DeliveryID identifies one event owed to one endpoint; "dlv_…" in text.
type DeliveryID struct {
	Event    EventID
	Endpoint EndpointID
}

func (id TenantID) String() string   { return formatID("ten_", int64(id)) }
func (id NumberID) String() string   { return formatID("num_", int64(id)) }
func (id SourceID) String() string   { return formatID("src_", int64(id)) }
func (id KeyID) String() string      { return formatID("key_", int64(id)) }
func (id EndpointID) String() string { return formatID("ep_", int64(id)) }
func (id EventID) String() string    { return formatID("evt_", int64(id)) }
func (id NodeID) String() string     { return formatID("nod_", int64(id)) }

func (id DeliveryID) String() string {
	return formatID("dlv_", int64(id.Event)) + formatID("", int64(id.Endpoint))
}

// Time is when the event was accepted, to the millisecond.
func (id EventID) Time() time.Time { return idTime(int64(id)) }

// FirstEventID is the smallest id that an event accepted at t can have. For times
// that no id can tell it is the smallest or the largest id there is.
func FirstEventID(t time.Time) EventID { return EventID(max(idAt(t), 1)) }

// ParseTenantID reads the text form; its error is of kind KindNotFound, as is
// that of the other Parse functions: an id nobody could have made names nothing.
func ParseTenantID(s string) (TenantID, error) { return parseID[TenantID]("tenant", "ten_", s) }

// ParseNumberID reads the text form.
func ParseNumberID(s string) (NumberID, error) { return parseID[NumberID]("number", "num_", s) }

// ParseSourceID reads the text form.
func ParseSourceID(s string) (SourceID, error) { return parseID[SourceID]("source", "src_", s) }

// ParseKeyID reads the text form.
func ParseKeyID(s string) (KeyID, error) { return parseID[KeyID]("key", "key_", s) }

// ParseEndpointID reads the text form.
func ParseEndpointID(s string) (EndpointID, error) {
	return parseID[EndpointID]("endpoint", "ep_", s)
}

// ParseEventID reads the text form.
func ParseEventID(s string) (EventID, error) { return parseID[EventID]("event", "evt_", s) }

// ParseDeliveryID reads the text form.
func ParseDeliveryID(s string) (DeliveryID, error) {
	const prefix = "dlv_"
	bad := Errorf(KindNotFound, "no delivery has the id %q", s)
	if len(s) != len(prefix)+2*idTextLen || s[:len(prefix)] != prefix {
		return DeliveryID{}, bad
	}
	event, okEvent := decodeID(s[len(prefix) : len(prefix)+idTextLen])
	endpoint, okEndpoint := decodeID(s[len(prefix)+idTextLen:])
	if !okEvent || !okEndpoint {
		return DeliveryID{}, bad
	}
	return DeliveryID{Event: EventID(event), Endpoint: EndpointID(endpoint)}, nil
}

const (
	idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	idTextLen  = 13
)

func formatID(prefix string, id int64) string {
	var text [idTextLen]byte
	for i := idTextLen - 1; i >= 0; i-- {
		text[i] = idAlphabet[id&31]
		id >>= 5
	}
	return prefix + string(text[:])
}

func parseID[T ~int64](noun, prefix, s string) (T, error) {
	if len(s) == len(prefix)+idTextLen && s[:len(prefix)] == prefix {
		if id, ok := decodeID(s[len(prefix):]); ok {
			return T(id), nil
		}
	}
	return 0, Errorf(KindNotFound, "no %s has the id %q", noun, s)
}

func decodeID(s string) (int64, bool) {
	var id uint64
	for i := range len(s) {
		digit := idDigits[s[i]]
		if digit < 0 || id>>58 != 0 {
			return 0, false
		}
		id = id<<5 | uint64(digit)
	}
	return int64(id), id != 0 && id>>63 == 0
}

var idDigits = func() (digits [256]int8) {
	for i := range digits {
		digits[i] = -1
	}
	for i := range len(idAlphabet) {
		digits[idAlphabet[i]] = int8(i)
	}
	return digits
}()

func idAt(t time.Time) int64 {
	const last = math.MaxInt64 >> idTickShift // in the year 2093
	return min(max(t.UnixMilli()-idEpoch.UnixMilli(), 0), last) << idTickShift
}

func idTime(id int64) time.Time {
	return idEpoch.Add(time.Duration(id>>idTickShift) * time.Millisecond)
}

// IDs makes ids. Within one IDs they strictly ascend, whatever the clock does;
// two IDs with different slots never make the same one.
type IDs struct {
	mu      sync.Mutex
	now     func() time.Time
	slot    int64
	tick    int64 // milliseconds since idEpoch of the last id
	counter int64
}

// NewIDs makes ids for the node in the given slot, 0 to 1023, above floor (the
// highest id a former run is known to have made, or 0).
func NewIDs(slot int, floor int64, now func() time.Time) (*IDs, error) {
	if slot < 0 || slot >= 1<<idNodeBits {
		return nil, fmt.Errorf("node slot %d is outside 0 to %d", slot, 1<<idNodeBits-1)
	}
	return &IDs{now: now, slot: int64(slot), tick: floor>>idTickShift + 1, counter: -1}, nil
}

// Next makes one id.
func (g *IDs) Next() int64 {
	tick := idAt(g.now()) >> idTickShift
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case tick > g.tick:
		g.tick, g.counter = tick, 0
	case g.counter+1 == 1<<idCounterBits: // a full millisecond: borrow the next
		g.tick, g.counter = g.tick+1, 0
	default: // same millisecond, or a clock that stepped back
		g.counter++
	}
	return g.tick<<idTickShift | g.slot<<idCounterBits | g.counter
}
