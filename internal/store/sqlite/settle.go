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

// detailSize is what the detail of an attempt that went well takes, about.
const detailSize = 160

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
	w.details = make([]byte, 0, detailSize*len(wave))
	attempts := w.writer.attempts.rows(len(wave))
	ended := make([]*store.Result, 0, len(wave))
	for _, i := range wave {
		r := &w.results[i]
		count, mine := before[r.Delivery]
		switch {
		case r.Next == store.NextRetry:
			if mine, err = w.putOff(r); err != nil {
				return err
			}
		case !w.asksBefore(r):
			mine = true
		}
		if !mine {
			w.lost = append(w.lost, i)
			continue
		}
		attempts = w.appendAttempt(attempts, r)
		if r.Next != store.NextRetry {
			ended = append(ended, r)
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

// asksBefore tells whether it matters if a delivery that is settled was in the
// node's hand, and how many requests had been made: of what was delivered,
// trusting, neither does.
func (w *settlement) asksBefore(r *store.Result) bool {
	return !w.trusting || r.Next != store.NextDelivered
}

// remove takes away the rows of what is settled, as far as they are in the node's
// hand, and gives how many requests had been made before, for those that ask.
func (w *settlement) remove(wave []int) (before map[waypost.DeliveryID]int, err error) {
	plain, told := make(map[waypost.EndpointID][]driver.Value), make(map[waypost.EndpointID][]driver.Value)
	for _, i := range wave {
		r := &w.results[i]
		if r.Next == store.NextRetry {
			continue
		}
		to := plain
		if w.asksBefore(r) {
			to = told
		}
		to[r.Delivery.Endpoint] = append(to[r.Delivery.Endpoint], int64(r.Delivery.Event))
	}
	for endpoint, events := range plain {
		removed, err := w.writer.settle.change(events, int64(w.node), int64(endpoint))
		if err != nil {
			return nil, err
		}
		if removed != int64(len(events)) {
			return nil, errNotInHand
		}
	}
	before = make(map[waypost.DeliveryID]int)
	for endpoint, events := range told {
		err := w.writer.settleTold.query(func(r row) error {
			var id waypost.DeliveryID
			var attempts int
			err := r.Scan(&id.Event, &id.Endpoint, &attempts)
			before[id] = attempts
			return err
		}, events, int64(w.node), int64(endpoint))
		if err != nil {
			return nil, err
		}
	}
	return before, nil
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
	values = append(values, int64(r.Delivery.Event))
	values = like(w.writer.attempts, values, int64(r.Delivery.Endpoint))
	values = append(values, int64(a.N))
	values = like(w.writer.attempts, values, sqlstore.Millis(a.At))
	values = append(values, int64(a.Duration), int64(a.Status))
	values = like(w.writer.attempts, values, string(a.Outcome))
	values = like(w.writer.attempts, values, string(a.Reason))
	return append(values, w.details[start:])
}

// waiting is a delivery that waits for another of its event.
type waiting struct {
	id       waypost.DeliveryID
	after    waypost.EndpointID
	attempts int64
}

// settleWaiting releases what waited for a delivery that was received, and gives
// up what waited for one that was given up, and what waited for that.
func (w *settlement) settleWaiting(results []*store.Result) error {
	left, err := w.waitingFor(results)
	if err != nil || len(left) == 0 {
		return err
	}
	ended := make(map[waypost.DeliveryID]*store.Result, len(results))
	for _, r := range results {
		ended[r.Delivery] = r
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
func (w *settlement) waitingFor(ended []*store.Result) (found []waiting, err error) {
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
	for _, r := range ended {
		if _, again := events[r.Delivery.Event]; !again {
			events[r.Delivery.Event] = struct{}{}
			values = append(values, int64(r.Delivery.Event))
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
