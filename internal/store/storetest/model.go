package storetest

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var modelTests = []test{
	{"a delivery is owed, in a hand, or settled", modelQueue},
}

// modelQueue runs random histories against the store and against a model of a
// few lines, and compares them after each step. The histories share one store,
// and each has nodes and endpoints of its own.
func modelQueue(f *fixture) {
	fewerChecks(f.tb)
	rapid.Check(f.tb, func(rt *rapid.T) {
		m := newModel(rt, f)
		rt.Repeat(map[string]func(*rapid.T){
			"accept": m.accept,
			"take":   m.take,
			"settle": m.settle,
			"retry":  m.retry,
			"drop":   m.drop,
			"leave":  m.leave,
			"expire": m.expire,
			"":       m.check,
		})
		m.finish(rt)
	})
}

// fewerChecks has rapid make fewer histories than it would by itself, unless the
// command line says how many: each takes a database's time.
func fewerChecks(tb testing.TB) {
	tb.Helper()
	const name = "rapid.checks"
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if given {
		return
	}
	if err := flag.Set(name, "15"); err != nil {
		tb.Fatal(err)
	}
}

// place is where a delivery is in the model.
type place uint8

const (
	free place = iota // owed, in nobody's hand
	held              // owed, in a node's hand
	waits
	received
	givenUp
)

type modelDelivery struct {
	place    place
	node     waypost.NodeID
	due      time.Time
	after    waypost.EndpointID
	attempts int
}

type model struct {
	f          *fixture
	ctx        context.Context
	clock      time.Time
	nodes      []waypost.NodeID
	endpoints  []waypost.EndpointID
	deliveries map[waypost.DeliveryID]*modelDelivery
	keys       map[string]waypost.EventID
	repeats    map[waypost.EventID]int
}

func newModel(t *rapid.T, shared *fixture) *model {
	f := *shared
	f.tenant = waypost.TenantID(f.ids.Next())
	m := &model{
		f: &f, ctx: f.ctx(), clock: time.Now().Add(time.Second).UTC().Truncate(time.Millisecond),
		deliveries: map[waypost.DeliveryID]*modelDelivery{},
		keys:       map[string]waypost.EventID{},
		repeats:    map[waypost.EventID]int{},
	}
	for range 2 {
		m.nodes = append(m.nodes, m.join(t))
	}
	for range 3 {
		m.endpoints = append(m.endpoints, f.endpoint(func(*waypost.Endpoint) {}))
	}
	return m
}

func (m *model) must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *model) join(t *rapid.T) waypost.NodeID {
	node, _, _, err := m.f.store.Join(m.ctx, time.Hour, time.Now())
	m.must(t, err)
	return node
}

// tick moves the clock on, so that times tell what happened when.
func (m *model) tick() time.Time {
	m.clock = m.clock.Add(time.Second)
	return m.clock
}

func (m *model) node(t *rapid.T) waypost.NodeID {
	return rapid.SampledFrom(m.nodes).Draw(t, "node")
}

func (m *model) accept(t *rapid.T) {
	node := m.node(t)
	var batch []store.Arrival
	for range rapid.IntRange(1, 3).Draw(t, "batch") {
		arrival := store.Arrival{Event: m.f.event()}
		if n := rapid.IntRange(0, 4).Draw(t, "key"); n > 0 {
			arrival.DedupeKey = dedupeKey(uint32(n), fmt.Sprint(m.endpoints[0], n))
		}
		for i, endpoint := range m.endpoints {
			owing := store.Owing{Endpoint: endpoint}
			switch rapid.SampledFrom([]string{"not", "free", "hand", "elsewhere", "after"}).Draw(t, "owed") {
			case "not":
				continue
			case "hand":
				owing.Place = store.InHand
			case "elsewhere":
				owing.Place = store.Elsewhere
			case "after":
				owing.After = m.endpoints[(i+2)%3]
				if i == 0 { // no rings
					owing.After = 0
				}
			}
			arrival.Owed = append(arrival.Owed, owing)
		}
		batch = append(batch, arrival)
	}
	receipts, err := m.f.store.Accept(m.ctx, node, batch)
	m.must(t, err)
	for i := range batch {
		m.accepted(t, node, &batch[i], receipts[i])
	}
}

func (m *model) accepted(t *rapid.T, node waypost.NodeID, arrival *store.Arrival, receipt store.Receipt) {
	key := string(arrival.DedupeKey)
	if first, known := m.keys[key]; known && key != "" {
		if receipt != (store.Receipt{Event: first, Duplicate: true}) {
			t.Fatalf("receipt %+v for a repeat of %s", receipt, first)
		}
		m.repeats[first]++
		return
	}
	id := arrival.Event.ID
	if receipt != (store.Receipt{Event: id}) {
		t.Fatalf("receipt %+v for %s, which is new", receipt, id)
	}
	m.keys[key] = id
	for _, o := range arrival.Owed {
		d := &modelDelivery{due: id.Time()}
		main := func(other store.Owing) bool { return other.Endpoint == o.After }
		switch {
		case o.After != 0 && slices.ContainsFunc(arrival.Owed, main):
			d.place, d.after = waits, o.After
		case o.Place == store.InHand:
			d.place, d.node = held, node
		}
		m.deliveries[waypost.DeliveryID{Event: id, Endpoint: o.Endpoint}] = d
	}
}

func (m *model) take(t *rapid.T) {
	node := m.node(t)
	endpoint := rapid.SampledFrom(m.endpoints).Draw(t, "endpoint")
	limit := rapid.IntRange(1, 4).Draw(t, "limit")
	order := rapid.SampledFrom([]store.Order{store.OldestDue, store.NewestEvent}).Draw(t, "order")
	now := m.tick()
	taken, err := m.f.store.Take(m.ctx, node, endpoint, now, limit, order)
	m.must(t, err)
	want := m.due(endpoint, now, order)
	want = want[:min(len(want), limit)]
	if got := events(taken); !slices.Equal(got, want) {
		t.Fatalf("took %v, want %v", got, want)
	}
	for _, owed := range taken {
		d := m.deliveries[waypost.DeliveryID{Event: owed.Event.ID, Endpoint: endpoint}]
		if owed.Attempts != d.attempts {
			t.Fatalf("took %s after %d attempts, want %d", owed.Event.ID, owed.Attempts, d.attempts)
		}
		d.place, d.node = held, node
	}
}

// due are the events that are due for the endpoint, in order.
func (m *model) due(endpoint waypost.EndpointID, now time.Time, order store.Order) []waypost.EventID {
	var ids []waypost.DeliveryID
	for id, d := range m.deliveries {
		if id.Endpoint == endpoint && d.place == free && !d.due.After(now) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b waypost.DeliveryID) int {
		if order == store.NewestEvent {
			return cmp.Compare(b.Event, a.Event)
		}
		return cmp.Or(m.deliveries[a].due.Compare(m.deliveries[b].due), cmp.Compare(a.Event, b.Event))
	})
	events := make([]waypost.EventID, len(ids))
	for i := range ids {
		events[i] = ids[i].Event
	}
	return events
}

func (m *model) ids() []waypost.DeliveryID {
	return slices.SortedFunc(maps.Keys(m.deliveries), func(a, b waypost.DeliveryID) int {
		return cmp.Or(cmp.Compare(a.Event, b.Event), cmp.Compare(a.Endpoint, b.Endpoint))
	})
}

func (m *model) pick(t *rapid.T) (waypost.DeliveryID, *modelDelivery) {
	ids := m.ids()
	if len(ids) == 0 {
		t.Skip("nothing was accepted yet")
	}
	id := rapid.SampledFrom(ids).Draw(t, "delivery")
	return id, m.deliveries[id]
}

// settle writes a few results back, some of them for what the node does not hold,
// and some of an earlier lease.
func (m *model) settle(t *rapid.T) {
	node := m.node(t)
	var results []store.Result
	var lost []int
	for i := range rapid.IntRange(1, 4).Draw(t, "results") {
		id, d := m.pick(t)
		at := m.tick()
		n := d.attempts + 1
		r := store.Result{Delivery: id, At: at.Add(time.Second)}
		r.Attempt = &waypost.Attempt{Delivery: id, N: n, At: at, Outcome: waypost.OutcomeRetry, Reason: waypost.ReasonStatus}
		switch rapid.SampledFrom([]string{"delivered", "exhausted", "retry", "hand"}).Draw(t, "next") {
		case "delivered":
			r.Next, r.Attempt.Outcome, r.Attempt.Reason = store.NextDelivered, waypost.OutcomeDelivered, waypost.ReasonOK
		case "exhausted":
			r.Next, r.Reason, r.Attempt.Outcome = store.NextExhausted, waypost.ReasonStatus, waypost.OutcomeExhausted
		case "retry":
			r.Next = store.NextRetry
		case "hand":
			r.Next, r.InHand = store.NextRetry, true
		}
		mine := d.place == held && d.node == node
		if r.Earlier = !related(results, id) && rapid.Bool().Draw(t, "earlier"); r.Earlier {
			made := rapid.IntRange(0, 1).Draw(t, "requests since")
			r.Attempt.N -= made
			mine = made == 0 && (d.place == free || d.place == waits)
		}
		results = append(results, r)
		if !mine {
			lost = append(lost, i)
			continue
		}
		d.attempts = n
		alone := d.place == waits // its main one must not come after it, see related
		m.settled(id, d, &r)
		if alone {
			break
		}
	}
	settled, err := m.f.store.Settle(m.ctx, node, results)
	m.must(t, err)
	if !slices.Equal(settled.Lost, lost) {
		t.Fatalf("lost %v, want %v", settled.Lost, lost)
	}
}

// related tells whether some result is about the same event at another endpoint:
// main and clone in one call are written in no particular order.
func related(results []store.Result, id waypost.DeliveryID) bool {
	return slices.ContainsFunc(results, func(r store.Result) bool {
		return r.Delivery.Event == id.Event && r.Delivery.Endpoint != id.Endpoint
	})
}

func (m *model) settled(id waypost.DeliveryID, d *modelDelivery, r *store.Result) {
	switch {
	case r.Next == store.NextDelivered:
		d.place, d.node = received, 0
		for _, waiting := range m.waiting(id) {
			waiting.place, waiting.after, waiting.due = free, 0, r.Attempt.At
		}
	case r.Next == store.NextExhausted:
		m.giveUp(id)
	case d.place == waits: // it goes on waiting
		d.due = r.At
	case r.InHand && !r.Earlier:
		d.due = r.At
	case d.due.IsZero(): // a retry was asked for meanwhile
		d.place, d.node, d.due = free, 0, r.Attempt.At
	default:
		d.place, d.node, d.due = free, 0, r.At
	}
}

func (m *model) waiting(main waypost.DeliveryID) map[waypost.DeliveryID]*modelDelivery {
	found := map[waypost.DeliveryID]*modelDelivery{}
	for id, d := range m.deliveries {
		if id.Event == main.Event && d.place == waits && d.after == main.Endpoint {
			found[id] = d
		}
	}
	return found
}

func (m *model) giveUp(id waypost.DeliveryID) {
	d := m.deliveries[id]
	d.place, d.node, d.after = givenUp, 0, 0
	for waiting := range m.waiting(id) {
		m.giveUp(waiting)
	}
}

func (m *model) retry(t *rapid.T) {
	id, d := m.pick(t)
	now := m.tick()
	m.must(t, m.f.store.Retry(m.ctx, id, now))
	if d.place == held {
		d.due = time.Time{} // as soon as it is put off
		return
	}
	d.place, d.after, d.due = free, 0, now
}

func (m *model) drop(t *rapid.T) {
	before, _ := m.pick(t)
	endpoint := rapid.SampledFrom(m.endpoints).Draw(t, "endpoint")
	n, err := m.f.store.Drop(m.ctx, endpoint, before.Event, waypost.ReasonPurged, m.tick(), 1000)
	m.must(t, err)
	want := 0
	for _, id := range m.ids() {
		d := m.deliveries[id]
		if id.Endpoint == endpoint && id.Event < before.Event && (d.place == free || d.place == waits) {
			m.giveUp(id)
			want++
		}
	}
	if n != want {
		t.Fatalf("dropped %d, want %d", n, want)
	}
}

// replace ends a node in the model and has another take its seat.
func (m *model) replace(t *rapid.T, node waypost.NodeID) (released int) {
	for _, d := range m.deliveries {
		if d.place == held && d.node == node {
			d.place, d.node = free, 0
			if d.due.IsZero() || d.due.After(m.clock) {
				d.due = m.clock
			}
			released++
		}
	}
	m.nodes[slices.Index(m.nodes, node)] = m.join(t)
	return released
}

func (m *model) leave(t *rapid.T) {
	node := m.node(t)
	m.must(t, m.f.store.Leave(m.ctx, node, m.tick()))
	m.replace(t, node)
}

func (m *model) expire(t *rapid.T) {
	node := m.node(t)
	_, err := m.f.store.Renew(m.ctx, node, -time.Second, time.Now(), 0)
	m.must(t, err)
	if _, err := m.f.store.Settle(m.ctx, node, nil); err != store.ErrLeaseLost { //nolint:errorlint // the contract is this very value
		t.Fatalf("error is %v, want %v", err, store.ErrLeaseLost)
	}
	n, err := m.f.store.Adopt(m.ctx, m.tick())
	m.must(t, err)
	if want := m.replace(t, node); n != want {
		t.Fatalf("adopted %d, want %d", n, want)
	}
}

// check compares all that can be seen, with the log of one endpoint at a time.
func (m *model) check(t *rapid.T) {
	m.checkList(t, m.endpoints[len(m.deliveries)%len(m.endpoints)])
	due := map[waypost.EndpointID]time.Time{}
	for id, d := range m.deliveries {
		if d.place == free && (due[id.Endpoint].IsZero() || d.due.Before(due[id.Endpoint])) {
			due[id.Endpoint] = d.due
		}
	}
	list, err := m.f.store.Due(m.ctx)
	m.must(t, err)
	for _, one := range list {
		if slices.Contains(m.endpoints, one.Endpoint) && !due[one.Endpoint].Equal(one.At) {
			t.Fatalf("%s is due at %s, want %s", one.Endpoint, one.At, due[one.Endpoint])
		}
		delete(due, one.Endpoint)
	}
	if len(due) > 0 {
		t.Fatalf("due does not list %v", due)
	}
	m.checkBacklog(t, math.MaxInt64)
	if ids := m.ids(); len(ids) > 0 {
		m.checkBacklog(t, ids[len(ids)/2].Event)
	}
}

// checkBacklog compares what is owed of events older than before.
func (m *model) checkBacklog(t *rapid.T, before waypost.EventID) {
	backlog := map[waypost.EndpointID]store.Backlog{}
	for _, id := range m.ids() {
		d := m.deliveries[id]
		if id.Event < before && (d.place == free || d.place == held || d.place == waits) {
			b := backlog[id.Endpoint]
			if b.Count++; b.Count == 1 {
				b.Oldest = id.Event
			}
			b.Newest = id.Event
			backlog[id.Endpoint] = b
		}
	}
	for _, endpoint := range m.endpoints {
		got, err := m.f.store.Backlog(m.ctx, endpoint, before)
		m.must(t, err)
		if got != backlog[endpoint] {
			t.Fatalf("backlog before %s is %+v, want %+v", before, got, backlog[endpoint])
		}
	}
}

// checkList compares an endpoint's deliveries with the log.
func (m *model) checkList(t *rapid.T, endpoint waypost.EndpointID) {
	got, err := m.f.store.Deliveries(m.ctx, store.DeliveryFilter{EndpointID: endpoint})
	m.must(t, err)
	var want []waypost.Delivery
	for _, id := range slices.Backward(m.ids()) {
		if id.Endpoint == endpoint {
			want = append(want, m.deliveries[id].shown(id))
		}
	}
	for i := range got {
		got[i].LastStatus, got[i].Reason = 0, ""
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatalf("deliveries (-want +got):\n%s", diff)
	}
}

// shown is how the log shows a delivery.
func (d *modelDelivery) shown(id waypost.DeliveryID) waypost.Delivery {
	shown := waypost.Delivery{ID: id, Attempts: d.attempts}
	switch d.place {
	case free, held:
		shown.State, shown.NextAttemptAt = waypost.DeliveryPending, d.due
	case waits:
		shown.State = waypost.DeliveryPending
	case received:
		shown.State = waypost.DeliveryDelivered
	case givenUp:
		shown.State = waypost.DeliveryExhausted
	}
	return shown
}

// finish delivers all that is owed, which shows that nothing is out of reach, and
// looks at the counts of repeats.
func (m *model) finish(t *rapid.T) {
	for _, node := range m.nodes[1:] {
		m.must(t, m.f.store.Leave(m.ctx, node, m.tick()))
	}
	node := m.nodes[0]
	for id, d := range m.deliveries {
		if d.place == held && d.node == node {
			m.deliver(t, node, id, d)
		}
	}
	for open := true; open; { // each round releases what waited
		open = false
		for _, endpoint := range m.endpoints {
			taken, err := m.f.store.Take(m.ctx, node, endpoint, m.clock.Add(time.Hour), 1000, store.OldestDue)
			m.must(t, err)
			for _, owed := range taken {
				id := waypost.DeliveryID{Event: owed.Event.ID, Endpoint: endpoint}
				m.deliver(t, node, id, m.deliveries[id])
				open = true
			}
		}
	}
	for _, endpoint := range m.endpoints {
		n, err := m.f.store.Backlog(m.ctx, endpoint, 0)
		m.must(t, err)
		if n.Count != 0 {
			t.Fatalf("%d deliveries are out of reach", n.Count)
		}
		m.checkList(t, endpoint)
	}
	for event, n := range m.repeats {
		record, err := m.f.store.Event(m.ctx, event)
		m.must(t, err)
		if record.Duplicates != n {
			t.Fatalf("%d repeats of %s, want %d", record.Duplicates, event, n)
		}
	}
	m.must(t, m.f.store.Leave(m.ctx, node, m.tick()))
}

func (m *model) deliver(t *rapid.T, node waypost.NodeID, id waypost.DeliveryID, d *modelDelivery) {
	settled, err := m.f.store.Settle(m.ctx, node, []store.Result{m.f.delivered(id, d.attempts+1)})
	m.must(t, err)
	if len(settled.Lost) > 0 {
		t.Fatalf("%s was lost", id)
	}
	d.place, d.node = received, 0
	d.attempts++
	for _, waiting := range m.waiting(id) {
		waiting.place, waiting.after = free, 0
	}
}
