package settings_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// owe accepts events of the first number, a second apart, that an endpoint is owed.
func (w *world) owe(endpoint waypost.EndpointID, place store.Place, count int) []waypost.EventID {
	w.t.Helper()
	if w.node == 0 {
		id, _, _, err := w.store.Join(w.t.Context(), time.Hour, time.Now())
		if err != nil {
			w.t.Fatal(err)
		}
		w.node = id
	}
	events := make([]waypost.EventID, count)
	batch := make([]store.Arrival, count)
	for i := range batch {
		events[i] = waypost.EventID(w.ids.Next())
		batch[i] = store.Arrival{
			Event: waypost.Event{
				ID: events[i], Type: "whatsapp.message.text", State: waypost.EventRouted,
				TenantID: w.acme.ID, NumberID: w.number.ID, Form: waypost.FormCloud, Body: []byte(`{}`),
			},
			Owed: []store.Owing{{Endpoint: endpoint, Place: place}},
		}
		w.pass(time.Second)
	}
	if _, err := w.store.Accept(w.t.Context(), w.node, batch); err != nil {
		w.t.Fatal(err)
	}
	return events
}

// reasons counts an endpoint's settled deliveries by how they ended.
func (w *world) reasons(endpoint waypost.EndpointID) map[waypost.Reason]int {
	w.t.Helper()
	rows, err := w.store.Deliveries(w.t.Context(), store.DeliveryFilter{EndpointID: endpoint, State: waypost.DeliveryExhausted})
	if err != nil {
		w.t.Fatal(err)
	}
	ended := map[waypost.Reason]int{}
	for _, row := range rows {
		ended[row.Reason]++
	}
	return ended
}

func TestPurge(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		e, other := w.endpoint(signed), w.endpoint(signed)
		w.owe(other.ID, store.InTable, 2)
		w.owe(e.ID, store.InTable, 450) // more than are dropped in one step
		inHand := w.owe(e.ID, store.InHand, 3)
		before := w.clock()
		w.owe(e.ID, store.InTable, 5)
		by := settings.By(t.Context(), "admin")
		w.trail()

		backlog, err := w.Backlog(t.Context(), e.ID, before)
		if err != nil || backlog.Count != 453 || backlog.Newest != inHand[2] {
			t.Fatalf("backlog %+v, %v, want 453 up to %d", backlog, err, inHand[2])
		}
		_, err = w.Purge(by, e.ID, before, 452)
		wantKind(t, "more than was confirmed", err, waypost.KindConflict)
		_, err = w.Purge(by, e.ID, w.clock().Add(time.Minute), 1000)
		wantKind(t, "what is yet to come", err, waypost.KindInvalid)
		_, err = w.Purge(by, 4711, before, 1000)
		wantKind(t, "no such endpoint", err, waypost.KindNotFound)
		w.wantTrail()

		purged, err := w.Purge(by, e.ID, before, 453)
		if err != nil || purged != (settings.Purged{Count: 450, Left: 3}) {
			t.Errorf("purged %+v, %v, want 450 and 3 left in hand", purged, err)
		}
		if diff := cmp.Diff(map[waypost.Reason]int{waypost.ReasonPurged: 450}, w.reasons(e.ID)); diff != "" {
			t.Errorf("ends (-want +got):\n%s", diff)
		}
		for id, count := range map[waypost.EndpointID]int{e.ID: 8, other.ID: 2} {
			if backlog, err := w.Backlog(t.Context(), id, time.Time{}); err != nil || backlog.Count != count {
				t.Errorf("%s is owed %d after the purge, want %d (%v)", id, backlog.Count, count, err)
			}
		}
		at := before.Format("2006-01-02T15:04:05.000Z")
		w.wantTrail(
			entry{w.acme.ID, "admin", "endpoint.purge", e.ID.String(), members{"before": at, "count": 453.0}},
			entry{w.acme.ID, "admin", "endpoint.purge", e.ID.String(), members{"before": at, "purged": 450.0, "left": 3.0}},
		)
	})
}

// hangUp is a store whose first dropped delivery makes the caller go away.
type hangUp struct {
	store.Store
	cancel context.CancelFunc
}

func (h hangUp) Drop(ctx context.Context, e waypost.EndpointID, before waypost.EventID, reason waypost.Reason, now time.Time, limit int) (int, error) {
	h.cancel()
	return h.Store.Drop(ctx, e, before, reason, now, limit)
}

func TestPurgeOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.endpoint(signed)
	w.owe(e.ID, store.InTable, 250)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.store = hangUp{w.store, cancel}
	node, _ := w.process()
	w.trail()
	purged, err := node.Purge(ctx, e.ID, w.clock(), 250)
	if err != nil || purged.Count != 250 || ctx.Err() == nil {
		t.Errorf("purged %+v, %v; the caller is gone: %v", purged, err, ctx.Err())
	}
	if told := w.trail(); len(told) != 2 || told[1].Detail["purged"] != 250.0 {
		t.Errorf("audit trail: %v", told)
	}
}

// grudging is a store that drops nothing from the second time on.
type grudging struct {
	store.Store
	drops *int
}

func (g grudging) Drop(ctx context.Context, e waypost.EndpointID, before waypost.EventID, reason waypost.Reason, now time.Time, limit int) (int, error) {
	if *g.drops++; *g.drops > 1 {
		return 0, waypost.Errorf(waypost.KindUnavailable, "the database is gone")
	}
	return g.Store.Drop(ctx, e, before, reason, now, limit)
}

func TestPurgeThatStopsHalfwayIsTold(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.endpoint(signed)
	w.owe(e.ID, store.InTable, 250)
	w.store = grudging{w.store, new(int)}
	node, _ := w.process()
	w.trail()
	_, err := node.Purge(t.Context(), e.ID, w.clock(), 250)
	wantKind(t, "a purge that stopped", err, waypost.KindUnavailable)
	told := w.trail()
	if len(told) != 2 || told[1].Detail["purged"] != 200.0 || told[1].Detail["failed"] != true {
		t.Errorf("audit trail: %v", told)
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.endpoint(signed)
	hour, negative := time.Hour, -time.Second
	for name, c := range map[string]struct {
		how   settings.Resumption
		field string
	}{
		"order": {settings.Resumption{Order: "sideways"}, "order"},
		"age":   {settings.Resumption{SkipOlderThan: &negative}, "skip_older_than"},
	} {
		_, err := w.Resume(t.Context(), e.ID, c.how)
		wantKind(t, name, err, waypost.KindInvalid)
		if diff := cmp.Diff([]string{c.field}, fields(err)); diff != "" {
			t.Errorf("%s: refused members (-want +got):\n%s", name, diff)
		}
	}
	if _, err := w.Pause(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	w.wakes()
	resumed, err := w.Resume(t.Context(), e.ID, settings.Resumption{Order: waypost.DrainNewest, SkipOlderThan: &hour})
	if err != nil {
		t.Fatal(err)
	}
	want := waypost.FirstEventID(w.clock().Add(-hour))
	if resumed.State != waypost.EndpointActive || resumed.Drain != waypost.DrainNewest || resumed.SkipBefore != want {
		t.Errorf("resumed as %s, %q, before %d, want before %d", resumed.State, resumed.Drain, resumed.SkipBefore, want)
	}
	if diff := cmp.Diff([]waypost.EndpointID{e.ID}, w.wakes()); diff != "" {
		t.Errorf("woken (-want +got):\n%s", diff)
	}
	if resumed, err = w.Resume(t.Context(), e.ID, settings.Resumption{}); err != nil || resumed.Drain != waypost.DrainOldest || resumed.SkipBefore != 0 {
		t.Errorf("resumed once more as %q, before %d (%v)", resumed.Drain, resumed.SkipBefore, err)
	}
}

// What a resume skipped can be retried all the same, once it has been skipped.
func TestRetryOfWhatWasSkipped(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.endpoint(signed)
	events := w.owe(e.ID, store.InTable, 2)
	w.pass(2 * time.Hour)
	hour := time.Hour
	resumed, err := w.Resume(t.Context(), e.ID, settings.Resumption{SkipOlderThan: &hour})
	if err != nil {
		t.Fatal(err)
	}
	delivery := waypost.DeliveryID{Event: events[0], Endpoint: e.ID}
	wantKind(t, "retry while the rest is yet to be skipped", w.RetryDelivery(t.Context(), delivery), waypost.KindConflict)
	_, err = w.ReplayEvent(t.Context(), events[0], e.ID)
	wantKind(t, "replay while the rest is yet to be skipped", err, waypost.KindConflict)

	dropped, err := w.store.Drop(t.Context(), e.ID, resumed.SkipBefore, waypost.ReasonSkipped, w.clock(), 10) // as the engine does
	if err != nil || dropped != 2 {
		t.Fatalf("dropped %d, %v", dropped, err)
	}
	if err := w.RetryDelivery(t.Context(), delivery); err != nil {
		t.Fatal(err)
	}
	if got := w.directory.Endpoint(e.ID).SkipBefore; got != 0 {
		t.Errorf("the retried delivery would be skipped again: before %d", got)
	}
	if _, err := w.ReplayEvent(t.Context(), events[1], e.ID); err != nil {
		t.Errorf("replay: %v", err)
	}
	if backlog, err := w.Backlog(t.Context(), e.ID, time.Time{}); err != nil || backlog.Count != 2 {
		t.Errorf("owed %d, %v, want both", backlog.Count, err)
	}
}
