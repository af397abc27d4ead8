package storetest

import (
	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var logTests = []test{
	{"events newest first, page by page", logEventPages},
	{"events by filter", logEventFilters},
	{"a filter that matches little walks far", logEventWalk},
	{"deliveries by state", logDeliveryStates},
	{"deliveries page by page", logDeliveryPages},
	{"held or pending is the endpoint's doing", logHeld},
	{"what an endpoint received, among much else", logDeliveredWalk},
	{"attempts in order", logAttempts},
	{"a backlog is all that is owed, by age", logBacklog},
}

func logEventPages(f *fixture) {
	var want []waypost.EventID
	for range 7 {
		want = append([]waypost.EventID{f.accepted()}, want...)
	}
	var got []waypost.EventID
	filter := store.EventFilter{TenantID: f.tenant, Limit: 3}
	for _, size := range []int{3, 3, 1} {
		page, err := f.store.Events(f.ctx(), filter)
		f.must(err)
		f.equal("page", len(page), size)
		for _, e := range page {
			if e.Body != nil {
				f.tb.Fatal("a listed event has a body")
			}
			got = append(got, e.ID)
		}
		filter.Before = got[len(got)-1]
	}
	f.equal("events", got, want)
	full := f.stored(want[0]).Event
	full.Body = nil
	page, err := f.store.Events(f.ctx(), store.EventFilter{Limit: 1})
	f.must(err)
	f.equal("listed event", page, []waypost.Event{full})
}

func logEventFilters(f *fixture) {
	batch := make([]store.Arrival, 6)
	for i := range batch {
		batch[i] = f.arrival()
	}
	batch[1].Event.TenantID = f.tenant + 1
	batch[2].Event.NumberID = 99
	batch[3].Event.Type = "whatsapp.status.read"
	batch[4].Event.State, batch[4].Event.TenantID = waypost.EventUnrouted, 0
	// One second later by its id.
	batch[5].Event.ID += 1000 << 22
	f.accept(batch...)
	latest := batch[5].Event.ID.Time()
	for name, c := range map[string]struct {
		filter store.EventFilter
		want   []int
	}{
		"none":           {store.EventFilter{}, []int{5, 4, 3, 2, 1, 0}},
		"tenant":         {store.EventFilter{TenantID: f.tenant}, []int{5, 3, 2, 0}},
		"number":         {store.EventFilter{NumberID: 99}, []int{2}},
		"tenant, number": {store.EventFilter{TenantID: f.tenant, NumberID: 12}, []int{5, 3, 0}},
		"type":           {store.EventFilter{Type: "whatsapp.status.read"}, []int{3}},
		"glob":           {store.EventFilter{Type: "whatsapp.message.*"}, []int{5, 4, 2, 1, 0}},
		"state":          {store.EventFilter{State: waypost.EventUnrouted}, []int{4}},
		"since":          {store.EventFilter{Since: latest}, []int{5}},
		"until":          {store.EventFilter{Until: latest}, []int{4, 3, 2, 1, 0}},
		"before":         {store.EventFilter{Before: batch[2].Event.ID}, []int{1, 0}},
		"until, before":  {store.EventFilter{Until: latest, Before: batch[1].Event.ID}, []int{0}},
		"type, limit":    {store.EventFilter{Type: "whatsapp.message.*", Limit: 2}, []int{5, 4}},
	} {
		page, err := f.store.Events(f.ctx(), c.filter)
		f.must(err)
		got, want := []waypost.EventID{}, []waypost.EventID{}
		for _, e := range page {
			got = append(got, e.ID)
		}
		for _, i := range c.want {
			want = append(want, batch[i].Event.ID)
		}
		f.equal(name, got, want)
	}
}

func logEventWalk(f *fixture) {
	needle := f.arrival()
	needle.Event.Type = "whatsapp.needle"
	batch := []store.Arrival{needle}
	for range 4100 { // more than two steps of a walk
		batch = append(batch, store.Arrival{Event: waypost.Event{
			ID: waypost.EventID(f.ids.Next()), Type: "whatsapp.hay", State: waypost.EventRouted, TenantID: f.tenant,
		}})
	}
	f.accept(batch...)
	page, err := f.store.Events(f.ctx(), store.EventFilter{Type: "whatsapp.needle", Limit: 10})
	f.must(err)
	if len(page) != 1 || page[0].ID != needle.Event.ID {
		f.tb.Fatalf("found %d events, want the needle", len(page))
	}
}

// scene is a delivery in each state at each of two endpoints.
func scene(f *fixture) map[waypost.DeliveryState][]waypost.DeliveryID {
	f.tb.Helper()
	states := map[waypost.DeliveryState][]waypost.DeliveryID{}
	for range 2 { // so that the states are mixed in the order of ids
		for _, endpoint := range f.endpoints[:2] {
			pending, delivered, exhausted := f.handed(endpoint), f.handed(endpoint), f.handed(endpoint)
			f.settle(f.putOff(pending, 1, f.later()), f.delivered(delivered, 1), f.exhausted(exhausted, 1))
			for state, id := range map[waypost.DeliveryState]waypost.DeliveryID{
				waypost.DeliveryPending: pending, waypost.DeliveryDelivered: delivered, waypost.DeliveryExhausted: exhausted,
			} {
				states[state] = append([]waypost.DeliveryID{id}, states[state]...)
			}
		}
	}
	return states
}

func (f *fixture) list(filter store.DeliveryFilter) []waypost.Delivery {
	f.tb.Helper()
	list, err := f.store.Deliveries(f.ctx(), filter)
	f.must(err)
	return list
}

func deliveryIDs(list []waypost.Delivery) []waypost.DeliveryID {
	ids := make([]waypost.DeliveryID, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	return ids
}

func logDeliveryStates(f *fixture) {
	for state, ids := range scene(f) {
		f.equal(string(state), deliveryIDs(f.list(store.DeliveryFilter{State: state})), ids)
		for _, endpoint := range f.endpoints[:2] {
			var want []waypost.DeliveryID
			for _, id := range ids {
				if id.Endpoint == endpoint {
					want = append(want, id)
				}
			}
			list := f.list(store.DeliveryFilter{State: state, EndpointID: endpoint})
			f.equal(string(state)+" at one endpoint", deliveryIDs(list), want)
			for _, d := range list {
				f.equal("listed and read alone", d, f.delivery(d.ID.Event, d.ID.Endpoint))
			}
		}
		f.equal("by event", deliveryIDs(f.list(store.DeliveryFilter{State: state, EventID: ids[0].Event})), ids[:1])
	}
	f.equal("held", f.list(store.DeliveryFilter{State: waypost.DeliveryHeld}), []waypost.Delivery{})
	f.equal("unknown endpoint", f.list(store.DeliveryFilter{EndpointID: 5}), []waypost.Delivery{})
}

func logDeliveryPages(f *fixture) {
	scene(f)
	all := f.accepted(owing(f.endpoints...)...) // one event with several deliveries, across a page
	for _, filter := range []store.DeliveryFilter{
		{}, {EndpointID: f.endpoints[1]}, {EventID: all}, {State: waypost.DeliveryDelivered, EndpointID: f.endpoints[0]},
	} {
		whole := deliveryIDs(f.list(filter))
		var paged []waypost.DeliveryID
		for filter.Limit = 2; ; {
			page := deliveryIDs(f.list(filter))
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
			filter.Before = page[len(page)-1]
		}
		f.equal("pages", paged, whole)
		for i := 1; i < len(whole); i++ {
			a, b := whole[i-1], whole[i]
			if a.Event < b.Event || (a.Event == b.Event && a.Endpoint <= b.Endpoint) {
				f.tb.Fatalf("%s comes before %s", a, b)
			}
		}
	}
	f.equal("all", len(f.list(store.DeliveryFilter{})), 12+len(f.endpoints))
}

func logHeld(f *fixture) {
	a := f.endpoints[0]
	event := f.accepted(owing(a)...)
	for _, c := range []struct {
		change func(*waypost.Endpoint)
		want   waypost.DeliveryState
	}{
		{func(e *waypost.Endpoint) { e.State = waypost.EndpointPaused }, waypost.DeliveryHeld},
		{func(e *waypost.Endpoint) { e.State = waypost.EndpointActive }, waypost.DeliveryPending},
		{func(e *waypost.Endpoint) { e.URL = "" }, waypost.DeliveryHeld},
		{func(e *waypost.Endpoint) { e.URL = "https://back.example" }, waypost.DeliveryPending},
		{func(e *waypost.Endpoint) { e.State = waypost.EndpointTripped }, waypost.DeliveryHeld},
		{func(e *waypost.Endpoint) { e.State = waypost.EndpointDisabled }, waypost.DeliveryHeld},
		{func(e *waypost.Endpoint) { e.State, e.DeletedAt = waypost.EndpointActive, f.now }, waypost.DeliveryHeld},
	} {
		f.editEndpoint(a, c.change)
		f.state(event, a, c.want)
		f.equal("listed", len(f.list(store.DeliveryFilter{State: c.want})), 1)
	}
}

func logDeliveredWalk(f *fixture) {
	first := f.handed(f.endpoints[0])
	f.settle(f.delivered(first, 1))
	hay := make([]store.Arrival, 4100)
	for i := range hay {
		hay[i] = store.Arrival{Event: waypost.Event{ID: waypost.EventID(f.ids.Next()), State: waypost.EventRouted, TenantID: f.tenant}}
	}
	f.accept(hay...)
	last := f.handed(f.endpoints[0])
	f.settle(f.delivered(last, 1))
	filter := store.DeliveryFilter{EndpointID: f.endpoints[0], State: waypost.DeliveryDelivered}
	f.equal("received", deliveryIDs(f.list(filter)), []waypost.DeliveryID{last, first})
	filter.Before = last
	f.equal("received before", deliveryIDs(f.list(filter)), []waypost.DeliveryID{first})
}

func logAttempts(f *fixture) {
	a, b := f.endpoints[0], f.endpoints[1]
	event := f.accepted(inHand(a, b)...)
	first, second := waypost.DeliveryID{Event: event, Endpoint: a}, waypost.DeliveryID{Event: event, Endpoint: b}
	retry := f.putOff(first, 1, f.now)
	retry.InHand = true
	f.settle(retry)
	f.settle(f.delivered(second, 1), f.delivered(first, 2))
	got := f.attempts(event)
	want := []waypost.Attempt{
		*f.attempt(first, 1, waypost.OutcomeRetry),
		*f.attempt(first, 2, waypost.OutcomeDelivered),
		*f.attempt(second, 1, waypost.OutcomeDelivered),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.tb.Fatalf("attempts (-want +got):\n%s", diff)
	}
}

func logBacklog(f *fixture) {
	main, clone := f.endpoints[0], f.endpoints[1]
	backlog := func(endpoint waypost.EndpointID, before waypost.EventID, want store.Backlog) {
		f.tb.Helper()
		got, err := f.store.Backlog(f.ctx(), endpoint, before)
		f.must(err)
		f.equal("backlog", got, want)
	}
	backlog(main, 0, store.Backlog{})
	free := f.accepted(owing(main)...)
	held := f.handed(main)
	waits := f.accepted(store.Owing{Endpoint: main}, store.Owing{Endpoint: clone, After: main})
	theirs := f.accepted(owing(f.endpoints[2])...)
	other, _ := f.join()
	f.equal("taken", len(f.take(other, f.endpoints[2], 1)), 1)

	backlog(main, 0, store.Backlog{Count: 3, Oldest: free, Newest: waits})
	backlog(main, waits, store.Backlog{Count: 2, Oldest: free, Newest: held.Event})
	backlog(main, held.Event, store.Backlog{Count: 1, Oldest: free, Newest: free})
	backlog(main, free, store.Backlog{})
	backlog(clone, 0, store.Backlog{Count: 1, Oldest: waits, Newest: waits})
	backlog(clone, waits, store.Backlog{})
	backlog(f.endpoints[2], 0, store.Backlog{Count: 1, Oldest: theirs, Newest: theirs})

	f.settle(f.delivered(held, 1))
	backlog(main, 0, store.Backlog{Count: 2, Oldest: free, Newest: waits})
}
