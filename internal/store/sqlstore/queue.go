package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// dueQuery hops from endpoint to endpoint along the index of what is in nobody's
// hand: two seeks for each endpoint, none for the rows in between.
const dueQuery = `
WITH RECURSIVE lane(id) AS (
	SELECT (SELECT MIN(endpoint_id) FROM deliveries WHERE node_id = 0 AND after_endpoint = 0)
	UNION ALL
	SELECT (SELECT MIN(endpoint_id) FROM deliveries
	        WHERE node_id = 0 AND after_endpoint = 0 AND endpoint_id > lane.id)
	FROM lane WHERE lane.id IS NOT NULL
)
SELECT id, (SELECT MIN(due) FROM deliveries
            WHERE node_id = 0 AND after_endpoint = 0 AND endpoint_id = lane.id)
FROM lane WHERE id IS NOT NULL`

// Due implements store.Queue.
func (s *Store) Due(ctx context.Context) ([]store.Due, error) {
	due, err := collect(ctx, s.read, func(row scanner) (store.Due, error) {
		var d store.Due
		var at int64
		err := row.Scan(&d.Endpoint, &at)
		d.At = FromMillis(at)
		return d, err
	}, dueQuery)
	return due, s.Explain("list due endpoints", err)
}

// Retry implements store.Interventions.
func (s *Store) Retry(ctx context.Context, id waypost.DeliveryID, now time.Time) error {
	return s.Update(ctx, "retry delivery", func(ctx context.Context, tx *sql.Tx) error {
		if err := s.checkRetry(ctx, tx, id); err != nil {
			return err
		}
		var node waypost.NodeID
		err := tx.QueryRowContext(ctx,
			`SELECT node_id FROM deliveries WHERE event_id = $1 AND endpoint_id = $2`+s.flavor.ForUpdate,
			int64(id.Event), int64(id.Endpoint)).Scan(&node)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			err = revive(ctx, tx, id, now)
		case err != nil:
			return err
		case node != 0: // its node can't be told; but when it puts the delivery off, it stays due
			_, err = tx.ExecContext(ctx,
				`UPDATE deliveries SET due = 0 WHERE event_id = $1 AND endpoint_id = $2`, int64(id.Event), int64(id.Endpoint))
		default:
			_, err = tx.ExecContext(ctx,
				`UPDATE deliveries SET due = $3, after_endpoint = 0 WHERE event_id = $1 AND endpoint_id = $2`,
				int64(id.Event), int64(id.Endpoint), Millis(now))
		}
		if err != nil {
			return err
		}
		return s.notify(ctx, tx)
	})
}

func (s *Store) checkRetry(ctx context.Context, tx *sql.Tx, id waypost.DeliveryID) error {
	if err := s.holdEvent(ctx, tx, id.Event); err != nil {
		return err
	}
	var one int
	err := tx.QueryRowContext(ctx, `SELECT 1 FROM endpoints WHERE id = $1 AND deleted_at = 0`, int64(id.Endpoint)).Scan(&one)
	return found(err, "endpoint", id.Endpoint)
}

// holdEvent is for an event that is about to be owed: it keeps retention away from
// it until the transaction ends. KindConflict if its body is gone.
func (s *Store) holdEvent(ctx context.Context, tx *sql.Tx, event waypost.EventID) error {
	var size int
	err := tx.QueryRowContext(ctx, `SELECT length(body) FROM events WHERE id = $1`+s.flavor.ForUpdate, int64(event)).Scan(&size)
	if err != nil {
		return found(err, "event", event)
	}
	if size == 0 {
		return waypost.Errorf(waypost.KindConflict, "the body of event %s is no longer kept, so it can't be delivered again", event)
	}
	return nil
}

// revive makes a settled delivery owed again.
func revive(ctx context.Context, tx *sql.Tx, id waypost.DeliveryID, now time.Time) error {
	attempts, settled, err := takeSettled(ctx, tx, id)
	if err != nil {
		return err
	}
	if !settled {
		return waypost.Errorf(waypost.KindNotFound, "no delivery has the id %q", id)
	}
	return insertOwed(ctx, tx, id, 0, attempts, now)
}

// takeSettled forgets that a delivery was given up and tells how many requests
// were made for it, so that their numbering goes on.
func takeSettled(ctx context.Context, tx *sql.Tx, id waypost.DeliveryID) (attempts int, settled bool, err error) {
	var made, last sql.NullInt64
	err = tx.QueryRowContext(ctx,
		`DELETE FROM exhausted WHERE endpoint_id = $1 AND event_id = $2 RETURNING attempts`,
		int64(id.Endpoint), int64(id.Event)).Scan(&made)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, false, err
	}
	err = tx.QueryRowContext(ctx,
		`SELECT MAX(n) FROM attempts WHERE event_id = $1 AND endpoint_id = $2`,
		int64(id.Event), int64(id.Endpoint)).Scan(&last)
	return int(max(made.Int64, last.Int64)), made.Valid || last.Valid, err
}

// insertOwed writes a delivery in nobody's hand, unless there is one.
func insertOwed(ctx context.Context, tx *sql.Tx, id waypost.DeliveryID, after waypost.EndpointID, attempts int, now time.Time) error {
	_, err := tx.ExecContext(ctx, `
INSERT INTO deliveries (event_id, endpoint_id, node_id, due, attempts, step, after_endpoint)
VALUES ($1, $2, 0, $3, $4, 0, $5)
ON CONFLICT (event_id, endpoint_id) DO NOTHING`,
		int64(id.Event), int64(id.Endpoint), Millis(now), attempts, int64(after))
	return err
}

// Owe implements store.Interventions. A delivery whose After is owed neither here
// nor already waits for nothing.
func (s *Store) Owe(ctx context.Context, event waypost.EventID, owed []store.Owing, now time.Time) error {
	return s.Update(ctx, "owe deliveries", func(ctx context.Context, tx *sql.Tx) error {
		if err := s.holdEvent(ctx, tx, event); err != nil {
			return err
		}
		present, err := s.lockOwed(ctx, tx, event)
		if err != nil {
			return err
		}
		for _, o := range owed {
			if _, there := present[o.Endpoint]; !there {
				present[o.Endpoint] = false
			}
		}
		for _, o := range owed {
			if present[o.Endpoint] {
				continue
			}
			present[o.Endpoint] = true
			after := o.After
			if _, there := present[after]; !there || after == o.Endpoint {
				after = 0
			}
			id := waypost.DeliveryID{Event: event, Endpoint: o.Endpoint}
			attempts, _, err := takeSettled(ctx, tx, id)
			if err != nil {
				return err
			}
			if err := insertOwed(ctx, tx, id, after, attempts, now); err != nil {
				return err
			}
		}
		return s.notify(ctx, tx)
	})
}

// lockOwed lists the endpoints that are owed the event, each as true, and keeps
// them from being settled meanwhile: one that is waited for must not be received
// between the look and the write.
func (s *Store) lockOwed(ctx context.Context, tx *sql.Tx, event waypost.EventID) (map[waypost.EndpointID]bool, error) {
	endpoints, err := collect(ctx, tx, func(row scanner) (id waypost.EndpointID, err error) {
		return id, row.Scan(&id)
	}, `SELECT endpoint_id FROM deliveries WHERE event_id = $1 ORDER BY endpoint_id`+s.flavor.ForUpdate, int64(event))
	present := make(map[waypost.EndpointID]bool, len(endpoints))
	for _, id := range endpoints {
		present[id] = true
	}
	return present, err
}

// Reroute implements store.Interventions. KindConflict if the event has an owner or
// was not understood.
func (s *Store) Reroute(ctx context.Context, event waypost.EventID, tenant waypost.TenantID, number waypost.NumberID) error {
	return s.Update(ctx, "reroute event", func(ctx context.Context, tx *sql.Tx) error {
		if err := s.holdEvent(ctx, tx, event); err != nil {
			return err
		}
		var state waypost.EventState
		if err := tx.QueryRowContext(ctx, `SELECT state FROM events WHERE id = $1`, int64(event)).Scan(&state); err != nil {
			return err
		}
		if state != waypost.EventUnrouted {
			return waypost.Errorf(waypost.KindConflict, "event %s is %s; only an unrouted one can be given an owner", event, state)
		}
		_, err := tx.ExecContext(ctx,
			`UPDATE events SET state = $2, tenant_id = $3, number_id = $4 WHERE id = $1`,
			int64(event), string(waypost.EventRouted), int64(tenant), int64(number))
		return err
	})
}

// dropQueries find what Drop may drop: first what is free, then what waits. Each
// goes along an index, see deliveries_free.
var dropQueries = []string{
	`SELECT event_id FROM deliveries
WHERE endpoint_id = $1 AND event_id < $2 AND node_id = 0 AND after_endpoint = 0 ORDER BY event_id NULLS FIRST LIMIT $3`,
	`SELECT event_id FROM deliveries
WHERE endpoint_id = $1 AND event_id < $2 AND node_id = 0 AND after_endpoint <> 0 ORDER BY event_id LIMIT $3`,
}

// Drop implements store.Interventions, oldest event first. Deliveries that wait for
// another are dropped with the rest; those that wait for a dropped one end with it,
// uncounted.
func (s *Store) Drop(ctx context.Context, endpoint waypost.EndpointID, before waypost.EventID, reason waypost.Reason, now time.Time, limit int) (int, error) {
	var dropped int
	err := s.Update(ctx, "drop deliveries", func(ctx context.Context, tx *sql.Tx) error {
		dropped = 0
		for _, query := range dropQueries {
			events, err := collect(ctx, tx, func(row scanner) (id waypost.EventID, err error) {
				return id, row.Scan(&id)
			}, query+s.flavor.ForUpdate,
				int64(endpoint), int64(before), limit-dropped)
			if err != nil {
				return err
			}
			for _, event := range events {
				if err := Exhaust(ctx, tx, waypost.DeliveryID{Event: event, Endpoint: endpoint}, reason, now); err != nil {
					return err
				}
			}
			dropped += len(events)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return dropped, nil
}

// Exhaust settles an owed delivery as given up, and with it what waits for it.
func Exhaust(ctx context.Context, tx *sql.Tx, id waypost.DeliveryID, reason waypost.Reason, at time.Time) error {
	var attempts int
	err := tx.QueryRowContext(ctx,
		`DELETE FROM deliveries WHERE event_id = $1 AND endpoint_id = $2 RETURNING attempts`,
		int64(id.Event), int64(id.Endpoint)).Scan(&attempts)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
INSERT INTO exhausted (endpoint_id, event_id, at, reason, attempts) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (endpoint_id, event_id)
DO UPDATE SET at = excluded.at, reason = excluded.reason, attempts = excluded.attempts`,
		int64(id.Endpoint), int64(id.Event), Millis(at), string(reason), attempts)
	if err != nil {
		return err
	}
	return ExhaustWaiting(ctx, tx, id, at)
}

// ExhaustWaiting gives up what waits for a delivery that was given up.
func ExhaustWaiting(ctx context.Context, tx *sql.Tx, id waypost.DeliveryID, at time.Time) error {
	waiting, err := collect(ctx, tx, func(row scanner) (endpoint waypost.EndpointID, err error) {
		return endpoint, row.Scan(&endpoint)
	}, `SELECT endpoint_id FROM deliveries WHERE event_id = $1 AND after_endpoint = $2`, int64(id.Event), int64(id.Endpoint))
	if err != nil {
		return err
	}
	for _, endpoint := range waiting {
		next := waypost.DeliveryID{Event: id.Event, Endpoint: endpoint}
		if err := Exhaust(ctx, tx, next, waypost.ReasonMainFailed, at); err != nil {
			return err
		}
	}
	return nil
}
