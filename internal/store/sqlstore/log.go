package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	// maxList is the most rows a listing gives.
	maxList = 1000
	// walkStep is how many rows one query of a walk looks at. It bounds how long
	// a read transaction lasts, because the databases can't clean up behind one.
	walkStep = 2000
)

// EventColumns are what EventRow scans, but for the body.
const EventColumns = `id, type, state, tenant_id, number_id, source_id, phone_number_id, waba_id, conversation, form, occurred_at`

// ScanEvent reads EventColumns, and after them what rest points to.
func ScanEvent(row scanner, rest ...any) (waypost.Event, error) {
	var e waypost.Event
	var occurred int64
	err := row.Scan(append([]any{
		&e.ID, &e.Type, &e.State, &e.TenantID, &e.NumberID, &e.SourceID,
		&e.PhoneNumberID, &e.WABAID, &e.Conversation, &e.Form, &occurred,
	}, rest...)...)
	e.OccurredAt = FromMillis(occurred)
	return e, err
}

// conditions collects the WHERE clause of a listing.
type conditions struct {
	text []string
	args []any
}

// add appends a condition with one "?" for each value.
func (c *conditions) add(condition string, values ...any) {
	for _, value := range values {
		condition = strings.Replace(condition, "?", c.arg(value), 1)
	}
	c.text = append(c.text, condition)
}

// arg appends a value and gives its placeholder.
func (c *conditions) arg(value any) string {
	c.args = append(c.args, value)
	return fmt.Sprintf("$%d", len(c.args))
}

func (c *conditions) where() string {
	if len(c.text) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.text, " AND ")
}

// Event implements store.Log.
func (s *Store) Event(ctx context.Context, id waypost.EventID) (store.EventRecord, error) {
	var record store.EventRecord
	var body []byte
	var err error
	row := s.read.QueryRowContext(ctx, `SELECT `+EventColumns+`, body,
	(SELECT COUNT(*) FROM duplicates WHERE event_id = $1) FROM events WHERE id = $1`, int64(id))
	record.Event, err = ScanEvent(row, &body, &record.Duplicates)
	record.Body = body
	return record, s.Explain("read event", found(err, "event", id))
}

// Events implements store.Log. Only tenant and time have an index; for the other
// filters it walks the events from the newest down, in short steps, until it has
// enough of them, none is left or ctx ends.
func (s *Store) Events(ctx context.Context, f store.EventFilter) ([]waypost.Event, error) {
	limit := clampLimit(f.Limit)
	step := limit
	if f.NumberID != 0 || f.Type != "" || f.State != "" {
		step = walkStep
	}
	var events []waypost.Event
	for before := upperBound(f); ; {
		walked, err := s.eventsBelow(ctx, f, before, step)
		if err != nil {
			return nil, s.Explain("list events", err)
		}
		for i := range walked {
			if matches(&walked[i], &f) {
				events = append(events, walked[i])
			}
			if len(events) == limit {
				return events, nil
			}
		}
		if len(walked) < step {
			return events, nil
		}
		before = walked[len(walked)-1].ID
	}
}

func (s *Store) eventsBelow(ctx context.Context, f store.EventFilter, before waypost.EventID, limit int) ([]waypost.Event, error) {
	var c conditions
	if f.TenantID != 0 {
		c.add("tenant_id = ?", int64(f.TenantID))
	}
	c.add("id < ?", int64(before))
	if !f.Since.IsZero() {
		c.add("id >= ?", int64(waypost.FirstEventID(f.Since)))
	}
	query := `SELECT ` + EventColumns + ` FROM events` + c.where() + ` ORDER BY id DESC LIMIT ` + c.arg(limit)
	return collect(ctx, s.read, func(row scanner) (waypost.Event, error) { return ScanEvent(row) }, query, c.args...)
}

// upperBound is the id below which the listing starts.
func upperBound(f store.EventFilter) waypost.EventID {
	before := waypost.EventID(math.MaxInt64)
	if !f.Until.IsZero() {
		before = waypost.FirstEventID(f.Until)
	}
	if f.Before != 0 {
		before = min(before, f.Before)
	}
	return before
}

func matches(e *waypost.Event, f *store.EventFilter) bool {
	return (f.NumberID == 0 || e.NumberID == f.NumberID) &&
		(f.State == "" || e.State == f.State) &&
		(f.Type == "" || waypost.MatchType([]string{f.Type}, e.Type))
}

func clampLimit(limit int) int {
	if limit <= 0 || limit > maxList {
		return maxList
	}
	return limit
}

// Attempts implements store.Log.
func (s *Store) Attempts(ctx context.Context, event waypost.EventID) ([]waypost.Attempt, error) {
	attempts, err := collect(ctx, s.read, scanAttempt, `
SELECT event_id, endpoint_id, n, at, duration, status, outcome, reason, detail
FROM attempts WHERE event_id = $1 ORDER BY endpoint_id, n`, int64(event))
	return attempts, s.Explain("list attempts", err)
}

func scanAttempt(row scanner) (waypost.Attempt, error) {
	var a waypost.Attempt
	var at int64
	var detail []byte
	err := row.Scan(&a.Delivery.Event, &a.Delivery.Endpoint, &a.N, &at, &a.Duration, &a.Status, &a.Outcome, &a.Reason, &detail)
	if err != nil {
		return a, err
	}
	a.At = FromMillis(at)
	if err := json.Unmarshal(detail, &a.Detail); err != nil {
		return a, fmt.Errorf("read detail of attempt %d for %s: %w", a.N, a.Delivery, err)
	}
	return a, nil
}

var backlogQuery = `
SELECT COUNT(*), COALESCE(MIN(event_id), 0), COALESCE(MAX(event_id), 0) FROM (` + owedEvents("$1", "$2") + `) owed`

// Backlog implements store.Log. It takes time in proportion to what is owed to the
// endpoint, and not to what is owed to others.
func (s *Store) Backlog(ctx context.Context, endpoint waypost.EndpointID, before waypost.EventID) (store.Backlog, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	var b store.Backlog
	err := s.read.QueryRowContext(ctx, backlogQuery, int64(endpoint), int64(before)).Scan(&b.Count, &b.Oldest, &b.Newest)
	return b, s.Explain("count backlog", err)
}

// owedEvents selects the events owed to an endpoint that are older than before:
// what is free, what waits for another delivery, and what is in a node's hand. Each
// of the three has an index, and together they are all there is.
func owedEvents(endpoint, before string) string {
	where := ` WHERE d.endpoint_id = ` + endpoint + ` AND d.event_id < ` + before
	return `
SELECT d.event_id FROM deliveries d` + where + ` AND d.node_id = 0 AND d.after_endpoint = 0
UNION ALL
SELECT d.event_id FROM deliveries d` + where + ` AND d.after_endpoint <> 0
UNION ALL
SELECT d.event_id FROM nodes n JOIN deliveries d ON d.node_id = n.id` + where + ` AND d.node_id <> 0 AND d.after_endpoint = 0`
}
