package storetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var retentionTests = []test{
	{"each clock forgets its own", pruneClocks},
	{"what is owed keeps all it has", pruneOwed},
	{"what was spared goes once it is settled", pruneSpared},
	{"no owed delivery loses anything, in any combination", pruneModel},
	{"pruning while deliveries become owed", pruneWhileWaking},
	{"many prune at once", pruneTogether},
	{"without its body an event is not delivered again", prunedBody},
	{"dedupe keys", pruneKeys},
	{"audit entries", pruneAudit},
	{"usage", usage},
}

// aged accepts an event as if it had come at some time, in the node's hand for
// the endpoints.
func (f *fixture) aged(id waypost.EventID, endpoints ...waypost.EndpointID) waypost.EventID {
	f.tb.Helper()
	arrival := f.arrival(inHand(endpoints...)...)
	arrival.Event.ID = id
	return f.accept(arrival)[0].Event
}

// many accepts events spread over three days, in hand for one endpoint, and has
// those delivered that are not to stay owed.
func (f *fixture) many(total int, owed func(i int) bool) []waypost.EventID {
	f.tb.Helper()
	f.prepare(0)
	ids := make([]waypost.EventID, total)
	batch := make([]store.Arrival, total)
	var results []store.Result
	for i := range batch {
		ids[i] = f.day(i*3/total) + waypost.EventID(i)
		batch[i] = f.arrival(inHand(f.endpoints[0])...)
		batch[i].Event.ID = ids[i]
		if !owed(i) {
			results = append(results, f.delivered(waypost.DeliveryID{Event: ids[i], Endpoint: f.endpoints[0]}, 1))
		}
	}
	f.accept(batch...)
	f.settle(results...)
	return ids
}

// day gives an id in the nth day after a fixed one ahead of all that tests make
// otherwise: for a store that keeps days apart, those have a place of their own.
func (f *fixture) day(n int) waypost.EventID {
	return waypost.FirstEventID(f.now.Truncate(24*time.Hour).AddDate(0, 0, 5+n).Add(time.Hour))
}

func (f *fixture) prepare(n int) {
	f.tb.Helper()
	f.must(f.store.Prepare(f.ctx(), f.day(n).Time()))
}

// prune forgets all that is before the horizons.
func (f *fixture) prune(h store.Horizons) store.Pruned {
	f.tb.Helper()
	var sum store.Pruned
	for range 10_000 {
		p, err := f.store.Prune(f.ctx(), h, 30)
		f.must(err)
		sum.Bodies += p.Bodies
		sum.Attempts += p.Attempts
		sum.Events += p.Events
		sum.Keys += p.Keys
		sum.Audit += p.Audit
		sum.Partitions += p.Partitions
		if !p.More {
			return sum
		}
	}
	f.tb.Fatal("pruning does not come to an end")
	return sum
}

// kept tells what is left of an event.
type kept struct {
	Event, Body bool
	Attempts    int
}

func (f *fixture) kept(id waypost.EventID) kept {
	f.tb.Helper()
	record, err := f.store.Event(f.ctx(), id)
	if waypost.KindOf(err) == waypost.KindNotFound {
		return kept{Attempts: len(f.attempts(id))}
	}
	f.must(err)
	return kept{Event: true, Body: len(record.Body) > 0, Attempts: len(f.attempts(id))}
}

func pruneClocks(f *fixture) {
	f.prepare(0)
	var all []waypost.EventID
	for n := range 4 {
		for i := range 3 {
			id := f.aged(f.day(n)+waypost.EventID(i), f.endpoints[0], f.endpoints[1])
			f.settle(
				f.delivered(waypost.DeliveryID{Event: id, Endpoint: f.endpoints[0]}, 1),
				f.exhausted(waypost.DeliveryID{Event: id, Endpoint: f.endpoints[1]}, 1),
			)
			all = append(all, id)
		}
	}
	check := func(days ...kept) {
		f.tb.Helper()
		for i, id := range all {
			f.equal(fmt.Sprintf("event %d of day %d", i%3, i/3), f.kept(id), days[i/3])
		}
	}
	whole := kept{true, true, 2}
	check(whole, whole, whole, whole)
	f.prune(store.Horizons{})
	check(whole, whole, whole, whole)
	f.prune(store.Horizons{Bodies: f.day(1)})
	check(kept{true, false, 2}, whole, whole, whole)
	f.prune(store.Horizons{Bodies: f.day(1), Attempts: f.day(3)})
	check(kept{true, false, 0}, kept{true, true, 0}, kept{true, true, 0}, whole)
	// A horizon that moves back brings nothing back and forgets nothing.
	f.prune(store.Horizons{Attempts: f.day(1)})
	check(kept{true, false, 0}, kept{true, true, 0}, kept{true, true, 0}, whole)
	f.prune(store.Horizons{Events: f.day(2)})
	check(kept{}, kept{}, kept{true, true, 0}, whole)
	f.prune(store.Horizons{Events: f.day(2) + 1})
	f.equal("the event before the horizon", f.kept(f.day(2)), kept{})
	f.equal("the event at the horizon", f.kept(f.day(2)+1), kept{true, true, 0})
	f.equal("a further round", f.prune(store.Horizons{Events: f.day(2) + 1, Attempts: f.day(3), Bodies: f.day(1)}), store.Pruned{})
}

func pruneOwed(f *fixture) {
	f.prepare(0)
	one, other := f.endpoints[0], f.endpoints[1]
	settled, owed, mixed := f.aged(f.day(0), one), f.aged(f.day(0)+1, one), f.aged(f.day(0)+2, one, other)
	f.settle(
		f.delivered(waypost.DeliveryID{Event: settled, Endpoint: one}, 1),
		f.putOff(waypost.DeliveryID{Event: owed, Endpoint: one}, 1, f.now),
		f.putOff(waypost.DeliveryID{Event: mixed, Endpoint: one}, 1, f.now),
		f.exhausted(waypost.DeliveryID{Event: mixed, Endpoint: other}, 1),
	)
	f.prune(store.Horizons{Attempts: f.day(3)})
	f.equal("settled", f.kept(settled), kept{true, true, 0})
	f.equal("owed", f.kept(owed), kept{true, true, 1})
	f.equal("owed to one", f.kept(mixed), kept{true, true, 1})
	f.prune(store.Horizons{Bodies: f.day(3), Attempts: f.day(3), Events: f.day(3)})
	f.equal("settled", f.kept(settled), kept{})
	f.equal("owed", f.kept(owed), kept{true, true, 1})
	f.equal("owed to one", f.kept(mixed), kept{true, true, 1})
	f.equal("deliveries", len(f.take(f.node, one, 10)), 2)
}

func pruneSpared(f *fixture) {
	f.prepare(0)
	id := waypost.DeliveryID{Event: f.aged(f.day(0), f.endpoints[0]), Endpoint: f.endpoints[0]}
	f.settle(func() store.Result { r := f.putOff(id, 1, f.now); r.InHand = true; return r }())
	h := store.Horizons{Bodies: f.day(3), Attempts: f.day(2), Events: f.day(1)}
	f.prune(h)
	f.equal("owed", f.kept(id.Event), kept{true, true, 1})
	f.settle(f.delivered(id, 2))
	f.equal("settled", f.kept(id.Event), kept{true, true, 2})
	f.prune(h)
	h.Bodies++ // what was spared is looked at when the horizons move
	f.prune(h)
	f.equal("pruned", f.kept(id.Event), kept{})
	_, err := f.store.Delivery(f.ctx(), id)
	f.kind(err, waypost.KindNotFound)
}

// pruneModel runs random histories. Each has days of its own, later than those of
// the history before: clocks only go forward.
func pruneModel(f *fixture) {
	fewerChecks(f.tb)
	var next int
	rapid.Check(f.tb, func(rt *rapid.T) {
		m := &pruning{f: f, t: rt, first: next, owed: map[waypost.DeliveryID]*owedWith{}, events: map[waypost.EventID]bool{}}
		next += pruningDays + 1
		if rapid.Bool().Draw(rt, "prepared") {
			f.prepare(m.first)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"accept": m.accept,
			"settle": m.settle,
			"retry":  m.retry,
			"prune":  m.prune,
			"":       m.check,
		})
	})
}

const pruningDays = 4

// pruning is what a history of it should have left.
type pruning struct {
	f      *fixture
	t      *rapid.T
	first  int
	rounds int64
	past   store.Horizons           // the furthest so far
	events map[waypost.EventID]bool // all that were accepted
	owed   map[waypost.DeliveryID]*owedWith
}

// owedWith is how many requests were made for a delivery, and how many of them
// must be in the log.
type owedWith struct{ made, logged int }

func (m *pruning) at(t *rapid.T, name string) waypost.EventID {
	day := m.first + rapid.IntRange(0, pruningDays-1).Draw(t, name+" day")
	return m.f.day(day) + waypost.EventID(rapid.IntRange(0, 50).Draw(t, name))
}

func (m *pruning) accept(t *rapid.T) {
	id := m.at(t, "event")
	if m.events[id] || id < max(m.past.Bodies, m.past.Attempts, m.past.Events) {
		t.Skip("taken, or too old to have come now")
	}
	to := rapid.SliceOfNDistinct(rapid.SampledFrom(m.f.endpoints), 0, 3, rapid.ID).Draw(t, "owed")
	m.f.aged(id, to...)
	m.events[id] = true
	for _, endpoint := range to {
		m.owed[waypost.DeliveryID{Event: id, Endpoint: endpoint}] = &owedWith{}
	}
}

func (m *pruning) pick(t *rapid.T) waypost.DeliveryID {
	if len(m.owed) == 0 {
		t.Skip("nothing is owed")
	}
	return rapid.SampledFrom(slices.SortedFunc(maps.Keys(m.owed), compareDeliveries)).Draw(t, "delivery")
}

func (m *pruning) settle(t *rapid.T) {
	id := m.pick(t)
	n := m.owed[id].made + 1
	var r store.Result
	switch rapid.SampledFrom([]string{"delivered", "exhausted", "retry"}).Draw(t, "next") {
	case "delivered":
		r = m.f.delivered(id, n)
	case "exhausted":
		r = m.f.exhausted(id, n)
	case "retry":
		r = m.f.putOff(id, n, m.f.now)
		r.InHand = true
	}
	m.f.equal("lost", m.f.settle(r).Lost, []int(nil))
	m.owed[id].made++
	m.owed[id].logged++
	if r.Next != store.NextRetry {
		delete(m.owed, id)
	}
}

// logged is how many attempts of a delivery are in the log.
func (m *pruning) logged(id waypost.DeliveryID) (n int) {
	for _, a := range m.f.attempts(id.Event) {
		if a.Delivery == id {
			n++
		}
	}
	return n
}

// retry makes an old delivery owed again, if that is still possible.
func (m *pruning) retry(t *rapid.T) {
	if len(m.events) == 0 {
		t.Skip("nothing was accepted yet")
	}
	id := waypost.DeliveryID{
		Event:    rapid.SampledFrom(slices.Sorted(maps.Keys(m.events))).Draw(t, "event"),
		Endpoint: rapid.SampledFrom(m.f.endpoints).Draw(t, "endpoint"),
	}
	if _, owed := m.owed[id]; owed {
		t.Skip("it is owed")
	}
	err := m.f.store.Owe(m.f.ctx(), id.Event, owing(id.Endpoint), m.f.now)
	if kind := waypost.KindOf(err); kind == waypost.KindNotFound || kind == waypost.KindConflict {
		if id.Event >= max(m.past.Bodies, m.past.Events) {
			t.Fatalf("replay: %v; it is young enough", err)
		}
		return
	}
	m.f.must(err)
	for _, owed := range m.f.take(m.f.node, id.Endpoint, 1000) {
		if len(owed.Event.Body) == 0 {
			t.Fatalf("%s is owed without its body", owed.Event.ID)
		}
		id := waypost.DeliveryID{Event: owed.Event.ID, Endpoint: id.Endpoint}
		m.owed[id] = &owedWith{owed.Attempts, m.logged(id)}
	}
}

func (m *pruning) prune(t *rapid.T) {
	draw := func(name string) waypost.EventID {
		if rapid.Bool().Draw(t, name+" kept") {
			return 0
		}
		return m.at(t, name)
	}
	m.rounds++ // so that horizons have always moved
	h := store.Horizons{Bodies: draw("bodies"), Attempts: draw("attempts"), Events: draw("events"), Audit: waypost.EventID(m.rounds)}
	m.f.prune(h)
	m.past = store.Horizons{
		Bodies: max(m.past.Bodies, h.Bodies), Attempts: max(m.past.Attempts, h.Attempts), Events: max(m.past.Events, h.Events),
	}
	m.checkAll(t, true)
}

func (m *pruning) check(t *rapid.T) { m.checkAll(t, false) }

// checkAll compares what is left. Just pruned, what is not owed is gone as well.
func (m *pruning) checkAll(t *rapid.T, pruned bool) {
	byEvent := map[waypost.EventID][]waypost.DeliveryID{}
	for id := range m.owed {
		byEvent[id.Event] = append(byEvent[id.Event], id)
	}
	for event := range m.events {
		got := m.f.kept(event)
		owed := byEvent[event]
		if (len(owed) > 0 || event >= m.past.Events) && !got.Event {
			t.Fatalf("%s is gone, owed %d times", event, len(owed))
		}
		if (len(owed) > 0 || event >= max(m.past.Events, m.past.Bodies)) && !got.Body {
			t.Fatalf("the body of %s is gone, owed %d times", event, len(owed))
		}
		for _, id := range owed {
			if n := m.logged(id); n != m.owed[id].logged {
				t.Fatalf("%d attempts of %s are left of %d", n, id, m.owed[id].logged)
			}
		}
		if pruned && len(owed) == 0 && (event < m.past.Events && got.Event || event < m.past.Bodies && got.Body) {
			t.Fatalf("%s is %+v and owed to nobody; horizons %+v", event, got, m.past)
		}
	}
}

func compareDeliveries(a, b waypost.DeliveryID) int {
	return cmp.Or(cmp.Compare(a.Event, b.Event), cmp.Compare(a.Endpoint, b.Endpoint))
}

// pruneWhileWaking has deliveries become owed while their events are pruned. What
// was made owed has its event and its body.
func pruneWhileWaking(f *fixture) {
	const total = 150
	endpoint := f.endpoints[0]
	ids := f.many(total, func(int) bool { return false })
	var woken atomic.Int64
	var group sync.WaitGroup
	for worker := range 2 {
		group.Go(func() {
			for i := worker; i < total; i += 2 {
				wake := func() error { return f.store.Owe(f.ctx(), ids[i], owing(endpoint), f.now) }
				if i%4 < 2 {
					wake = func() error {
						return f.store.Retry(f.ctx(), waypost.DeliveryID{Event: ids[i], Endpoint: endpoint}, f.now)
					}
				}
				switch err := wake(); waypost.KindOf(err) {
				case waypost.KindNotFound, waypost.KindConflict:
				default:
					if err != nil {
						f.tb.Error(err)
					}
					woken.Add(1)
				}
			}
		})
	}
	group.Go(func() {
		for _, id := range ids { // the horizon goes with the workers
			h := store.Horizons{Bodies: id + 3, Attempts: id + 2, Events: id - 20}
			if _, err := f.store.Prune(f.ctx(), h, 8); err != nil {
				f.tb.Error(err)
			}
		}
	})
	group.Wait()
	f.prune(store.Horizons{Bodies: f.day(3), Attempts: f.day(3), Events: f.day(3)})
	taken := f.take(f.node, endpoint, total)
	f.equal("deliveries with their events", len(taken), int(woken.Load()))
	for _, owed := range taken {
		if len(owed.Event.Body) == 0 {
			f.tb.Fatalf("%s is owed without its body", owed.Event.ID)
		}
	}
	f.backlog(endpoint, len(taken))
}

func pruneTogether(f *fixture) {
	const total = 200
	f.many(total, func(i int) bool { return i%10 == 0 })
	h := store.Horizons{Bodies: f.day(4), Attempts: f.day(4), Events: f.day(4)}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 50 {
				if _, err := f.store.Prune(f.ctx(), h, 16); err != nil {
					f.tb.Error(err)
				}
			}
		})
	}
	group.Wait()
	f.prune(h)
	events, err := f.store.Events(f.ctx(), store.EventFilter{TenantID: f.tenant})
	f.must(err)
	f.equal("events", len(events), total/10)
	f.backlog(f.endpoints[0], total/10)
}

func prunedBody(f *fixture) {
	id := waypost.DeliveryID{Event: f.aged(f.day(0), f.endpoints[0]), Endpoint: f.endpoints[0]}
	f.settle(f.delivered(id, 1))
	unrouted := f.event()
	unrouted.ID, unrouted.State, unrouted.TenantID = f.day(0)+1, waypost.EventUnrouted, 0
	f.accept(store.Arrival{Event: unrouted})
	f.prune(store.Horizons{Bodies: f.day(1)})
	f.kind(f.store.Retry(f.ctx(), id, f.now), waypost.KindConflict)
	f.kind(f.store.Owe(f.ctx(), id.Event, owing(f.endpoints[1]), f.now), waypost.KindConflict)
	f.kind(f.store.Reroute(f.ctx(), unrouted.ID, f.tenant, 12), waypost.KindConflict)
	f.state(id.Event, id.Endpoint, waypost.DeliveryDelivered)
	f.equal("backlog", len(f.take(f.node, f.endpoints[1], 1)), 0)
}

func pruneKeys(f *fixture) {
	now := uint32(f.now.Unix())
	const week = 7 * 24 * 3600
	for _, c := range []struct {
		name     string
		told     uint32 // the item's own time
		day      int    // when it came
		repeated bool
	}{
		{"old", f.second(0), 0, false},
		{"old, told no time", 0, 0, false},
		{"old, told late", f.second(0) - week, 0, false},
		{"new", f.second(2), 2, true},
		{"new, told no time", 0, 2, true},
		{"new, told late", f.second(0) - week, 2, true},
		{"new, told long ago", now - week, 2, true},
	} {
		arrival := f.arrival()
		arrival.Event.ID, arrival.DedupeKey = f.day(c.day), dedupeKey(c.told, c.name)
		arrival.Event.ID += waypost.EventID(len(c.name))
		first := f.accept(arrival)[0]
		defer func() {
			again := f.arrival()
			again.DedupeKey = arrival.DedupeKey
			want := store.Receipt{Event: again.Event.ID}
			if c.repeated {
				want = store.Receipt{Event: first.Event, Duplicate: true}
			}
			f.equal(c.name, f.accept(again)[0], want)
		}()
	}
	f.equal("keys forgotten", f.prune(store.Horizons{Dedupe: f.day(1)}).Keys, 3)
}

// second is the second at which the nth day's events come.
func (f *fixture) second(n int) uint32 { return uint32(f.day(n).Time().Unix()) }

func pruneAudit(f *fixture) {
	for n := range 3 {
		for i := range 40 {
			f.must(f.store.Record(f.ctx(), store.AuditEntry{ID: int64(f.day(n)) + int64(i), Actor: "admin", Action: "x"}))
		}
	}
	f.equal("entries forgotten", f.prune(store.Horizons{Audit: f.day(1)}).Audit, 40)
	left, err := f.store.AuditTrail(f.ctx(), store.AuditFilter{})
	f.must(err)
	f.equal("entries left", len(left), 80)
	f.equal("oldest left", left[79].ID, int64(f.day(1)))
}

func usage(f *fixture) {
	before, err := f.store.Usage(f.ctx())
	f.must(err)
	f.equal("oldest", before.Oldest, waypost.EventID(0))
	first := f.accepted()
	for range 20 {
		arrival := f.arrival()
		arrival.Event.Body = make([]byte, 1<<16)
		f.accept(arrival)
	}
	after, err := f.store.Usage(f.ctx())
	f.must(err)
	f.equal("oldest", after.Oldest, first)
	if grown := after.Used - before.Used; grown < 20<<16 || grown > 80<<16 {
		f.tb.Errorf("20 events of 64 KiB take %d bytes", grown)
	}
	if (after.Free < 0) != (after.Size < 0) || after.Free > after.Size && after.Size > 0 {
		f.tb.Errorf("%d bytes are free of %d", after.Free, after.Size)
	}
}
