package storetest

import (
	"sync"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var settleTests = []test{
	{"delivered", settleDelivered},
	{"exhausted", settleExhausted},
	{"exhausted without an attempt", settleExhaustedUntried},
	{"put off", settlePutOff},
	{"put off and kept in hand", settlePutOffInHand},
	{"tried twice between two flushes", settleTwice},
	{"many at once", settleMany},
	{"what is not in hand is lost and leaves no trace", settleLost},
	{"written back again it is lost", settleRepeated},
	{"an attempt on record already stays as it is", settleKnownAttempt},
	{"settling and leaving at the same time", settleWhileLeaving},
	{"nothing to settle", settleNothing},
}

// handed accepts an event that is in the node's hand for one endpoint.
func (f *fixture) handed(endpoint waypost.EndpointID) waypost.DeliveryID {
	f.tb.Helper()
	return waypost.DeliveryID{Event: f.accepted(inHand(endpoint)...), Endpoint: endpoint}
}

func (f *fixture) attempts(event waypost.EventID) []waypost.Attempt {
	f.tb.Helper()
	attempts, err := f.store.Attempts(f.ctx(), event)
	f.must(err)
	return attempts
}

func settleDelivered(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.state(id.Event, id.Endpoint, waypost.DeliveryPending)
	f.equal("settled", f.settle(f.delivered(id, 1)), store.Settled{})
	f.equal("delivery", f.delivery(id.Event, id.Endpoint), waypost.Delivery{
		ID: id, State: waypost.DeliveryDelivered, Attempts: 1, LastStatus: 200, Reason: waypost.ReasonOK,
	})
	f.equal("attempts", f.attempts(id.Event), []waypost.Attempt{*f.attempt(id, 1, waypost.OutcomeDelivered)})
	f.backlog(id.Endpoint, 0)
}

func settleExhausted(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.settle(f.exhausted(id, 3))
	f.equal("delivery", f.delivery(id.Event, id.Endpoint), waypost.Delivery{
		ID: id, State: waypost.DeliveryExhausted, Attempts: 3, LastStatus: 503, Reason: waypost.ReasonStatus,
	})
	f.backlog(id.Endpoint, 0)
}

func settleExhaustedUntried(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.settle(store.Result{Delivery: id, Next: store.NextExhausted, Reason: waypost.ReasonEncode})
	f.equal("delivery", f.delivery(id.Event, id.Endpoint), waypost.Delivery{
		ID: id, State: waypost.DeliveryExhausted, Reason: waypost.ReasonEncode,
	})
	f.equal("attempts", f.attempts(id.Event), []waypost.Attempt{})
}

func settlePutOff(f *fixture) {
	id := f.handed(f.endpoints[0])
	at := f.now.Add(5 * time.Minute)
	f.settle(f.putOff(id, 1, at))
	f.equal("delivery", f.delivery(id.Event, id.Endpoint), waypost.Delivery{
		ID: id, State: waypost.DeliveryPending, Attempts: 1, NextAttemptAt: at, LastStatus: 503, Reason: waypost.ReasonStatus,
	})
	f.equal("it is out of the hand", f.settle(f.delivered(id, 2)).Lost, []int{0})

	// Put off without an attempt, as for a full lane: nothing is counted.
	taken, err := f.store.Take(f.ctx(), f.node, id.Endpoint, at, 1, store.OldestDue)
	f.must(err)
	f.equal("taken", len(taken), 1)
	f.settle(store.Result{Delivery: id, Next: store.NextRetry, At: at.Add(time.Second), Step: 1})
	f.equal("attempts", f.delivery(id.Event, id.Endpoint).Attempts, 1)
}

func settlePutOffInHand(f *fixture) {
	id := f.handed(f.endpoints[0])
	retry := f.putOff(id, 1, f.now.Add(time.Second))
	retry.InHand = true
	f.settle(retry)
	f.equal("taken", len(f.take(f.node, id.Endpoint, 10)), 0)
	f.equal("lost", f.settle(f.delivered(id, 2)).Lost, []int{})
	f.equal("attempts", len(f.attempts(id.Event)), 2)
}

func settleKnownAttempt(f *fixture) {
	known, other := f.handed(f.endpoints[0]), f.handed(f.endpoints[1])
	retry := f.putOff(known, 1, f.now)
	retry.InHand = true
	f.settle(retry)
	f.equal("settled", f.settle(f.delivered(known, 1), f.delivered(other, 1)), store.Settled{})
	f.equal("attempts", f.attempts(known.Event), []waypost.Attempt{*retry.Attempt})
	f.equal("attempts", f.attempts(other.Event), []waypost.Attempt{*f.attempt(other, 1, waypost.OutcomeDelivered)})
	f.backlog(known.Endpoint, 0)
}

func settleTwice(f *fixture) {
	quick, left := f.handed(f.endpoints[0]), f.handed(f.endpoints[1])
	retry := f.putOff(quick, 1, f.now)
	retry.InHand = true
	settled := f.settle(retry, f.putOff(left, 1, f.now), f.delivered(quick, 2), f.delivered(left, 2))
	f.equal("lost", settled.Lost, []int{3})
	f.equal("attempts of the quick one", len(f.attempts(quick.Event)), 2)
	f.equal("attempts of the other", len(f.attempts(left.Event)), 1)
	f.state(quick.Event, quick.Endpoint, waypost.DeliveryDelivered)
	f.state(left.Event, left.Endpoint, waypost.DeliveryPending)
}

func settleMany(f *fixture) {
	const total = 75
	batch := make([]store.Arrival, total)
	results := make([]store.Result, total)
	for i := range batch {
		batch[i] = f.arrival(inHand(f.endpoints[0])...)
		id := waypost.DeliveryID{Event: batch[i].Event.ID, Endpoint: f.endpoints[0]}
		switch i % 3 {
		case 0:
			results[i] = f.delivered(id, 1)
		case 1:
			results[i] = f.exhausted(id, 1)
		case 2:
			results[i] = f.putOff(id, 1, f.now)
		}
	}
	f.accept(batch...)
	f.equal("settled", f.settle(results...), store.Settled{})
	for i := range results {
		want := []waypost.DeliveryState{waypost.DeliveryDelivered, waypost.DeliveryExhausted, waypost.DeliveryPending}[i%3]
		f.state(results[i].Delivery.Event, f.endpoints[0], want)
	}
	f.backlog(f.endpoints[0], total/3)
}

func settleLost(f *fixture) {
	mine, free, theirs := f.handed(f.endpoints[0]), f.accepted(owing(f.endpoints[0])...), f.accepted(owing(f.endpoints[1])...)
	other, _ := f.join()
	f.equal("taken by the other", len(f.take(other, f.endpoints[1], 1)), 1)
	freeID := waypost.DeliveryID{Event: free, Endpoint: f.endpoints[0]}
	theirID := waypost.DeliveryID{Event: theirs, Endpoint: f.endpoints[1]}
	unknown := waypost.DeliveryID{Event: theirs, Endpoint: f.endpoints[2]}
	settled := f.settle(f.delivered(freeID, 1), f.delivered(mine, 1), f.exhausted(theirID, 1), f.putOff(unknown, 1, f.now))
	f.equal("lost", settled.Lost, []int{0, 2, 3})
	f.equal("attempts of the free one", f.attempts(free), []waypost.Attempt{})
	f.equal("attempts of theirs", f.attempts(theirs), []waypost.Attempt{})
	f.state(free, f.endpoints[0], waypost.DeliveryPending)
	f.state(theirs, f.endpoints[1], waypost.DeliveryPending)
	_, err := f.store.Delivery(f.ctx(), unknown)
	f.kind(err, waypost.KindNotFound)
}

func settleRepeated(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.equal("first", f.settle(f.delivered(id, 1)).Lost, []int{})
	f.equal("second", f.settle(f.delivered(id, 1)).Lost, []int{0})
	f.equal("attempts", len(f.attempts(id.Event)), 1)
}

// settleWhileLeaving lets a node give its lease back in the middle of its own
// write-backs. Each of them counts in full or not at all.
func settleWhileLeaving(f *fixture) {
	const total = 60
	a := f.endpoints[0]
	batch := make([]store.Arrival, total)
	for i := range batch {
		batch[i] = f.arrival(inHand(a)...)
	}
	f.accept(batch...)
	counted := make([]bool, total)
	start := make(chan struct{})
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := worker; i < total; i += 4 {
				if i == total/2 {
					close(start)
				}
				id := waypost.DeliveryID{Event: batch[i].Event.ID, Endpoint: a}
				settled, err := f.store.Settle(f.ctx(), f.node, []store.Result{f.delivered(id, 1)})
				counted[i] = err == nil && len(settled.Lost) == 0
			}
		})
	}
	<-start
	f.must(f.store.Leave(f.ctx(), f.node, time.Now()))
	group.Wait()
	next, _ := f.join()
	owed := map[waypost.EventID]bool{}
	for _, id := range events(f.take(next, a, total)) {
		owed[id] = true
	}
	for i := range batch {
		id := batch[i].Event.ID
		if counted[i] == owed[id] {
			f.tb.Errorf("delivery %d: settled %v and owed %v", i, counted[i], owed[id])
		}
		if counted[i] != (len(f.attempts(id)) == 1) {
			f.tb.Errorf("delivery %d: settled %v and %d attempts", i, counted[i], len(f.attempts(id)))
		}
	}
}

func settleNothing(f *fixture) {
	f.equal("settled", f.settle(), store.Settled{})
	f.expire(f.node)
	_, err := f.store.Settle(f.ctx(), f.node, nil)
	f.leaseLost(err)
}
