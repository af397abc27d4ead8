package sqlstore

import (
	"bytes"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Leaders gives, for each dedupe key of a batch, the index of the first arrival
// that has it, ordered by key: two nodes that accept the same keys take them in
// the same order and so never wait for each other in a ring.
func Leaders(batch []store.Arrival) []int {
	var leaders []int
	seen := make(map[string]struct{}, len(batch))
	for i := range batch {
		key := batch[i].DedupeKey
		if _, again := seen[string(key)]; again || len(key) == 0 {
			continue
		}
		seen[string(key)] = struct{}{}
		leaders = append(leaders, i)
	}
	slices.SortFunc(leaders, func(a, b int) int {
		return bytes.Compare(batch[a].DedupeKey, batch[b].DedupeKey)
	})
	return leaders
}

// OwedRow is one row of the deliveries table as it is first written.
type OwedRow struct {
	Event     waypost.EventID
	Endpoint  waypost.EndpointID
	Node      waypost.NodeID // 0: in nobody's hand
	Due       int64
	After     waypost.EndpointID
	Elsewhere bool // the other nodes are to be told
}

// OwedRows are the rows an arrival needs. An endpoint named twice is owed once,
// and one that would wait for a delivery that isn't there waits for nothing.
func OwedRows(rows []OwedRow, node waypost.NodeID, arrival *store.Arrival, now time.Time) []OwedRow {
	event := arrival.Event.ID
	due := Millis(event.Time())
	if limit := Millis(now); due > limit { // ids run ahead of a clock that stepped back
		due = limit
	}
	for i, o := range arrival.Owed {
		named := func(id waypost.EndpointID) func(store.Owing) bool {
			return func(other store.Owing) bool { return other.Endpoint == id }
		}
		if slices.ContainsFunc(arrival.Owed[:i], named(o.Endpoint)) {
			continue
		}
		row := OwedRow{Event: event, Endpoint: o.Endpoint, Due: due}
		switch {
		case o.After != 0 && o.After != o.Endpoint && slices.ContainsFunc(arrival.Owed, named(o.After)):
			row.After = o.After
		case o.Place == store.InHand:
			row.Node = node
		case o.Place == store.Elsewhere:
			row.Elsewhere = true
		}
		rows = append(rows, row)
	}
	return rows
}

// Text makes a text from outside storable in both databases: one event with a
// zero byte or broken UTF-8 in an id must not keep its whole batch out.
func Text(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Bytes is never nil, which the databases would take for "unknown".
func Bytes(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Waves splits results into runs in which each delivery occurs once, so that a
// run can be written back as a set and a delivery that was tried twice between
// two flushes still goes through both results in order.
func Waves(results []store.Result) [][]int {
	var waves [][]int
	seen := make(map[waypost.DeliveryID]int, len(results)) // delivery → the wave after its last
	for i := range results {
		wave := seen[results[i].Delivery]
		if wave == len(waves) {
			waves = append(waves, nil)
		}
		waves[wave] = append(waves[wave], i)
		seen[results[i].Delivery] = wave + 1
	}
	return waves
}

// AnyEarlier tells whether a wave has results of an earlier lease.
func AnyEarlier(results []store.Result, wave []int) bool {
	return slices.ContainsFunc(wave, func(i int) bool { return results[i].Earlier })
}

// AttemptsBefore is how many requests must have been made for a delivery if the
// earlier result is the next thing that happened to it; -1, which is never so, for
// one without an attempt.
func AttemptsBefore(r *store.Result) int {
	if r.Attempt == nil {
		return -1
	}
	return r.Attempt.N - 1
}

// Holder is the node in whose hand a delivery that is put off stays; 0 for none.
func Holder(r *store.Result, node waypost.NodeID) waypost.NodeID {
	if r.InHand && !r.Earlier {
		return node
	}
	return 0
}

// SettledAt is when a result came about.
func (s *Store) SettledAt(r *store.Result) time.Time {
	switch {
	case r.Attempt != nil:
		return r.Attempt.At.Add(r.Attempt.Duration)
	case !r.At.IsZero():
		return r.At
	default:
		return s.now()
	}
}

// Attempts is how many requests were made, given how many there were before.
func Attempts(r *store.Result, before int) int {
	if r.Attempt == nil {
		return before
	}
	return r.Attempt.N
}
