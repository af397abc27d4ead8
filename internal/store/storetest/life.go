package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/life"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var lifeTests = []test{
	{"the store keeps to the life of a delivery", lifeBesideStore},
}

// lifeBesideStore walks life.Table and the store side by side: what is proven of
// the one holds for the other as far as they never differ.
func lifeBesideStore(f *fixture) {
	t, ok := f.tb.(*testing.T)
	if !ok {
		f.tb.Fatal("a life needs a *testing.T")
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := walk{f: f, clock: f.later(), endpoint: f.endpoint(func(*waypost.Endpoint) {})}
		defer w.end()
		w.join(rt, 0)
		w.join(rt, 1)
		w.arrival = f.arrival()
		w.event = w.arrival.Event.ID
		w.arrival.DedupeKey = fmt.Appendf(nil, "%d", w.event)
		rt.Repeat(map[string]func(*rapid.T){
			"":        w.compare,
			"accept":  w.accept,
			"take":    w.take,
			"settle":  w.settle,
			"put off": w.settle, // twice as often: most of what happens
			"ripen":   w.ripen,
			"retry":   w.retry,
			"expire":  w.expire,
			"adopt":   w.adopt,
			"join":    func(rt *rapid.T) { w.join(rt, rapid.IntRange(0, 1).Draw(rt, "process")) },
			"leave":   w.leave,
		})
	})
}

// walk is one history.
type walk struct {
	f        *fixture
	table    life.Table
	nodes    [5]waypost.NodeID // by life.Run
	clock    time.Time
	arrival  store.Arrival
	event    waypost.EventID // the one that is stored, once one is
	endpoint waypost.EndpointID
}

// wait is longer than anything that is put off for.
const wait = 1000 * time.Hour

func (w *walk) id() waypost.DeliveryID {
	return waypost.DeliveryID{Event: w.event, Endpoint: w.endpoint}
}

// end leaves nothing that the next history could adopt.
func (w *walk) end() {
	for _, node := range w.nodes {
		if node != 0 {
			w.f.must(w.f.store.Leave(w.f.ctx(), node, w.clock))
		}
	}
}

func (w *walk) run(rt *rapid.T) life.Run {
	return life.Now(rapid.IntRange(0, 1).Draw(rt, "process"))
}

// same compares what the two made of a step, and keeps the table's new state.
func (w *walk) same(rt *rapid.T, table life.Table, want life.Answer, did bool, err error) {
	got := life.Nothing
	switch {
	case errors.Is(err, store.ErrLeaseLost):
		got = life.LeaseLost
	case err != nil:
		rt.Fatal(err)
	case did:
		got = life.Done
	}
	if got != want {
		rt.Fatalf("the store's answer is %d, want %d in %+v", got, want, w.table)
	}
	w.table = table
}

func (w *walk) accept(rt *rapid.T) {
	run, inHand := w.run(rt), rapid.Bool().Draw(rt, "in hand")
	w.arrival.Event = w.f.event() // a sender that comes again gets a new id
	w.arrival.Owed = owing(w.endpoint)
	if inHand {
		w.arrival.Owed[0].Place = store.InHand
	}
	table, want := w.table.Accept(run, inHand)
	receipts, err := w.f.store.Accept(w.f.ctx(), w.nodes[run], []store.Arrival{w.arrival})
	w.same(rt, table, want, err == nil && !receipts[0].Duplicate, err)
	switch {
	case want == life.Done:
		w.event = receipts[0].Event
	case err == nil && receipts[0].Event != w.event:
		rt.Fatalf("the first is said to be %s, want %s", receipts[0].Event, w.event)
	}
}

func (w *walk) take(rt *rapid.T) {
	run := w.run(rt)
	order := rapid.SampledFrom([]store.Order{store.OldestDue, store.NewestEvent}).Draw(rt, "order")
	table, want := w.table.Take(run)
	taken, err := w.f.store.Take(w.f.ctx(), w.nodes[run], w.endpoint, w.clock, 10, order)
	w.same(rt, table, want, len(taken) > 0, err)
	if len(taken) > 0 && (len(taken) > 1 || taken[0].Event.ID != w.event || taken[0].Attempts != int(w.table.Attempts)) {
		rt.Fatalf("%d taken, the first with %d attempts, want %d", len(taken), taken[0].Attempts, w.table.Attempts)
	}
}

func (w *walk) settle(rt *rapid.T) {
	run := w.run(rt)
	r := life.Result{
		Next:    rapid.SampledFrom([]life.Stage{life.Owed, life.Owed, life.Delivered, life.Exhausted}).Draw(rt, "next"),
		Earlier: rapid.Bool().Draw(rt, "earlier"),
	}
	if r.Earlier || r.Next == life.Delivered || rapid.Bool().Draw(rt, "attempted") {
		r.N = w.table.Attempts + rapid.Uint8Range(1, 2).Draw(rt, "n")
	}
	r.InHand = r.Next == life.Owed && !r.Earlier && rapid.Bool().Draw(rt, "in hand")
	table, want := w.table.Settle(run, r)
	settled, err := w.f.store.Settle(w.f.ctx(), w.nodes[run], []store.Result{w.result(r)})
	w.same(rt, table, want, err == nil && len(settled.Lost) == 0, err)
}

func (w *walk) result(r life.Result) store.Result {
	result := store.Result{Delivery: w.id(), InHand: r.InHand, Earlier: r.Earlier}
	outcome := waypost.OutcomeRetry
	switch r.Next {
	case life.Delivered:
		result.Next, outcome = store.NextDelivered, waypost.OutcomeDelivered
	case life.Exhausted:
		result.Next, result.Reason, outcome = store.NextExhausted, waypost.ReasonStatus, waypost.OutcomeExhausted
	case life.Owed, life.Unknown:
		result.Next, result.At = store.NextRetry, w.clock
	}
	if r.N > 0 {
		result.At = w.clock.Add(wait / 2)
		result.Attempt = w.f.attempt(w.id(), int(r.N), outcome)
		result.Attempt.At = w.clock.Add(-time.Minute)
	}
	return result
}

func (w *walk) ripen(*rapid.T) {
	w.clock = w.clock.Add(wait)
	w.table, _ = w.table.Ripen()
}

func (w *walk) retry(rt *rapid.T) {
	// A delivery that was only ever exhausted without an attempt, or is unknown,
	// is another matter; see retryTests.
	table, want := w.table.Retry()
	err := w.f.store.Retry(w.f.ctx(), w.id(), w.clock)
	if waypost.KindOf(err) == waypost.KindNotFound && w.table.Stage == life.Unknown {
		err = nil
		want = life.Nothing
		w.same(rt, table, want, false, err)
		return
	}
	w.same(rt, table, want, err == nil, err)
}

func (w *walk) expire(rt *rapid.T) {
	run := life.Run(rapid.IntRange(int(life.FirstNow), int(life.SecondBefore)).Draw(rt, "run"))
	table, want := w.table.Expire(run)
	if want != life.Done {
		rt.Skip("no live lease")
	}
	// Leases are judged by the real clock, which no history turns.
	_, err := w.f.store.Renew(w.f.ctx(), w.nodes[run], -time.Second, time.Now(), 0)
	w.same(rt, table, want, true, err)
}

func (w *walk) adopt(rt *rapid.T) {
	table, _ := w.table.Adopt()
	if _, err := w.f.store.Adopt(w.f.ctx(), w.clock); err != nil {
		rt.Fatal(err)
	}
	for run, lease := range table.Leases {
		if lease == life.Ended {
			w.nodes[run] = 0
		}
	}
	w.table = table
}

func (w *walk) join(rt *rapid.T, process int) {
	table, want := w.table.Join(process)
	if want != life.Done {
		rt.Skip("its run before still has a lease")
	}
	now, before := life.Now(process), life.Before(process)
	node, _, _, err := w.f.store.Join(w.f.ctx(), 1000*wait, time.Now())
	if err != nil {
		rt.Fatal(err)
	}
	w.nodes[before], w.nodes[now] = w.nodes[now], node
	w.table = table
}

func (w *walk) leave(rt *rapid.T) {
	run := w.run(rt)
	table, want := w.table.Leave(run)
	if want != life.Done {
		rt.Skip("not in the table")
	}
	if err := w.f.store.Leave(w.f.ctx(), w.nodes[run], w.clock); err != nil {
		rt.Fatal(err)
	}
	w.table = table
}

// compare looks at what the store shows.
func (w *walk) compare(rt *rapid.T) {
	d, err := w.f.store.Delivery(w.f.ctx(), w.id())
	if w.table.Stage == life.Unknown {
		if waypost.KindOf(err) != waypost.KindNotFound {
			rt.Fatalf("the delivery is %+v (%v), want none", d, err)
		}
		return
	}
	if err != nil {
		rt.Fatalf("%v in %+v", err, w.table)
	}
	want := map[life.Stage]waypost.DeliveryState{
		life.Owed: waypost.DeliveryPending, life.Delivered: waypost.DeliveryDelivered, life.Exhausted: waypost.DeliveryExhausted,
	}[w.table.Stage]
	if d.State != want || d.Attempts != int(w.table.Attempts) {
		rt.Fatalf("the delivery is %s after %d attempts, want %s after %d", d.State, d.Attempts, want, w.table.Attempts)
	}
}
