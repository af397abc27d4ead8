package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Settle implements store.Queue. Deliveries hardly ever leave a hand but by
// being settled, so it first takes for granted that all were in the node's.
func (s *Store) Settle(ctx context.Context, node waypost.NodeID, results []store.Result) (store.Settled, error) {
	settled, err := s.settle(ctx, node, results, true)
	if errors.Is(err, errNotInHand) {
		settled, err = s.settle(ctx, node, results, false)
	}
	if err != nil {
		return store.Settled{}, err
	}
	slices.Sort(settled.Lost)
	slices.Sort(settled.Released)
	settled.Released = slices.Compact(settled.Released)
	return settled, nil
}

// errNotInHand undoes a transaction that took too much for granted.
var errNotInHand = errors.New("a delivery is not in the node's hand")

func (s *Store) settle(ctx context.Context, node waypost.NodeID, results []store.Result, trusting bool) (store.Settled, error) {
	var settled store.Settled
	err := s.fenced(ctx, "settle deliveries", node, func(ctx context.Context, tx *sql.Tx) error {
		settled = store.Settled{}
		for _, wave := range sqlstore.Waves(results) {
			w := settlement{store: s, tx: tx, node: node, results: results, trusting: trusting}
			if err := w.settle(ctx, wave); err != nil {
				return err
			}
			settled.Lost = append(settled.Lost, w.lost...)
			settled.Released = append(settled.Released, w.released...)
		}
		return nil
	})
	return settled, err
}

// settlement is the writing back of one wave of results.
type settlement struct {
	store    *Store
	tx       *sql.Tx
	node     waypost.NodeID
	results  []store.Result
	trusting bool // fail with errNotInHand rather than find out which are lost
	lost     []int
	released []waypost.EndpointID
}

func (w *settlement) settle(ctx context.Context, wave []int) error {
	if sqlstore.AnyEarlier(w.results, wave) {
		var err error
		if wave, err = w.seize(ctx, wave); err != nil {
			return err
		}
	}
	before, err := w.remove(ctx, wave)
	if err != nil {
		return err
	}
	var exhausted []any
	attempts := make([]any, 0, w.store.hot.attempts.width*len(wave))
	ended := make(map[waypost.DeliveryID]*store.Result, len(before))
	for _, i := range wave {
		r := &w.results[i]
		count, mine := before[r.Delivery]
		if r.Next == store.NextRetry {
			if mine, err = w.putOff(ctx, r); err != nil {
				return err
			}
		}
		if !mine {
			w.lost = append(w.lost, i)
			continue
		}
		if attempts, err = appendAttempt(attempts, r); err != nil {
			return err
		}
		if r.Next != store.NextRetry {
			ended[r.Delivery] = r
		}
		if r.Next == store.NextExhausted {
			exhausted = append(exhausted, int64(r.Delivery.Endpoint), int64(r.Delivery.Event),
				sqlstore.Millis(w.store.SettledAt(r)), string(r.Reason), sqlstore.Attempts(r, count))
		}
	}
	if err := w.store.hot.attempts.exec(ctx, w.tx, attempts); err != nil {
		return err
	}
	if err := w.store.hot.exhaust.exec(ctx, w.tx, exhausted); err != nil {
		return err
	}
	return w.settleWaiting(ctx, ended)
}

// seize puts in the node's hand what earlier results are about, as far as it is in
// nobody's and was not tried since. It gives the wave without the others.
func (w *settlement) seize(ctx context.Context, wave []int) ([]int, error) {
	var left []int
	for _, i := range wave {
		r := &w.results[i]
		if r.Earlier {
			result, err := exec(ctx, w.tx, w.store.hot.seize, int64(w.node),
				int64(r.Delivery.Event), int64(r.Delivery.Endpoint), sqlstore.AttemptsBefore(r))
			if err != nil {
				return nil, err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return nil, err
			}
			if n == 0 {
				w.lost = append(w.lost, i)
				continue
			}
		}
		left = append(left, i)
	}
	return left, nil
}

// remove takes away the rows of what is settled, as far as they are in the node's
// hand, and gives how many requests had been made before. Of what was delivered
// nobody asks that; trusting, it is 0.
func (w *settlement) remove(ctx context.Context, wave []int) (map[waypost.DeliveryID]int, error) {
	var plain, told []any
	before := make(map[waypost.DeliveryID]int, len(wave))
	for _, i := range wave {
		switch r := &w.results[i]; {
		case r.Next == store.NextRetry:
		case r.Next == store.NextDelivered && w.trusting:
			before[r.Delivery] = 0
			plain = append(plain, int64(r.Delivery.Event), int64(r.Delivery.Endpoint))
		default:
			told = append(told, int64(r.Delivery.Event), int64(r.Delivery.Endpoint))
		}
	}
	removed, err := w.store.hot.settle.change(ctx, w.tx, plain, int64(w.node))
	if err != nil {
		return nil, err
	}
	if removed != int64(len(plain)/2) {
		return nil, errNotInHand
	}
	err = w.store.hot.settleTold.query(ctx, w.tx, func(rows *sql.Rows) error {
		var id waypost.DeliveryID
		var attempts int
		err := rows.Scan(&id.Event, &id.Endpoint, &attempts)
		before[id] = attempts
		return err
	}, told, int64(w.node))
	return before, err
}

// putOff keeps a delivery owed. It reports whether it was in the node's hand.
func (w *settlement) putOff(ctx context.Context, r *store.Result) (bool, error) {
	result, err := exec(ctx, w.tx, w.store.hot.putOff, int64(sqlstore.Holder(r, w.node)), sqlstore.Millis(w.store.SettledAt(r)), sqlstore.Millis(r.At),
		r.Step, sqlstore.Attempts(r, 0), int64(r.Delivery.Event), int64(r.Delivery.Endpoint), int64(w.node))
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

func appendAttempt(values []any, r *store.Result) ([]any, error) {
	a := r.Attempt
	if a == nil {
		return values, nil
	}
	detail, err := sqlstore.EncodeDetail(&a.Detail)
	if err != nil {
		return nil, err
	}
	return append(values, int64(r.Delivery.Event), int64(r.Delivery.Endpoint), a.N, sqlstore.Millis(a.At),
		int64(a.Duration), a.Status, string(a.Outcome), string(a.Reason), detail), nil
}

// settleWaiting releases what waited for a delivery that was received, and gives
// up what waited for one that was given up.
func (w *settlement) settleWaiting(ctx context.Context, ended map[waypost.DeliveryID]*store.Result) error {
	type waiting struct {
		id   waypost.DeliveryID
		main *store.Result
	}
	var found []waiting
	values := make([]any, 0, len(ended))
	for id := range ended {
		values = append(values, int64(id.Event))
	}
	err := w.store.hot.waiting.query(ctx, w.tx, func(rows *sql.Rows) error {
		var id waypost.DeliveryID
		var after waypost.EndpointID
		err := rows.Scan(&id.Event, &id.Endpoint, &after)
		if r := ended[waypost.DeliveryID{Event: id.Event, Endpoint: after}]; r != nil {
			found = append(found, waiting{id, r})
		}
		return err
	}, values)
	if err != nil {
		return err
	}
	for _, one := range found {
		if err := w.follow(ctx, one.id, one.main.Next, w.store.SettledAt(one.main)); err != nil {
			return err
		}
	}
	return nil
}

// follow does to a waiting delivery what becomes of it when its main one ends.
func (w *settlement) follow(ctx context.Context, id waypost.DeliveryID, next store.Next, at time.Time) error {
	if next == store.NextExhausted {
		return sqlstore.Exhaust(ctx, w.tx, id, waypost.ReasonMainFailed, at)
	}
	w.released = append(w.released, id.Endpoint)
	_, err := exec(ctx, w.tx, w.store.hot.release, sqlstore.Millis(at), int64(id.Event), int64(id.Endpoint))
	return err
}
