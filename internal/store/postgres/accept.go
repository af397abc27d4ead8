package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
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

// repeatQuery counts repeats and names the event that came first.
const repeatQuery = `
WITH first AS MATERIALIZED (
	SELECT k.key, d.event_id FROM unnest($1::bytea[]) AS k (key) JOIN dedupe d ON d.key = k.key
), counted AS (
	INSERT INTO duplicates (event_id, at) SELECT event_id, $2 FROM first
)
SELECT key, event_id FROM first`

// Accept implements store.Queue.
func (s *Store) Accept(ctx context.Context, node waypost.NodeID, batch []store.Arrival) ([]store.Receipt, error) {
	columns, hand, elsewhere := s.acceptColumns(node, batch)
	stored := make(map[waypost.EventID]bool, len(batch))
	var receipts []store.Receipt
	err := s.fenced(ctx, fencedWork{
		verb: "accept events",
		node: node,
		opening: func(b *pgx.Batch) {
			clear(stored)
			b.Queue("SET LOCAL synchronous_commit TO on")
			b.Queue(acceptQuery, columns...).Query(read(func(rows pgx.Rows) error {
				var id waypost.EventID
				err := rows.Scan(&id)
				stored[id] = true
				return err
			}))
		},
		rest: func(ctx context.Context, conn *pgx.Conn) (err error) {
			receipts, err = s.receipts(ctx, conn, batch, stored)
			return err
		},
	})
	if err != nil {
		s.doubts.noteIf(err, node, hand)
		return nil, err
	}
	var due []waypost.EndpointID
	for _, id := range elsewhere {
		if stored[id.Event] {
			due = append(due, id.Endpoint)
		}
	}
	s.tell(ctx, due)
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

// acceptColumns are the arguments of acceptQuery, and the deliveries among them
// that start in the node's hand and those that other nodes are told of.
func (s *Store) acceptColumns(node waypost.NodeID, batch []store.Arrival) (args []any, hand, elsewhere []waypost.DeliveryID) {
	var keys [][]byte
	var keyEvents []int64
	for _, i := range sqlstore.Leaders(batch) {
		keys = append(keys, batch[i].DedupeKey)
		keyEvents = append(keyEvents, int64(batch[i].Event.ID))
	}
	var (
		n                                                        = len(batch)
		ids, tenants, numbers, sources, conversations, occurred  = longs(n), longs(n), longs(n), longs(n), longs(n), longs(n)
		types, states, phones, wabas, forms                      = texts(n), texts(n), texts(n), texts(n), texts(n)
		bodies                                                   = make([][]byte, 0, n)
		keyed                                                    = make([]bool, 0, n)
		owedEvents, owedEndpoints, owedNodes, owedDue, owedAfter = longs(n), longs(n), longs(n), longs(n), longs(n)
		scratch                                                  []sqlstore.OwedRow
		now                                                      = s.Now()
	)
	for i := range batch {
		e := &batch[i].Event
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
		keyed = append(keyed, len(batch[i].DedupeKey) > 0)
		scratch = sqlstore.OwedRows(scratch[:0], node, &batch[i], now)
		for _, row := range scratch {
			owedEvents = append(owedEvents, int64(row.Event))
			owedEndpoints = append(owedEndpoints, int64(row.Endpoint))
			owedNodes = append(owedNodes, int64(row.Node))
			owedDue = append(owedDue, row.Due)
			owedAfter = append(owedAfter, int64(row.After))
			switch id := (waypost.DeliveryID{Event: row.Event, Endpoint: row.Endpoint}); {
			case row.Node != 0:
				hand = append(hand, id)
			case row.Elsewhere:
				elsewhere = append(elsewhere, id)
			}
		}
	}
	return []any{
		keys, keyEvents,
		ids, types, states, tenants, numbers, sources, phones, wabas, conversations, forms, occurred, bodies, keyed,
		owedEvents, owedEndpoints, owedNodes, owedDue, owedAfter,
	}, hand, elsewhere
}

// The columns are never nil, which the server would take for "unknown".
func longs(n int) []int64  { return make([]int64, 0, n) }
func texts(n int) []string { return make([]string, 0, n) }
