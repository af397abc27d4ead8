package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// These store arrivals and what they are owed, if all of their dedupe keys are new.
const (
	copyKeys   = `COPY dedupe (key, event_id) FROM STDIN (FORMAT binary)`
	copyEvents = `COPY events (` + sqlstore.EventColumns + `, body) FROM STDIN (FORMAT binary)`
	copyOwed   = `COPY deliveries (event_id, endpoint_id, node_id, due, after_endpoint, attempts, step) FROM STDIN (FORMAT binary)`

	eventColumns = 12
	owedColumns  = 7
)

// acceptQuery stores the arrivals whose dedupe key is new, and what they are
// owed, and gives their ids. Where another transaction is just storing the same
// key it waits for the outcome. What is due at once is so by the server's clock
// too: a node whose clock is ahead must not put off what others deliver.
const acceptQuery = `
WITH fresh AS (
	INSERT INTO dedupe (key, event_id)
	SELECT key, event_id FROM unnest($1::bytea[], $2::bigint[]) AS k (key, event_id) ORDER BY key
	ON CONFLICT (key) DO NOTHING
	RETURNING event_id
), stored AS (
	INSERT INTO events (` + sqlstore.EventColumns + `, body)
	SELECT ` + sqlstore.EventColumns + `, body
	FROM unnest($3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[],
		$10::text[], $11::bigint[], $12::text[], $13::bigint[], $14::bytea[], $15::boolean[])
		AS e (` + sqlstore.EventColumns + `, body, keyed)
	WHERE NOT keyed OR id IN (SELECT event_id FROM fresh)
	RETURNING id
), owed AS (
	INSERT INTO deliveries (event_id, endpoint_id, node_id, due, after_endpoint, attempts, step)
	SELECT event_id, endpoint_id, node_id, LEAST(due, ` + clock + `), after_endpoint, 0, 0
	FROM unnest($16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[])
		AS d (event_id, endpoint_id, node_id, due, after_endpoint)
	WHERE (event_id IN (SELECT id FROM stored)) IS TRUE -- no join, but a look into a hash
)
SELECT id FROM stored`

// freeQuery stores what is owed and in nobody's hand. See acceptQuery for due.
const freeQuery = `
INSERT INTO deliveries (event_id, endpoint_id, node_id, due, after_endpoint, attempts, step)
SELECT event_id, endpoint_id, 0, LEAST(due, ` + clock + `), after_endpoint, 0, 0
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS d (event_id, endpoint_id, due, after_endpoint)`

// repeatQuery counts repeats and names the event that came first.
const repeatQuery = `
WITH first AS MATERIALIZED (
	SELECT k.key, d.event_id FROM unnest($1::bytea[]) AS k (key) JOIN dedupe d ON d.key = k.key
), counted AS (
	INSERT INTO duplicates (event_id, at) SELECT event_id, $2 FROM first
)
SELECT key, event_id FROM first`

// Accept implements store.Queue. Hardly ever is an arrival known already, so it
// first takes for granted that none is, which costs the server half as much.
// Repeats come in crowds: after some, it looks first for as long as there are more.
func (s *Store) Accept(ctx context.Context, node waypost.NodeID, batch []store.Arrival) ([]store.Receipt, error) {
	a := s.acceptance(node, batch)
	if a.repeats || s.repeats.Load() {
		return s.acceptKnown(ctx, a)
	}
	receipts, err := s.acceptNew(ctx, a)
	if waypost.KindOf(err) == waypost.KindConflict {
		return s.acceptKnown(ctx, a)
	}
	return receipts, err
}

// acceptance is a batch of arrivals on its way into the database.
type acceptance struct {
	node    waypost.NodeID
	batch   []store.Arrival
	leaders []int // see sqlstore.Leaders
	repeats bool  // the batch repeats itself
	owed    []sqlstore.OwedRow
	hand    []waypost.DeliveryID // those that start in the node's hand
	free    int                  // how many do not
}

func (s *Store) acceptance(node waypost.NodeID, batch []store.Arrival) *acceptance {
	a := &acceptance{
		node: node, batch: batch, leaders: sqlstore.Leaders(batch),
		owed: make([]sqlstore.OwedRow, 0, len(batch)), hand: make([]waypost.DeliveryID, 0, len(batch)),
	}
	now, keyed := s.Now(), 0
	for i := range batch {
		if len(batch[i].DedupeKey) > 0 {
			keyed++
		}
		a.owed = sqlstore.OwedRows(a.owed, node, &batch[i], now)
	}
	a.repeats = keyed > len(a.leaders)
	for i := range a.owed {
		if row := &a.owed[i]; row.Node != 0 {
			a.hand = append(a.hand, waypost.DeliveryID{Event: row.Event, Endpoint: row.Endpoint})
		}
	}
	a.free = len(a.owed) - len(a.hand)
	return a
}

// acceptNew stores arrivals that are all new; KindConflict if one is not.
func (s *Store) acceptNew(ctx context.Context, a *acceptance) ([]store.Receipt, error) {
	err := s.piped(ctx, "accept events", a.node, a.queue, func([]answer) error { return nil })
	if err != nil {
		s.doubts.noteIf(err, a.node, a.hand)
		return nil, err
	}
	receipts := make([]store.Receipt, len(a.batch))
	for i := range a.batch {
		receipts[i].Event = a.batch[i].Event.ID
	}
	s.tellElsewhere(ctx, a, func(waypost.EventID) bool { return true })
	return receipts, nil
}

// queue begins with the keys: they are what may fail, and what comes behind is
// passed over then.
func (a *acceptance) queue(ctx context.Context, p *pipe) {
	if len(a.leaders) > 0 {
		p.copy(ctx, copyKeys, a.writeKeys)
	}
	p.copy(ctx, copyEvents, a.writeEvents)
	if len(a.hand) > 0 {
		p.copy(ctx, copyOwed, a.writeOwed)
	}
	if a.free > 0 {
		p.queue(ctx, freeQuery, a.freeColumns()...)
	}
}

func (a *acceptance) writeKeys(p *pipe) {
	for _, i := range a.leaders {
		p.row(2)
		p.bytes(a.batch[i].DedupeKey)
		p.long(int64(a.batch[i].Event.ID))
	}
}

func (a *acceptance) writeEvents(p *pipe) {
	for i := range a.batch {
		e := &a.batch[i].Event
		p.row(eventColumns)
		p.long(int64(e.ID))
		p.text(sqlstore.Text(e.Type))
		p.text(string(e.State))
		p.long(int64(e.TenantID))
		p.long(int64(e.NumberID))
		p.long(int64(e.SourceID))
		p.text(sqlstore.Text(e.PhoneNumberID))
		p.text(sqlstore.Text(e.WABAID))
		p.long(e.Conversation)
		p.text(string(e.Form))
		p.long(sqlstore.Millis(e.OccurredAt))
		p.bytes(e.Body)
	}
}

func (a *acceptance) writeOwed(p *pipe) {
	for i := range a.owed {
		row := &a.owed[i]
		if row.Node == 0 {
			continue
		}
		p.row(owedColumns)
		p.long(int64(row.Event))
		p.long(int64(row.Endpoint))
		p.long(int64(row.Node))
		p.long(row.Due)
		p.long(int64(row.After))
		p.long(0) // attempts
		p.long(0) // step
	}
}

// freeColumns are the arguments of freeQuery.
func (a *acceptance) freeColumns() []any {
	events, endpoints, due, after := longs(a.free), longs(a.free), longs(a.free), longs(a.free)
	for i := range a.owed {
		if row := &a.owed[i]; row.Node == 0 {
			events = append(events, int64(row.Event))
			endpoints = append(endpoints, int64(row.Endpoint))
			due = append(due, row.Due)
			after = append(after, int64(row.After))
		}
	}
	return []any{events, endpoints, due, after}
}

// tellElsewhere tells other nodes of what was stored for them.
func (s *Store) tellElsewhere(ctx context.Context, a *acceptance, stored func(waypost.EventID) bool) {
	var due []waypost.EndpointID
	for i := range a.owed {
		if row := &a.owed[i]; row.Elsewhere && stored(row.Event) {
			due = append(due, row.Endpoint)
		}
	}
	s.tell(ctx, due)
}

// acceptKnown stores those arrivals that are new and counts the others.
func (s *Store) acceptKnown(ctx context.Context, a *acceptance) ([]store.Receipt, error) {
	stored := make(map[waypost.EventID]bool, len(a.batch))
	var receipts []store.Receipt
	err := s.fenced(ctx, fencedWork{
		verb: "accept events",
		node: a.node,
		opening: func(b *pgx.Batch) {
			clear(stored)
			b.Queue(acceptQuery, a.columns()...).Query(read(func(rows pgx.Rows) error {
				var id waypost.EventID
				err := rows.Scan(&id)
				stored[id] = true
				return err
			}))
		},
		rest: func(ctx context.Context, conn *pgx.Conn) (err error) {
			receipts, err = s.receipts(ctx, conn, a.batch, stored)
			return err
		},
	})
	if err != nil {
		s.doubts.noteIf(err, a.node, a.hand)
		return nil, err
	}
	s.repeats.Store(len(stored) < len(a.batch))
	s.tellElsewhere(ctx, a, func(id waypost.EventID) bool { return stored[id] })
	return receipts, nil
}

// receipts tells what became of the arrivals.
func (s *Store) receipts(ctx context.Context, conn *pgx.Conn, batch []store.Arrival, stored map[waypost.EventID]bool) ([]store.Receipt, error) {
	receipts := make([]store.Receipt, len(batch))
	var repeated [][]byte
	for i := range batch {
		receipts[i] = store.Receipt{Event: batch[i].Event.ID, Duplicate: !stored[batch[i].Event.ID]}
		if receipts[i].Duplicate {
			repeated = append(repeated, batch[i].DedupeKey)
		}
	}
	if len(repeated) == 0 {
		return receipts, nil
	}
	first, err := s.countRepeats(ctx, conn, repeated)
	if err != nil {
		return nil, err
	}
	for i := range receipts {
		if !receipts[i].Duplicate {
			continue
		}
		event, known := first[string(batch[i].DedupeKey)]
		if !known {
			return nil, errors.New("a known dedupe key has just been forgotten")
		}
		receipts[i].Event = event
	}
	return receipts, nil
}

func (s *Store) countRepeats(ctx context.Context, conn *pgx.Conn, keys [][]byte) (map[string]waypost.EventID, error) {
	rows, err := conn.Query(ctx, repeatQuery, keys, sqlstore.Millis(s.Now()))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	first := make(map[string]waypost.EventID, len(keys))
	return first, read(func(rows pgx.Rows) error {
		var key []byte
		var event waypost.EventID
		err := rows.Scan(&key, &event)
		first[string(key)] = event
		return err
	})(rows)
}

// columns are the arguments of acceptQuery.
func (a *acceptance) columns() []any {
	var keys [][]byte
	var keyEvents []int64
	for _, i := range a.leaders {
		keys = append(keys, a.batch[i].DedupeKey)
		keyEvents = append(keyEvents, int64(a.batch[i].Event.ID))
	}
	var (
		n                                                       = len(a.batch)
		ids, tenants, numbers, sources, conversations, occurred = longs(n), longs(n), longs(n), longs(n), longs(n), longs(n)
		types, states, phones, wabas, forms                     = texts(n), texts(n), texts(n), texts(n), texts(n)
		bodies                                                  = make([][]byte, 0, n)
		keyed                                                   = make([]bool, 0, n)
	)
	for i := range a.batch {
		e := &a.batch[i].Event
		ids = append(ids, int64(e.ID))
		types = append(types, sqlstore.Text(e.Type))
		states = append(states, string(e.State))
		tenants = append(tenants, int64(e.TenantID))
		numbers = append(numbers, int64(e.NumberID))
		sources = append(sources, int64(e.SourceID))
		phones = append(phones, sqlstore.Text(e.PhoneNumberID))
		wabas = append(wabas, sqlstore.Text(e.WABAID))
		conversations = append(conversations, e.Conversation)
		forms = append(forms, string(e.Form))
		occurred = append(occurred, sqlstore.Millis(e.OccurredAt))
		bodies = append(bodies, sqlstore.Bytes(e.Body))
		keyed = append(keyed, len(a.batch[i].DedupeKey) > 0)
	}
	n = len(a.owed)
	owedEvents, owedEndpoints, owedNodes, owedDue, owedAfter := longs(n), longs(n), longs(n), longs(n), longs(n)
	for i := range a.owed {
		row := &a.owed[i]
		owedEvents = append(owedEvents, int64(row.Event))
		owedEndpoints = append(owedEndpoints, int64(row.Endpoint))
		owedNodes = append(owedNodes, int64(row.Node))
		owedDue = append(owedDue, row.Due)
		owedAfter = append(owedAfter, int64(row.After))
	}
	return []any{
		keys, keyEvents,
		ids, types, states, tenants, numbers, sources, phones, wabas, conversations, forms, occurred, bodies, keyed,
		owedEvents, owedEndpoints, owedNodes, owedDue, owedAfter,
	}
}

// The columns are never nil, which the server would take for "unknown".
func longs(n int) []int64  { return make([]int64, 0, n) }
func texts(n int) []string { return make([]string, 0, n) }
