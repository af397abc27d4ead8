package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// seizeQuery puts in the node's hand what is in nobody's and was not tried since;
// the other statements then treat it like what always was.
const seizeQuery = `
UPDATE deliveries d SET node_id = $1
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS r (event_id, endpoint_id, attempts)
WHERE d.event_id = r.event_id AND d.endpoint_id = r.endpoint_id AND d.node_id = 0 AND d.attempts = r.attempts
RETURNING d.event_id, d.endpoint_id`

// removeQuery takes away what is settled, putOffQuery puts off what is not; both
// only as far as it is in the node's hand, and say how far that was.
const (
	removeQuery = `
DELETE FROM deliveries d USING unnest($2::bigint[], $3::bigint[]) AS r (event_id, endpoint_id)
WHERE d.event_id = r.event_id AND d.endpoint_id = r.endpoint_id AND d.node_id = $1
RETURNING d.event_id, d.endpoint_id, d.attempts`

	// A due of 0 was set by Retry while the delivery was in hand: it is due now.
	putOffQuery = `
UPDATE deliveries d SET node_id = r.holder, due = CASE WHEN d.due = 0 AND r.holder = 0 THEN r.now ELSE r.due END,
	step = r.step, attempts = GREATEST(d.attempts, r.attempts)
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
	AS r (event_id, endpoint_id, holder, now, due, step, attempts)
WHERE d.event_id = r.event_id AND d.endpoint_id = r.endpoint_id AND d.node_id = $1
RETURNING d.event_id, d.endpoint_id, d.attempts`

	attemptsQuery = `
INSERT INTO attempts (event_id, endpoint_id, n, at, duration, status, outcome, reason, detail)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
	$7::text[], $8::text[], $9::bytea[])`

	newAttemptsQuery = attemptsQuery + ` ON CONFLICT DO NOTHING`

	exhaustQuery = `
INSERT INTO exhausted (event_id, endpoint_id, at, reason, attempts)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[])
ON CONFLICT (endpoint_id, event_id)
DO UPDATE SET at = excluded.at, reason = excluded.reason, attempts = excluded.attempts`

	// Mostly nothing waits anywhere, which costs one look.
	releaseQuery = `
UPDATE deliveries d SET after_endpoint = 0, due = r.at
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS r (event_id, endpoint_id, at)
WHERE d.event_id = r.event_id AND d.after_endpoint = r.endpoint_id
	AND EXISTS (SELECT FROM deliveries WHERE after_endpoint <> 0)
RETURNING d.endpoint_id`

	// failWaitingQuery gives up what waits for what was given up, and what waits
	// for that.
	failWaitingQuery = `
WITH RECURSIVE failed AS (
	SELECT d.event_id, d.endpoint_id, r.at
	FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS r (event_id, endpoint_id, at)
	JOIN deliveries d ON d.event_id = r.event_id AND d.after_endpoint = r.endpoint_id
	UNION
	SELECT d.event_id, d.endpoint_id, failed.at
	FROM failed JOIN deliveries d ON d.event_id = failed.event_id AND d.after_endpoint = failed.endpoint_id
), gone AS (
	DELETE FROM deliveries d USING failed
	WHERE d.event_id = failed.event_id AND d.endpoint_id = failed.endpoint_id
	RETURNING d.event_id, d.endpoint_id, failed.at, d.attempts
)
INSERT INTO exhausted (event_id, endpoint_id, at, reason, attempts)
SELECT event_id, endpoint_id, at, $4, attempts FROM gone
ON CONFLICT (endpoint_id, event_id)
DO UPDATE SET at = excluded.at, reason = excluded.reason, attempts = excluded.attempts`
)

// Settle implements store.Queue. It is on disk when it returns. Hardly ever is an attempt on record
// already, so it first takes for granted that none is, which costs the server half
// the looks into the index.
func (s *Store) Settle(ctx context.Context, node waypost.NodeID, results []store.Result) (store.Settled, error) {
	settled, err := s.settle(ctx, node, results, attemptsQuery)
	if waypost.KindOf(err) == waypost.KindConflict {
		settled, err = s.settle(ctx, node, results, newAttemptsQuery)
	}
	return settled, err
}

// settle writes attempts with the given query.
func (s *Store) settle(ctx context.Context, node waypost.NodeID, results []store.Result, attempts string) (store.Settled, error) {
	waves := sqlstore.Waves(results)
	var settled store.Settled
	var first *settlement // the one whose claim goes out with the transaction's begin
	err := s.fenced(ctx, fencedWork{
		verb: "settle deliveries",
		node: node,
		opening: func(b *pgx.Batch) {
			settled, first = store.Settled{}, nil
			// A node forgets what it has settled. Were that undone by a crash of the
			// server, which a lease outlives, the row would stay in its hand for good.
			b.Queue("SET LOCAL synchronous_commit TO on")
			if len(waves) > 0 && !sqlstore.AnyEarlier(results, waves[0]) {
				first = &settlement{store: s, node: node, attempts: attempts, results: results, wave: waves[0]}
				first.claim(b)
			}
		},
		rest: func(ctx context.Context, conn *pgx.Conn) error {
			rest := waves
			if first != nil {
				if err := first.write(ctx, conn, &settled); err != nil {
					return err
				}
				rest = waves[1:]
			}
			for _, wave := range rest {
				w := settlement{store: s, node: node, attempts: attempts, results: results, wave: wave}
				if err := w.settle(ctx, conn, &settled); err != nil {
					return err
				}
			}
			return nil
		},
	})
	if err != nil {
		return store.Settled{}, err
	}
	slices.Sort(settled.Lost)
	slices.Sort(settled.Released)
	settled.Released = slices.Compact(settled.Released)
	return settled, nil
}

// settlement is the writing back of one wave of results: seize puts earlier ones
// in the node's hand, claim takes the rows that are in it, write records what
// became of them.
type settlement struct {
	store    *Store
	node     waypost.NodeID
	attempts string // the query that writes them
	results  []store.Result
	wave     []int
	before   map[waypost.DeliveryID]int // the claimed ones, with their attempts
}

func (w *settlement) settle(ctx context.Context, conn *pgx.Conn, settled *store.Settled) error {
	if sqlstore.AnyEarlier(w.results, w.wave) {
		if err := w.seize(ctx, conn, settled); err != nil {
			return err
		}
	}
	batch := &pgx.Batch{}
	w.claim(batch)
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	return w.write(ctx, conn, settled)
}

// seize leaves in the wave those earlier results whose deliveries are now in the
// node's hand.
func (w *settlement) seize(ctx context.Context, conn *pgx.Conn, settled *store.Settled) error {
	var events, endpoints, attempts []int64
	for _, i := range w.wave {
		if r := &w.results[i]; r.Earlier {
			events = append(events, int64(r.Delivery.Event))
			endpoints = append(endpoints, int64(r.Delivery.Endpoint))
			attempts = append(attempts, int64(sqlstore.AttemptsBefore(r)))
		}
	}
	rows, err := conn.Query(ctx, seizeQuery, int64(w.node), events, endpoints, attempts)
	if err != nil {
		return err
	}
	defer rows.Close()
	seized := make(map[waypost.DeliveryID]bool, len(events))
	err = read(func(rows pgx.Rows) error {
		var id waypost.DeliveryID
		err := rows.Scan(&id.Event, &id.Endpoint)
		seized[id] = true
		return err
	})(rows)
	var wave []int
	for _, i := range w.wave {
		if r := &w.results[i]; r.Earlier && !seized[r.Delivery] {
			settled.Lost = append(settled.Lost, i)
			continue
		}
		wave = append(wave, i)
	}
	w.wave = wave
	return err
}

func (w *settlement) claim(b *pgx.Batch) {
	var events, endpoints []int64
	var put struct{ events, endpoints, holders, now, due, steps, attempts []int64 }
	for _, i := range w.wave {
		r := &w.results[i]
		if r.Next != store.NextRetry {
			events = append(events, int64(r.Delivery.Event))
			endpoints = append(endpoints, int64(r.Delivery.Endpoint))
			continue
		}
		put.events = append(put.events, int64(r.Delivery.Event))
		put.endpoints = append(put.endpoints, int64(r.Delivery.Endpoint))
		put.holders = append(put.holders, int64(sqlstore.Holder(r, w.node)))
		put.now = append(put.now, sqlstore.Millis(w.store.SettledAt(r)))
		put.due = append(put.due, sqlstore.Millis(r.At))
		put.steps = append(put.steps, int64(r.Step))
		put.attempts = append(put.attempts, int64(sqlstore.Attempts(r, 0)))
	}
	w.before = make(map[waypost.DeliveryID]int, len(w.wave))
	claimed := read(func(rows pgx.Rows) error {
		var id waypost.DeliveryID
		var attempts int
		err := rows.Scan(&id.Event, &id.Endpoint, &attempts)
		w.before[id] = attempts
		return err
	})
	if len(events) > 0 {
		b.Queue(removeQuery, int64(w.node), events, endpoints).Query(claimed)
	}
	if len(put.events) > 0 {
		b.Queue(putOffQuery, int64(w.node), put.events, put.endpoints, put.holders, put.now, put.due, put.steps, put.attempts).Query(claimed)
	}
}

func (w *settlement) write(ctx context.Context, conn *pgx.Conn, settled *store.Settled) error {
	var attempts attemptColumns
	var received, failed ended
	for _, i := range w.wave {
		r := &w.results[i]
		before, mine := w.before[r.Delivery]
		if !mine {
			settled.Lost = append(settled.Lost, i)
			continue
		}
		attempts.add(r)
		switch r.Next {
		case store.NextDelivered:
			received.add(r, w.store.SettledAt(r).UnixMilli(), 0)
		case store.NextExhausted:
			failed.add(r, w.store.SettledAt(r).UnixMilli(), int64(sqlstore.Attempts(r, before)))
		case store.NextRetry:
		}
	}
	batch := &pgx.Batch{}
	if len(attempts.events) > 0 {
		batch.Queue(w.attempts, attempts.args()...)
	}
	if len(received.events) > 0 {
		batch.Queue(releaseQuery, received.events, received.endpoints, received.at).Query(read(func(rows pgx.Rows) error {
			var endpoint waypost.EndpointID
			err := rows.Scan(&endpoint)
			settled.Released = append(settled.Released, endpoint)
			return err
		}))
	}
	if len(failed.events) > 0 {
		batch.Queue(exhaustQuery, failed.events, failed.endpoints, failed.at, failed.reasons, failed.attempts)
		batch.Queue(failWaitingQuery, failed.events, failed.endpoints, failed.at, string(waypost.ReasonMainFailed))
	}
	if batch.Len() == 0 {
		return nil
	}
	return conn.SendBatch(ctx, batch).Close()
}

// ended are deliveries that were settled, by column.
type ended struct {
	events, endpoints, at, attempts []int64
	reasons                         []string
}

func (e *ended) add(r *store.Result, at, attempts int64) {
	e.events = append(e.events, int64(r.Delivery.Event))
	e.endpoints = append(e.endpoints, int64(r.Delivery.Endpoint))
	e.at = append(e.at, at)
	e.reasons = append(e.reasons, string(r.Reason))
	e.attempts = append(e.attempts, attempts)
}

// attemptColumns are attempts, by column.
type attemptColumns struct {
	events, endpoints, n, at, durations, statuses []int64
	outcomes, reasons                             []string
	details                                       [][]byte
}

func (c *attemptColumns) add(r *store.Result) {
	a := r.Attempt
	if a == nil {
		return
	}
	c.events = append(c.events, int64(r.Delivery.Event))
	c.endpoints = append(c.endpoints, int64(r.Delivery.Endpoint))
	c.n = append(c.n, int64(a.N))
	c.at = append(c.at, sqlstore.Millis(a.At))
	c.durations = append(c.durations, int64(a.Duration))
	c.statuses = append(c.statuses, int64(a.Status))
	c.outcomes = append(c.outcomes, string(a.Outcome))
	c.reasons = append(c.reasons, string(a.Reason))
	c.details = append(c.details, sqlstore.AppendDetail(nil, &a.Detail))
}

func (c *attemptColumns) args() []any {
	return []any{c.events, c.endpoints, c.n, c.at, c.durations, c.statuses, c.outcomes, c.reasons, c.details}
}
