package storetest

import (
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var retryTests = []test{
	{"an exhausted one", retryExhausted},
	{"a delivered one", retryDelivered},
	{"a pending one is due now", retryPending},
	{"one in hand is due once it is put off", retryInHand},
	{"one that waits need not wait", retryWaiting},
	{"one that never was, or whose parts are gone", retryMissing},
	{"owe adds what is not owed", oweAdds},
	{"owe keeps the order of main and clone", oweWaiting},
	{"reroute", rerouteOnce},
	{"drop in parts", dropParts},
	{"drop leaves what is young or in hand", dropSpares},
}

func retryExhausted(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.settle(f.exhausted(id, 3))
	now := f.now.Add(time.Hour)
	f.must(f.store.Retry(f.ctx(), id, now))
	f.equal("delivery", f.delivery(id.Event, id.Endpoint), waypost.Delivery{
		ID: id, State: waypost.DeliveryPending, Attempts: 3, NextAttemptAt: now, LastStatus: 503, Reason: waypost.ReasonStatus,
	})
	f.must(f.store.Retry(f.ctx(), id, now))
	taken, err := f.store.Take(f.ctx(), f.node, id.Endpoint, now, 10, store.OldestDue)
	f.must(err)
	if len(taken) != 1 || taken[0].Attempts != 3 || taken[0].Step != 0 {
		f.tb.Fatalf("took %+v, want one with 3 attempts and the ladder at the start", taken)
	}
	f.settle(f.exhausted(id, 4))
	f.equal("attempts", f.delivery(id.Event, id.Endpoint).Attempts, 4)
}

func retryDelivered(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.settle(f.delivered(id, 2))
	f.must(f.store.Retry(f.ctx(), id, f.now))
	f.state(id.Event, id.Endpoint, waypost.DeliveryPending)
	taken := f.take(f.node, id.Endpoint, 1)
	if len(taken) != 1 || taken[0].Attempts != 2 {
		f.tb.Fatalf("took %+v, want one with 2 attempts", taken)
	}
	f.settle(f.exhausted(id, 3))
	f.state(id.Event, id.Endpoint, waypost.DeliveryExhausted)
}

func retryPending(f *fixture) {
	id := f.handed(f.endpoints[0])
	retry := f.putOff(id, 2, f.now.Add(time.Hour))
	f.settle(retry)
	f.must(f.store.Retry(f.ctx(), id, f.now))
	taken := f.take(f.node, id.Endpoint, 1)
	if len(taken) != 1 || taken[0].Step != 2 || taken[0].Attempts != 2 {
		f.tb.Fatalf("took %+v, want one that goes on with its ladder", taken)
	}
}

func retryInHand(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.must(f.store.Retry(f.ctx(), id, f.now))
	f.equal("taken", len(f.take(f.node, id.Endpoint, 10)), 0)
	f.equal("lost", f.settle(f.delivered(id, 1)).Lost, []int{})

	id = f.handed(f.endpoints[0])
	f.must(f.store.Retry(f.ctx(), id, f.now))
	f.settle(f.putOff(id, 1, f.now.Add(time.Hour)))
	f.equal("due although put off", len(f.take(f.node, id.Endpoint, 10)), 1)
	// The wish has been granted: the next time it waits as it is told to.
	f.settle(f.putOff(id, 2, f.now.Add(time.Hour)))
	f.equal("due once more", len(f.take(f.node, id.Endpoint, 10)), 0)
}

func retryWaiting(f *fixture) {
	event, main := f.clones()
	f.must(f.store.Retry(f.ctx(), waypost.DeliveryID{Event: event, Endpoint: f.endpoints[1]}, f.now))
	f.equal("taken", len(f.take(f.node, f.endpoints[1], 10)), 1)
	f.equal("released", f.settle(f.delivered(main, 1)).Released, f.endpoints[2:])
}

func retryMissing(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.settle(f.exhausted(id, 1))
	for _, missing := range []waypost.DeliveryID{
		{Event: id.Event, Endpoint: f.endpoints[1]},
		{Event: id.Event + 1, Endpoint: id.Endpoint},
		{Event: id.Event, Endpoint: f.endpoints[2] + 1},
	} {
		f.kind(f.store.Retry(f.ctx(), missing, f.now), waypost.KindNotFound)
	}
	f.editEndpoint(id.Endpoint, func(e *waypost.Endpoint) { e.DeletedAt = f.now })
	f.kind(f.store.Retry(f.ctx(), id, f.now), waypost.KindNotFound)
}

func oweAdds(f *fixture) {
	a, b, c := f.endpoints[0], f.endpoints[1], f.endpoints[2]
	event := f.accepted(inHand(a, b)...)
	f.settle(f.exhausted(waypost.DeliveryID{Event: event, Endpoint: b}, 5))
	now := f.now.Add(time.Hour)
	f.must(f.store.Owe(f.ctx(), event, owing(a, b, c, c), now))
	f.equal("a stays in hand", f.settle(f.delivered(waypost.DeliveryID{Event: event, Endpoint: a}, 1)).Lost, []int{})
	for endpoint, attempts := range map[waypost.EndpointID]int{b: 5, c: 0} {
		taken, err := f.store.Take(f.ctx(), f.node, endpoint, now, 10, store.OldestDue)
		f.must(err)
		if len(taken) != 1 || taken[0].Attempts != attempts {
			f.tb.Fatalf("took %+v, want one with %d attempts", taken, attempts)
		}
		f.state(event, endpoint, waypost.DeliveryPending)
	}
	f.kind(f.store.Owe(f.ctx(), event+1, owing(a), now), waypost.KindNotFound)
}

func oweWaiting(f *fixture) {
	a, b := f.endpoints[0], f.endpoints[1]
	event := f.accepted()
	f.must(f.store.Owe(f.ctx(), event, []store.Owing{{Endpoint: b, After: a}, {Endpoint: a}}, f.now))
	f.equal("clone", len(f.take(f.node, b, 10)), 0)
	f.equal("main", len(f.take(f.node, a, 10)), 1)
	f.equal("released", f.settle(f.delivered(waypost.DeliveryID{Event: event, Endpoint: a}, 1)).Released, []waypost.EndpointID{b})
	f.equal("clone", len(f.take(f.node, b, 10)), 1)

	event = f.accepted()
	f.must(f.store.Owe(f.ctx(), event, []store.Owing{{Endpoint: b, After: a}}, f.now))
	f.equal("without its main one", len(f.take(f.node, b, 10)), 1)
}

func rerouteOnce(f *fixture) {
	lost, routed := f.arrival(), f.arrival()
	lost.Event.State, lost.Event.TenantID, lost.Event.NumberID = waypost.EventUnrouted, 0, 0
	f.accept(lost, routed)
	f.must(f.store.Reroute(f.ctx(), lost.Event.ID, f.tenant, 44))
	want := lost.Event
	want.State, want.TenantID, want.NumberID = waypost.EventRouted, f.tenant, 44
	f.equal("event", f.stored(lost.Event.ID).Event, want)
	f.kind(f.store.Reroute(f.ctx(), routed.Event.ID, f.tenant, 44), waypost.KindConflict)
	f.kind(f.store.Reroute(f.ctx(), routed.Event.ID+1, f.tenant, 44), waypost.KindNotFound)
}

func dropParts(f *fixture) {
	a := f.endpoints[0]
	var last waypost.EventID
	for range 5 {
		last = f.accepted(owing(a, f.endpoints[1])...)
	}
	for _, want := range []int{2, 2, 1, 0} {
		n, err := f.store.Drop(f.ctx(), a, last+1, waypost.ReasonPurged, f.now, 2)
		f.must(err)
		f.equal("dropped", n, want)
	}
	f.backlog(a, 0)
	f.backlog(f.endpoints[1], 5)
	f.equal("delivery", f.delivery(last, a), waypost.Delivery{
		ID: waypost.DeliveryID{Event: last, Endpoint: a}, State: waypost.DeliveryExhausted, Reason: waypost.ReasonPurged,
	})
	f.must(f.store.Retry(f.ctx(), waypost.DeliveryID{Event: last, Endpoint: a}, f.now))
	f.backlog(a, 1)
}

func dropSpares(f *fixture) {
	a := f.endpoints[0]
	old, held, young := f.accepted(owing(a)...), f.handed(a), f.accepted(owing(a)...)
	n, err := f.store.Drop(f.ctx(), a, young, waypost.ReasonExpired, f.now, 100)
	f.must(err)
	f.equal("dropped", n, 1)
	f.state(old, a, waypost.DeliveryExhausted)
	f.state(young, a, waypost.DeliveryPending)
	f.equal("lost", f.settle(f.delivered(held, 1)).Lost, []int{})
}
