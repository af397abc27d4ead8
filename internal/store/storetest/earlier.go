package storetest

import (
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var earlierTests = []test{
	{"an earlier result settles what is in nobody's hand", earlierSettles},
	{"an earlier result puts off and gives up", earlierPutsOff},
	{"earlier results of one delivery follow each other", earlierChain},
	{"an earlier result is lost once another request was made", earlierTooLate},
	{"an earlier result takes nothing out of a hand", earlierInHand},
	{"an earlier result never leaves a delivery in a hand", earlierNotKept},
	{"earlier and present results in one call", earlierMixed},
	{"what waited for it follows an earlier result", earlierReleases},
	{"an earlier result needs a lease too", earlierFenced},
}

// rejoin has the node lose its lease and join again; what it had in hand is free.
func (f *fixture) rejoin() {
	f.tb.Helper()
	f.expire(f.node)
	f.node, _ = f.join()
}

func earlier(r store.Result) store.Result {
	r.Earlier = true
	return r
}

func earlierSettles(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.rejoin()
	f.equal("without saying so it is lost", f.settle(f.delivered(id, 1)).Lost, []int{0})
	f.equal("settled", f.settle(earlier(f.delivered(id, 1))), store.Settled{})
	f.equal("delivery", f.delivery(id.Event, id.Endpoint), waypost.Delivery{
		ID: id, State: waypost.DeliveryDelivered, Attempts: 1, LastStatus: 200, Reason: waypost.ReasonOK,
	})
	f.equal("attempts", f.attempts(id.Event), []waypost.Attempt{*f.attempt(id, 1, waypost.OutcomeDelivered)})
	f.equal("once more it is lost", f.settle(earlier(f.delivered(id, 1))).Lost, []int{0})
}

func earlierPutsOff(f *fixture) {
	off, over := f.handed(f.endpoints[0]), f.handed(f.endpoints[0])
	f.rejoin()
	at := f.now.Add(time.Hour)
	f.equal("settled", f.settle(earlier(f.putOff(off, 1, at)), earlier(f.exhausted(over, 1))), store.Settled{})
	f.equal("put off", f.delivery(off.Event, off.Endpoint), waypost.Delivery{
		ID: off, State: waypost.DeliveryPending, Attempts: 1, NextAttemptAt: at, LastStatus: 503, Reason: waypost.ReasonStatus,
	})
	f.equal("given up", f.delivery(over.Event, over.Endpoint), waypost.Delivery{
		ID: over, State: waypost.DeliveryExhausted, Attempts: 1, LastStatus: 503, Reason: waypost.ReasonStatus,
	})
	f.equal("taken before it is due", len(f.take(f.node, off.Endpoint, 10)), 0)
}

func earlierChain(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.rejoin()
	first, second, third := earlier(f.putOff(id, 1, f.now)), earlier(f.putOff(id, 2, f.now)), earlier(f.delivered(id, 3))
	f.equal("with a gap", f.settle(second, third).Lost, []int{0, 1})
	f.equal("in order", f.settle(first, second, third), store.Settled{})
	f.equal("attempts", len(f.attempts(id.Event)), 3)
	f.state(id.Event, id.Endpoint, waypost.DeliveryDelivered)

	again := f.handed(f.endpoints[0])
	f.rejoin()
	settled := f.settle(earlier(f.delivered(again, 1)), earlier(f.delivered(again, 2)))
	f.equal("after the end", settled.Lost, []int{1})
	f.equal("attempts", len(f.attempts(again.Event)), 1)
}

func earlierTooLate(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.rejoin()
	f.equal("taken", len(f.take(f.node, id.Endpoint, 10)), 1)
	f.settle(f.putOff(id, 1, f.now))
	for _, late := range []store.Result{f.delivered(id, 1), f.exhausted(id, 1), f.putOff(id, 1, f.now)} {
		f.equal("lost", f.settle(earlier(late)).Lost, []int{0})
	}
	unknown := waypost.DeliveryID{Event: id.Event, Endpoint: f.endpoints[1]}
	f.equal("never owed", f.settle(earlier(f.delivered(unknown, 1))).Lost, []int{0})
	f.equal("attempts", len(f.attempts(id.Event)), 1)
	f.equal("still owed", len(f.take(f.node, id.Endpoint, 10)), 1)
}

func earlierInHand(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.rejoin()
	for _, holder := range []waypost.NodeID{f.node, func() waypost.NodeID { other, _ := f.join(); return other }()} {
		f.equal("taken", len(f.take(holder, id.Endpoint, 10)), 1)
		f.equal("lost", f.settle(earlier(f.delivered(id, 1))).Lost, []int{0})
		settled, err := f.store.Settle(f.ctx(), holder, []store.Result{{Delivery: id, Next: store.NextRetry, At: f.now}})
		f.must(err)
		f.equal("given back", settled, store.Settled{})
	}
	f.equal("attempts", f.attempts(id.Event), []waypost.Attempt{})
}

func earlierNotKept(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.rejoin()
	kept := earlier(f.putOff(id, 1, f.now))
	kept.InHand = true
	f.equal("settled", f.settle(kept), store.Settled{})
	f.equal("taken", len(f.take(f.node, id.Endpoint, 10)), 1)
}

func earlierMixed(f *fixture) {
	a := f.endpoints[0]
	old, gone := f.handed(a), f.handed(a)
	f.rejoin()
	f.must(f.store.Retry(f.ctx(), gone, f.now))
	f.equal("taken", len(f.take(f.node, a, 10)), 2)
	f.settle(f.delivered(gone, 1), store.Result{Delivery: old, Next: store.NextRetry, At: f.now})
	present := f.handed(a)
	settled := f.settle(
		f.delivered(present, 1),
		earlier(f.delivered(gone, 1)),
		earlier(f.putOff(old, 1, f.now)),
		f.delivered(old, 2), // the earlier one left it in nobody's hand
		earlier(f.delivered(old, 2)),
	)
	f.equal("lost", settled.Lost, []int{1, 3})
	f.state(present.Event, a, waypost.DeliveryDelivered)
	f.state(old.Event, a, waypost.DeliveryDelivered)
	f.equal("attempts", len(f.attempts(old.Event)), 2)
}

func earlierReleases(f *fixture) {
	_, main := f.clones()
	failing, failed := f.clones()
	f.rejoin()
	settled := f.settle(earlier(f.delivered(main, 1)), earlier(f.exhausted(failed, 1)))
	f.equal("released", settled, store.Settled{Released: f.endpoints[1:]})
	for _, endpoint := range f.endpoints[1:] {
		f.state(failing, endpoint, waypost.DeliveryExhausted)
		f.equal("taken", len(f.take(f.node, endpoint, 10)), 1)
	}
}

func earlierFenced(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.expire(f.node)
	_, err := f.store.Settle(f.ctx(), f.node, []store.Result{earlier(f.delivered(id, 1))})
	f.leaseLost(err)
	f.node, _ = f.join()
	f.equal("settled", f.settle(earlier(f.delivered(id, 1))), store.Settled{})
}
