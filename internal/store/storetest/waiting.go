package storetest

import (
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var waitingTests = []test{
	{"released when the main one is received", waitingReleased},
	{"given up with the main one", waitingFailed},
	{"given up with a dropped main one", waitingDropped},
	{"stays while the main one is put off", waitingPutOff},
	{"dropped by itself", waitingDroppedItself},
	{"a chain", waitingChain},
	{"for nobody it does not wait", waitingForNobody},
	{"survives its node", waitingAdopted},
}

// clones accepts an event owed to a main endpoint in hand, with the two others
// waiting for it.
func (f *fixture) clones() (event waypost.EventID, main waypost.DeliveryID) {
	f.tb.Helper()
	event = f.accepted(
		store.Owing{Endpoint: f.endpoints[1], After: f.endpoints[0], Place: store.InHand},
		store.Owing{Endpoint: f.endpoints[0], Place: store.InHand},
		store.Owing{Endpoint: f.endpoints[2], After: f.endpoints[0]},
	)
	for _, endpoint := range f.endpoints[1:] {
		f.equal("taken early", len(f.take(f.node, endpoint, 10)), 0)
		if d := f.delivery(event, endpoint); d.State != waypost.DeliveryPending || !d.NextAttemptAt.IsZero() {
			f.tb.Fatalf("a waiting delivery is %+v", d)
		}
	}
	due, err := f.store.Due(f.ctx())
	f.must(err)
	f.equal("due", due, []store.Due{})
	return event, waypost.DeliveryID{Event: event, Endpoint: f.endpoints[0]}
}

func waitingReleased(f *fixture) {
	event, main := f.clones()
	result := f.delivered(main, 1)
	settled := f.settle(result)
	f.equal("released", settled.Released, f.endpoints[1:])
	end := result.Attempt.At.Add(result.Attempt.Duration).Truncate(time.Millisecond)
	for _, endpoint := range f.endpoints[1:] {
		f.equal("due", f.delivery(event, endpoint).NextAttemptAt, end)
		f.equal("taken", events(f.take(f.node, endpoint, 10)), []waypost.EventID{event})
	}
}

func waitingFailed(f *fixture) {
	event, main := f.clones()
	other, _ := f.clones()
	f.equal("released", f.settle(f.exhausted(main, 2)).Released, []waypost.EndpointID{})
	for _, endpoint := range f.endpoints[1:] {
		f.equal("delivery", f.delivery(event, endpoint), waypost.Delivery{
			ID:    waypost.DeliveryID{Event: event, Endpoint: endpoint},
			State: waypost.DeliveryExhausted, Reason: waypost.ReasonMainFailed,
		})
		f.state(other, endpoint, waypost.DeliveryPending)
		f.backlog(endpoint, 1)
	}
}

func waitingDropped(f *fixture) {
	event, main := f.clones()
	f.settle(f.putOff(main, 1, f.now.Add(time.Hour)))
	n, err := f.store.Drop(f.ctx(), main.Endpoint, event+1, waypost.ReasonPurged, f.now, 10)
	f.must(err)
	f.equal("dropped", n, 1)
	f.equal("main", f.delivery(event, main.Endpoint).Reason, waypost.ReasonPurged)
	for _, endpoint := range f.endpoints[1:] {
		f.equal("clone", f.delivery(event, endpoint).Reason, waypost.ReasonMainFailed)
		f.backlog(endpoint, 0)
	}
}

func waitingPutOff(f *fixture) {
	_, main := f.clones()
	f.equal("released", f.settle(f.putOff(main, 1, f.now)).Released, []waypost.EndpointID{})
	f.equal("taken", len(f.take(f.node, f.endpoints[1], 10)), 0)
	f.equal("main", len(f.take(f.node, main.Endpoint, 10)), 1)
	f.equal("released", f.settle(f.delivered(main, 2)).Released, f.endpoints[1:])
}

func waitingDroppedItself(f *fixture) {
	event, main := f.clones()
	n, err := f.store.Drop(f.ctx(), f.endpoints[1], event+1, waypost.ReasonPurged, f.now, 10)
	f.must(err)
	f.equal("dropped", n, 1)
	f.equal("reason", f.delivery(event, f.endpoints[1]).Reason, waypost.ReasonPurged)
	f.equal("released", f.settle(f.delivered(main, 1)).Released, f.endpoints[2:])
}

func waitingChain(f *fixture) {
	a, b, c := f.endpoints[0], f.endpoints[1], f.endpoints[2]
	chain := []store.Owing{{Endpoint: a, Place: store.InHand}, {Endpoint: b, After: a}, {Endpoint: c, After: b}}
	event := f.accepted(chain...)
	f.equal("released", f.settle(f.delivered(waypost.DeliveryID{Event: event, Endpoint: a}, 1)).Released, []waypost.EndpointID{b})
	f.equal("taken", len(f.take(f.node, b, 1)), 1)
	f.equal("released", f.settle(f.delivered(waypost.DeliveryID{Event: event, Endpoint: b}, 1)).Released, []waypost.EndpointID{c})

	event = f.accepted(chain...)
	f.settle(f.exhausted(waypost.DeliveryID{Event: event, Endpoint: a}, 1))
	f.state(event, b, waypost.DeliveryExhausted)
	f.state(event, c, waypost.DeliveryExhausted)
}

func waitingForNobody(f *fixture) {
	a, b := f.endpoints[0], f.endpoints[1]
	f.accepted(store.Owing{Endpoint: a, After: b}, store.Owing{Endpoint: f.endpoints[2], After: f.endpoints[2]})
	f.equal("taken", len(f.take(f.node, a, 1)), 1)
	f.equal("taken", len(f.take(f.node, f.endpoints[2], 1)), 1)
}

func waitingAdopted(f *fixture) {
	event, main := f.clones()
	f.must(f.store.Leave(f.ctx(), f.node, time.Now()))
	f.node, _ = f.join()
	f.equal("clone", len(f.take(f.node, f.endpoints[1], 1)), 0)
	f.equal("main", events(f.take(f.node, main.Endpoint, 1)), []waypost.EventID{event})
	f.equal("released", f.settle(f.delivered(main, 1)).Released, f.endpoints[1:])
}
