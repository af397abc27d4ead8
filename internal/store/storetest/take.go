package storetest

import (
	"slices"
	"sync"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var takeTests = []test{
	{"oldest due first, up to the limit", takeOrder},
	{"newest event first, when asked for", takeNewest},
	{"nothing before it is due", takeNotYet},
	{"attempts and step come along", takeProgress},
	{"due lists each endpoint once", takeDue},
	{"never into two hands", takeExclusive},
	{"not without a lease", takeFenced},
}

func events(taken []store.Owed) []waypost.EventID {
	ids := make([]waypost.EventID, len(taken))
	for i := range taken {
		ids[i] = taken[i].Event.ID
	}
	return ids
}

func takeOrder(f *fixture) {
	a, b := f.endpoints[0], f.endpoints[1]
	var ids []waypost.EventID
	for range 4 {
		ids = append(ids, f.accepted(owing(a, b)...))
	}
	// The third is put off, but not as far as the last is.
	base := f.later().Add(-time.Second)
	f.equal("all taken", events(f.take(f.node, a, 10)), ids)
	f.settle(
		f.putOff(waypost.DeliveryID{Event: ids[0], Endpoint: a}, 1, base.Add(-3*time.Millisecond)),
		f.putOff(waypost.DeliveryID{Event: ids[1], Endpoint: a}, 1, base.Add(-1*time.Millisecond)),
		f.putOff(waypost.DeliveryID{Event: ids[2], Endpoint: a}, 1, base.Add(-2*time.Millisecond)),
		f.putOff(waypost.DeliveryID{Event: ids[3], Endpoint: a}, 1, base.Add(-2*time.Millisecond)),
	)
	f.equal("first two", events(f.take(f.node, a, 2)), []waypost.EventID{ids[0], ids[2]})
	f.equal("the rest", events(f.take(f.node, a, 10)), []waypost.EventID{ids[3], ids[1]})
	f.equal("nothing left", events(f.take(f.node, a, 10)), []waypost.EventID{})
	f.equal("the other endpoint", events(f.take(f.node, b, 10)), ids)
}

func takeNewest(f *fixture) {
	a, b := f.endpoints[0], f.endpoints[1]
	var ids []waypost.EventID
	for range 5 {
		ids = append(ids, f.accepted(owing(a, b)...))
	}
	newest := func(limit int) []waypost.EventID {
		f.tb.Helper()
		taken, err := f.store.Take(f.ctx(), f.node, a, f.later(), limit, store.NewestEvent)
		f.must(err)
		for _, owed := range taken {
			f.equal("event", *owed.Event, f.stored(owed.Event.ID).Event)
		}
		return events(taken)
	}
	f.equal("the newest two", newest(2), []waypost.EventID{ids[4], ids[3]})
	// What is not due yet is passed over, and when it became due does not count.
	f.settle(
		f.putOff(waypost.DeliveryID{Event: ids[4], Endpoint: a}, 1, f.later().Add(time.Hour)),
		f.putOff(waypost.DeliveryID{Event: ids[3], Endpoint: a}, 1, f.now.Add(-time.Hour)),
	)
	f.equal("the newest two that are due", newest(2), []waypost.EventID{ids[3], ids[2]})
	f.equal("the oldest", events(f.take(f.node, a, 1)), ids[:1])
	f.equal("the rest", newest(10), ids[1:2])
	f.equal("the other endpoint", events(f.take(f.node, b, 10)), ids)
}

func takeNotYet(f *fixture) {
	a := f.endpoints[0]
	id := waypost.DeliveryID{Event: f.accepted(inHand(a)...), Endpoint: a}
	at := f.now.Add(time.Hour)
	f.settle(f.putOff(id, 1, at))
	for _, c := range []struct {
		now  time.Time
		want int
	}{{at.Add(-time.Millisecond), 0}, {at, 1}} {
		taken, err := f.store.Take(f.ctx(), f.node, a, c.now, 10, store.OldestDue)
		f.must(err)
		f.equal("taken", len(taken), c.want)
	}
}

func takeProgress(f *fixture) {
	a := f.endpoints[0]
	id := waypost.DeliveryID{Event: f.accepted(inHand(a)...), Endpoint: a}
	retry := f.putOff(id, 4, f.now)
	retry.Step = 2
	f.settle(retry)
	taken := f.take(f.node, a, 1)
	if len(taken) != 1 || taken[0].Attempts != 4 || taken[0].Step != 2 || taken[0].Endpoint != a {
		f.tb.Fatalf("took %+v, want 4 attempts and step 2", taken)
	}
	f.equal("event", *taken[0].Event, f.stored(id.Event).Event)
}

func takeDue(f *fixture) {
	a, b, c := f.endpoints[0], f.endpoints[1], f.endpoints[2]
	first := f.accepted(append(owing(a), inHand(b)...)...)
	f.accepted(owing(a)...)
	f.accepted(inHand(a, c)...)
	due := func() []store.Due {
		f.tb.Helper()
		list, err := f.store.Due(f.ctx())
		f.must(err)
		slices.SortFunc(list, func(x, y store.Due) int { return int(x.Endpoint - y.Endpoint) })
		return list
	}
	f.equal("due", due(), []store.Due{{Endpoint: a, At: first.Time()}})

	at := f.now.Add(time.Hour)
	f.settle(f.putOff(waypost.DeliveryID{Event: first, Endpoint: b}, 1, at))
	f.equal("due with a retry", due(), []store.Due{{Endpoint: a, At: first.Time()}, {Endpoint: b, At: at}})

	f.take(f.node, a, 10)
	f.equal("due when all is taken", due(), []store.Due{{Endpoint: b, At: at}})
}

func takeExclusive(f *fixture) {
	a := f.endpoints[0]
	const total = 150
	batch := make([]store.Arrival, total)
	for i := range batch {
		batch[i] = f.arrival(owing(a)...)
	}
	f.accept(batch...)
	other, _ := f.join()
	var mu sync.Mutex
	holders := map[waypost.EventID]waypost.NodeID{}
	var group sync.WaitGroup
	for i := range 6 {
		node := []waypost.NodeID{f.node, other}[i%2]
		group.Go(func() {
			for {
				taken, err := f.store.Take(f.ctx(), node, a, f.later(), 7, store.OldestDue)
				if err != nil {
					f.tb.Error(err)
					return
				}
				if len(taken) == 0 {
					return
				}
				mu.Lock()
				for _, id := range events(taken) {
					if holders[id] != 0 {
						f.tb.Errorf("event %s was handed out twice", id)
					}
					holders[id] = node
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	// A taker may pass over rows that another is just taking and find nothing,
	// but all of them together leave nothing.
	f.equal("handed out", len(holders), total)
	for id, holder := range holders {
		_, err := f.store.Settle(f.ctx(), holder, []store.Result{f.delivered(waypost.DeliveryID{Event: id, Endpoint: a}, 1)})
		f.must(err)
	}
	f.backlog(a, 0)
}

func takeFenced(f *fixture) {
	f.accepted(owing(f.endpoints[0])...)
	f.expire(f.node)
	_, err := f.store.Take(f.ctx(), f.node, f.endpoints[0], f.later(), 1, store.OldestDue)
	f.leaseLost(err)
	next, _ := f.join()
	f.equal("taken by the next", len(f.take(next, f.endpoints[0], 1)), 1)
}
