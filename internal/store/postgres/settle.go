package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// These statements find each delivery of a list by its key. Deliveries come and go
// so fast that the server may take a table of thousands for one of a few rows, and
// then rather goes through the whole list for each of them. With an array of one in
// place of an equals sign, and a sum in place of a column that has an index, looking
// up by the key is the only way it has.
const (
	deliveryOf = `d.event_id = ANY (ARRAY[r.event_id]) AND d.endpoint_id = ANY (ARRAY[r.endpoint_id])`
	inHand     = deliveryOf + ` AND d.node_id + 0 = $1`
)

// seizeQuery puts in the node's hand what is in nobody's and was not tried since;
// the other statements then treat it like what always was.
const seizeQuery = `
UPDATE deliveries d SET node_id = $1
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS r (event_id, endpoint_id, attempts)
WHERE ` + deliveryOf + ` AND d.node_id + 0 = 0 AND d.attempts = r.attempts
RETURNING d.event_id, d.endpoint_id`

// removeQuery takes away what is settled, putOffQuery puts off what is not; both
// only as far as it is in the node's hand. With claimed they say which that was.
const (
	claimed = `
RETURNING d.event_id, d.endpoint_id, d.attempts`

	removeQuery = `
DELETE FROM deliveries d USING unnest($2::bigint[], $3::bigint[]) AS r (event_id, endpoint_id)
WHERE ` + inHand

	// A due of 0 was set by Retry while the delivery was in hand: it is due now.
	putOffQuery = `
UPDATE deliveries d SET node_id = r.holder, due = CASE WHEN d.due = 0 AND r.holder = 0 THEN r.now ELSE r.due END,
	step = r.step, attempts = GREATEST(d.attempts, r.attempts)
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
	AS r (event_id, endpoint_id, holder, now, due, step, attempts)
WHERE ` + inHand

	copyAttempts = `COPY attempts (event_id, endpoint_id, n, at, duration, status, outcome, reason, detail) FROM STDIN (FORMAT binary)`

	attemptColumns = 9

	newAttemptsQuery = `
INSERT INTO attempts (event_id, endpoint_id, n, at, duration, status, outcome, reason, detail)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
	$7::text[], $8::text[], $9::bytea[])
ON CONFLICT DO NOTHING`

	exhaustQuery = `
INSERT INTO exhausted (event_id, endpoint_id, at, reason, attempts)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[])
ON CONFLICT (endpoint_id, event_id)
DO UPDATE SET at = excluded.at, reason = excluded.reason, attempts = excluded.attempts`

	// Mostly nothing waits anywhere, which costs one look.
	releaseQuery = `
UPDATE deliveries d SET after_endpoint = 0, due = r.at
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS r (event_id, endpoint_id, at)
WHERE d.event_id = ANY (ARRAY[r.event_id]) AND d.after_endpoint = r.endpoint_id
	AND EXISTS (SELECT FROM deliveries WHERE after_endpoint <> 0)
RETURNING d.endpoint_id`

	// failWaitingQuery gives up what waits for what was given up, and what waits
	// for that.
	failWaitingQuery = `
WITH RECURSIVE failed AS (
	SELECT d.event_id, d.endpoint_id, r.at
	FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS r (event_id, endpoint_id, at)
	JOIN deliveries d ON d.event_id = ANY (ARRAY[r.event_id]) AND d.after_endpoint = r.endpoint_id
	UNION
	SELECT d.event_id, d.endpoint_id, failed.at
	FROM failed JOIN deliveries d ON d.event_id = ANY (ARRAY[failed.event_id]) AND d.after_endpoint = failed.endpoint_id
), gone AS (
	DELETE FROM deliveries d USING failed
	WHERE d.event_id = ANY (ARRAY[failed.event_id]) AND d.endpoint_id = ANY (ARRAY[failed.endpoint_id])
	RETURNING d.event_id, d.endpoint_id, failed.at, d.attempts
)
INSERT INTO exhausted (event_id, endpoint_id, at, reason, attempts)
SELECT event_id, endpoint_id, at, $4, attempts FROM gone
ON CONFLICT (endpoint_id, event_id)
DO UPDATE SET at = excluded.at, reason = excluded.reason, attempts = excluded.attempts`
)

// Settle implements store.Queue. It is on disk when it returns: a node forgets what
// it has settled, and were that undone by a crash of the server, which a lease
// outlives, the row would stay in its hand for good.
//
// Hardly ever is a delivery not in the node's hand, there twice, or an attempt on
// record already, so it first takes for granted that none is.
func (s *Store) Settle(ctx context.Context, node waypost.NodeID, results []store.Result) (store.Settled, error) {
	waves := sqlstore.Waves(results)
	settled, err := s.settleInHand(ctx, node, results, waves)
	if errors.Is(err, errNotInHand) || waypost.KindOf(err) == waypost.KindConflict {
		settled, err = s.settleAny(ctx, node, results, waves)
	}
	if err != nil {
		return store.Settled{}, err
	}
	slices.Sort(settled.Lost)
	slices.Sort(settled.Released)
	settled.Released = slices.Compact(settled.Released)
	return settled, nil
}

// errNotInHand ends a transaction that took too much for granted.
var errNotInHand = errors.New("not all of it is in the node's hand")

// settleInHand settles results that are all of deliveries in the node's hand; it
// fails if they are not, or if it can't tell without a look.
func (s *Store) settleInHand(ctx context.Context, node waypost.NodeID, results []store.Result, waves [][]int) (store.Settled, error) {
	needsLook := func(r store.Result) bool { return r.Earlier || r.Next == store.NextExhausted && r.Attempt == nil }
	if len(waves) > 1 || slices.ContainsFunc(results, needsLook) {
		return store.Settled{}, errNotInHand
	}
	var settled store.Settled
	w := &settlement{store: s, node: node, results: results, wave: slices.Concat(waves...)}
	gone, put := w.split()
	c := w.consequences(func(int) (int, bool) { return 0, true })
	var claims int // how many answers tell what was in the node's hand
	err := s.piped(ctx, "settle deliveries", node, func(ctx context.Context, p *pipe) {
		claims = 0
		if len(gone.events) > 0 {
			p.queue(ctx, removeQuery, gone.args(node)...)
			claims++
		}
		if len(put.events) > 0 {
			p.queue(ctx, putOffQuery, put.args(node)...)
			claims++
		}
		if len(c.attempted) > 0 {
			p.copy(ctx, copyAttempts, func(p *pipe) { w.writeAttempts(p, c.attempted) })
		}
		c.follow(func(query string, args ...any) { p.queue(ctx, query, args...) })
	}, func(answers []answer) error {
		inHand := int64(0)
		for _, a := range answers[:claims] {
			inHand += a.rows
		}
		if inHand != int64(len(results)) {
			return errNotInHand
		}
		settled = store.Settled{}
		for _, a := range answers[claims:] {
			for _, endpoint := range a.values {
				settled.Released = append(settled.Released, waypost.EndpointID(endpoint))
			}
		}
		return nil
	})
	return settled, err
}

// settleAny settles results whatever has become of their deliveries.
func (s *Store) settleAny(ctx context.Context, node waypost.NodeID, results []store.Result, waves [][]int) (store.Settled, error) {
	var settled store.Settled
	err := s.fenced(ctx, fencedWork{
		verb:    "settle deliveries",
		node:    node,
		opening: func(*pgx.Batch) { settled = store.Settled{} },
		rest: func(ctx context.Context, conn *pgx.Conn) error {
			for _, wave := range waves {
				w := settlement{store: s, node: node, results: results, wave: wave}
				if err := w.settle(ctx, conn, &settled); err != nil {
					return err
				}
			}
			return nil
		},
	})
	return settled, err
}

// settlement is the writing back of one wave of results: seize puts earlier ones
// in the node's hand, claim takes the rows that are in it, write records what
// became of them.
type settlement struct {
	store   *Store
	node    waypost.NodeID
	results []store.Result
	wave    []int
	before  map[waypost.DeliveryID]int // the claimed ones, with their attempts
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
	gone, put := w.split()
	w.before = make(map[waypost.DeliveryID]int, len(w.wave))
	note := read(func(rows pgx.Rows) error {
		var id waypost.DeliveryID
		var attempts int
		err := rows.Scan(&id.Event, &id.Endpoint, &attempts)
		w.before[id] = attempts
		return err
	})
	if len(gone.events) > 0 {
		b.Queue(removeQuery+claimed, gone.args(w.node)...).Query(note)
	}
	if len(put.events) > 0 {
		b.Queue(putOffQuery+claimed, put.args(w.node)...).Query(note)
	}
}

// removed and putOff are the arguments of removeQuery and putOffQuery, by column.
type (
	removed struct{ events, endpoints []int64 }
	putOff  struct{ events, endpoints, holders, now, due, steps, attempts []int64 }
)

func (r *removed) args(node waypost.NodeID) []any { return []any{int64(node), r.events, r.endpoints} }

func (o *putOff) args(node waypost.NodeID) []any {
	return []any{int64(node), o.events, o.endpoints, o.holders, o.now, o.due, o.steps, o.attempts}
}

// split tells what is settled from what is put off.
func (w *settlement) split() (gone removed, put putOff) {
	gone = removed{longs(len(w.wave)), longs(len(w.wave))}
	for _, i := range w.wave {
		r := &w.results[i]
		if r.Next != store.NextRetry {
			gone.events = append(gone.events, int64(r.Delivery.Event))
			gone.endpoints = append(gone.endpoints, int64(r.Delivery.Endpoint))
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
	return gone, put
}

// consequences are what is to be written of the results that count.
type consequences struct {
	attempted        []int // indexes of results
	received, failed ended
	lost             []int
}

// consequences asks of each result whether its delivery was in the node's hand, and
// how many attempts there were before.
func (w *settlement) consequences(claimed func(i int) (before int, mine bool)) consequences {
	var c consequences
	for _, i := range w.wave {
		r := &w.results[i]
		before, mine := claimed(i)
		if !mine {
			c.lost = append(c.lost, i)
			continue
		}
		if r.Attempt != nil {
			c.attempted = append(c.attempted, i)
		}
		switch r.Next {
		case store.NextDelivered:
			c.received.add(r, w.store.SettledAt(r).UnixMilli(), 0)
		case store.NextExhausted:
			c.failed.add(r, w.store.SettledAt(r).UnixMilli(), int64(sqlstore.Attempts(r, before)))
		case store.NextRetry:
		}
	}
	return c
}

func (w *settlement) write(ctx context.Context, conn *pgx.Conn, settled *store.Settled) error {
	c := w.consequences(func(i int) (int, bool) {
		before, mine := w.before[w.results[i].Delivery]
		return before, mine
	})
	settled.Lost = append(settled.Lost, c.lost...)
	batch := &pgx.Batch{}
	if len(c.attempted) > 0 {
		batch.Queue(newAttemptsQuery, w.attemptArgs(c.attempted)...)
	}
	c.follow(func(query string, args ...any) {
		batch.Queue(query, args...).Query(read(func(rows pgx.Rows) error {
			var endpoint waypost.EndpointID
			err := rows.Scan(&endpoint)
			settled.Released = append(settled.Released, endpoint)
			return err
		}))
	})
	if batch.Len() == 0 {
		return nil
	}
	return conn.SendBatch(ctx, batch).Close()
}

// follow queues what follows from deliveries that were settled. What returns rows
// names endpoints for which deliveries were released.
func (c *consequences) follow(queue func(query string, args ...any)) {
	if r := &c.received; len(r.events) > 0 {
		queue(releaseQuery, r.events, r.endpoints, r.at)
	}
	if f := &c.failed; len(f.events) > 0 {
		queue(exhaustQuery, f.events, f.endpoints, f.at, f.reasons, f.attempts)
		queue(failWaitingQuery, f.events, f.endpoints, f.at, string(waypost.ReasonMainFailed))
	}
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

func (w *settlement) writeAttempts(p *pipe, attempted []int) {
	for _, i := range attempted {
		r := &w.results[i]
		p.row(attemptColumns)
		p.long(int64(r.Delivery.Event))
		p.long(int64(r.Delivery.Endpoint))
		p.long(int64(r.Attempt.N))
		p.long(sqlstore.Millis(r.Attempt.At))
		p.long(int64(r.Attempt.Duration))
		p.long(int64(r.Attempt.Status))
		p.text(string(r.Attempt.Outcome))
		p.text(string(r.Attempt.Reason))
		p.built(func(b []byte) []byte { return sqlstore.AppendDetail(b, &r.Attempt.Detail) })
	}
}

// attemptArgs are the arguments of newAttemptsQuery.
func (w *settlement) attemptArgs(attempted []int) []any {
	var events, endpoints, n, at, durations, statuses []int64
	var outcomes, reasons []string
	var details [][]byte
	for _, i := range attempted {
		r := &w.results[i]
		events = append(events, int64(r.Delivery.Event))
		endpoints = append(endpoints, int64(r.Delivery.Endpoint))
		n = append(n, int64(r.Attempt.N))
		at = append(at, sqlstore.Millis(r.Attempt.At))
		durations = append(durations, int64(r.Attempt.Duration))
		statuses = append(statuses, int64(r.Attempt.Status))
		outcomes = append(outcomes, string(r.Attempt.Outcome))
		reasons = append(reasons, string(r.Attempt.Reason))
		details = append(details, sqlstore.AppendDetail(nil, &r.Attempt.Detail))
	}
	return []any{events, endpoints, n, at, durations, statuses, outcomes, reasons, details}
}
