package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"

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
	err := s.fenced(ctx, "settle deliveries", node, soon, func(writer *writer) error {
		for _, wave := range sqlstore.Waves(results) {
			w := settlement{store: s, writer: writer, node: node, results: results, trusting: trusting}
			if err := w.settle(wave); err != nil {
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
	writer   *writer
	node     waypost.NodeID
	results  []store.Result
	trusting bool   // fail with errNotInHand rather than find out which are lost
	details  []byte // of all attempts, one after the other
	lost     []int
	released []waypost.EndpointID
}

func (w *settlement) settle(wave []int) error {
	if sqlstore.AnyEarlier(w.results, wave) {
		var err error
		if wave, err = w.seize(wave); err != nil {
			return err
		}
	}
	before, err := w.remove(wave)
	if err != nil {
		return err
	}
	var exhausted []driver.Value
	attempts := make([]driver.Value, 0, w.writer.attempts.width*len(wave))
	ended := make(map[waypost.DeliveryID]*store.Result, len(before))
	for _, i := range wave {
		r := &w.results[i]
		count, mine := before[r.Delivery]
		if r.Next == store.NextRetry {
			if mine, err = w.putOff(r); err != nil {
				return err
			}
		}
		if !mine {
			w.lost = append(w.lost, i)
			continue
		}
		attempts = w.appendAttempt(attempts, r)
		if r.Next != store.NextRetry {
			ended[r.Delivery] = r
		}
		if r.Next == store.NextExhausted {
			exhausted = append(exhausted, int64(r.Delivery.Endpoint), int64(r.Delivery.Event),
				sqlstore.Millis(w.store.SettledAt(r)), string(r.Reason), int64(sqlstore.Attempts(r, count)))
		}
	}
	if err := w.writer.attempts.exec(attempts); err != nil {
		return err
	}
	if err := w.writer.exhaust.exec(exhausted); err != nil {
		return err
	}
	return w.settleWaiting(ended)
}

// seize puts in the node's hand what earlier results are about, as far as it is in
// nobody's and was not tried since. It gives the wave without the others.
func (w *settlement) seize(wave []int) ([]int, error) {
	var left []int
	for _, i := range wave {
		r := &w.results[i]
		if r.Earlier {
			n, err := w.writer.seize.exec(int64(w.node), int64(r.Delivery.Event), int64(r.Delivery.Endpoint), int64(sqlstore.AttemptsBefore(r)))
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
func (w *settlement) remove(wave []int) (map[waypost.DeliveryID]int, error) {
	var plain, told []driver.Value
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
	removed, err := w.writer.settle.change(plain, int64(w.node))
	if err != nil {
		return nil, err
	}
	if removed != int64(len(plain)/2) {
		return nil, errNotInHand
	}
	err = w.writer.settleTold.query(func(r row) error {
		var id waypost.DeliveryID
		var attempts int
		err := r.Scan(&id.Event, &id.Endpoint, &attempts)
		before[id] = attempts
		return err
	}, told, int64(w.node))
	return before, err
}

// putOff keeps a delivery owed. It reports whether it was in the node's hand.
func (w *settlement) putOff(r *store.Result) (bool, error) {
	n, err := w.writer.putOff.exec(int64(sqlstore.Holder(r, w.node)), sqlstore.Millis(w.store.SettledAt(r)), sqlstore.Millis(r.At),
		int64(r.Step), int64(sqlstore.Attempts(r, 0)), int64(r.Delivery.Event), int64(r.Delivery.Endpoint), int64(w.node))
	return n > 0, err
}

// appendAttempt appends the values of the result's attempt, if it has one.
func (w *settlement) appendAttempt(values []driver.Value, r *store.Result) []driver.Value {
	a := r.Attempt
	if a == nil {
		return values
	}
	start := len(w.details)
	w.details = sqlstore.AppendDetail(w.details, &a.Detail)
	return append(values, int64(r.Delivery.Event), int64(r.Delivery.Endpoint), int64(a.N), sqlstore.Millis(a.At),
		int64(a.Duration), int64(a.Status), string(a.Outcome), string(a.Reason), w.details[start:])
}

// waiting is a delivery that waits for another of its event.
type waiting struct {
	id       waypost.DeliveryID
	after    waypost.EndpointID
	attempts int64
}

// settleWaiting releases what waited for a delivery that was received, and gives
// up what waited for one that was given up, and what waited for that.
func (w *settlement) settleWaiting(ended map[waypost.DeliveryID]*store.Result) error {
	left, err := w.waitingFor(ended)
	if err != nil {
		return err
	}
	var dropped, exhausted []driver.Value
	for i := 0; i < len(left); {
		one := left[i]
		main := ended[waypost.DeliveryID{Event: one.id.Event, Endpoint: one.after}]
		if main == nil {
			i++
			continue
		}
		left = slices.Delete(left, i, i+1)
		at := sqlstore.Millis(w.store.SettledAt(main))
		if main.Next == store.NextDelivered {
			w.released = append(w.released, one.id.Endpoint)
			if _, err := w.writer.release.exec(at, int64(one.id.Event), int64(one.id.Endpoint)); err != nil {
				return err
			}
			continue
		}
		dropped = append(dropped, int64(one.id.Event), int64(one.id.Endpoint))
		exhausted = append(exhausted, int64(one.id.Endpoint), int64(one.id.Event), at, string(waypost.ReasonMainFailed), one.attempts)
		ended[one.id] = main
		i = 0 // what waits for this one may have been passed over
	}
	if err := w.writer.drop.exec(dropped); err != nil {
		return err
	}
	return w.writer.exhaust.exec(exhausted)
}

// waitingFor finds what waits among the deliveries of the events. Mostly nothing
// waits anywhere, which costs one look.
func (w *settlement) waitingFor(ended map[waypost.DeliveryID]*store.Result) (found []waiting, err error) {
	some := false
	err = w.writer.anyWaiting.query(func(row) error {
		some = true
		return nil
	})
	if err != nil || !some {
		return nil, err
	}
	events := make(map[waypost.EventID]struct{}, len(ended))
	values := make([]driver.Value, 0, len(ended))
	for id := range ended {
		if _, again := events[id.Event]; !again {
			events[id.Event] = struct{}{}
			values = append(values, int64(id.Event))
		}
	}
	err = w.writer.waiting.query(func(r row) error {
		var one waiting
		err := r.Scan(&one.id.Event, &one.id.Endpoint, &one.after, &one.attempts)
		found = append(found, one)
		return err
	}, values)
	return found, err
}
