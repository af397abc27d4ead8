package delivery

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// away keeps the database away for longer than a lease, as the node sees it: the
// lease counts as lost after five seconds, and there is a new one when the
// database is back.
func away(t *testing.T, w *world, length time.Duration) {
	t.Helper()
	w.table.setDown(errDown)
	wait(5 * time.Second)
	if err := w.lose(); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("Run returned %v", err)
	}
	wait(length - 5*time.Second)
	w.table.setDown(nil)
	w.table.join()
	w.run()
}

func TestResultsOutliveTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lost := &lostCounter{}
		w := newWorld(t, func(c *Config) { c.Observer = lost })
		w.dialect.policy.Schedule = []time.Duration{0, 100 * time.Millisecond, time.Hour}
		good, bad := w.endpoint(1), w.endpoint(2)
		w.change(bad, func(e *waypost.Endpoint) { e.URL = "bad" })
		w.setAnswer(byURL("bad", after(10*time.Millisecond, 500), after(10*time.Millisecond, 200)))
		w.run()
		const each = 800
		for range each {
			w.accept(good)
			w.accept(bad)
		}
		wait(45 * time.Millisecond) // before anything is written
		before := len(w.requests())
		away(t, w, time.Minute)
		during := len(w.requests())
		// Attempts start for a second, and no longer.
		if most := before + 2*4*107; during > most || during < before+700 {
			t.Errorf("%d requests while nothing could be written, at most %d", during-before, most-before)
		}
		wait(100 * time.Millisecond)
		if made := w.table.made(); made[good]+made[bad] != during {
			t.Errorf("%v attempts on record, %d made", made, during)
		}
		if n := len(w.requests()); n != during {
			t.Errorf("%d requests before the others can have brought in theirs", n-during)
		}
		wait(time.Minute)
		if n := w.table.ends()[""]; n != each {
			t.Errorf("%d of %d received", n, each)
		}
		w.shut()
		if made := w.table.made(); made[good] != each || lost.lost != 0 {
			t.Errorf("%d requests for %d deliveries, %d results lost", made[good], each, lost.lost)
		}
	})
}

func TestWhatOthersDidMeanwhileStands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lost := &lostCounter{}
		w := newWorld(t, func(c *Config) { c.Observer = lost })
		ep := w.endpoint(1)
		w.run()
		var ids []waypost.DeliveryID
		w.table.setDown(errDown)
		for range 3 {
			ids = append(ids, w.accept(ep))
		}
		wait(100 * time.Millisecond)
		w.table.mu.Lock()
		delete(w.table.rows, ids[0]) // delivered by another node
		w.table.done[ids[0]] = ""
		w.table.mu.Unlock()
		away(t, w, 10*time.Second)
		wait(time.Second)
		w.shut()
		if diff := cmp.Diff(map[waypost.Reason]int{"": 3}, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		if len(w.table.history(ids[0])) != 0 || len(w.table.history(ids[1])) != 1 || lost.lost != 1 {
			t.Errorf("%d lost, history of the first: %v", lost.lost, w.table.history(ids[0]))
		}
		if n := len(w.requests()); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestCarriedOverTwoLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ep := w.endpoint(1)
		w.run()
		w.table.setDown(errDown)
		id := w.accept(ep)
		wait(100 * time.Millisecond)
		for range 2 {
			if err := w.lose(); !errors.Is(err, store.ErrLeaseLost) {
				t.Fatal(err)
			}
			w.table.join()
			w.run()
			wait(5 * time.Second)
		}
		w.table.setDown(nil)
		wait(10 * time.Second)
		if len(w.table.history(id)) != 1 || len(w.requests()) != 1 {
			t.Errorf("%d attempts on record, %d made", len(w.table.history(id)), len(w.requests()))
		}
		w.shut()
	})
}

// Requests in flight get a moment when the lease is lost; then they are cut, and
// that is on record too.
func TestInFlightWhenTheLeaseIsLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		takes, ends time.Duration
		want        waypost.Outcome
	}{
		"quick": {300 * time.Millisecond, 300 * time.Millisecond, waypost.OutcomeDelivered},
		"slow":  {2 * time.Second, 500 * time.Millisecond, waypost.OutcomeRetry},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.setAnswer(after(c.takes, 200))
				ep := w.endpoint(1)
				w.run()
				var ids []waypost.DeliveryID
				for range 9 {
					ids = append(ids, w.accept(ep))
				}
				wait(0)
				began := time.Now()
				if err := w.lose(); !errors.Is(err, store.ErrLeaseLost) {
					t.Fatal(err)
				}
				if took := time.Since(began); took != c.ends {
					t.Errorf("ended after %s, want %s", took, c.ends)
				}
				if n := len(w.requests()); n != 4 {
					t.Errorf("%d requests, want the 4 that were in flight", n)
				}
				w.table.join()
				w.run()
				wait(100 * time.Millisecond)
				for _, id := range ids[:4] {
					if h := w.table.history(id); len(h) != 1 || h[0].Outcome != c.want {
						t.Errorf("history: %+v", h)
					}
				}
				wait(20 * time.Second)
				if diff := cmp.Diff(map[waypost.Reason]int{"": 9}, w.table.ends()); diff != "" {
					t.Error(diff)
				}
				w.shut()
			})
		})
	}
}

// A lease that is lost during a shutdown ends it.
func TestLeaseLostWhileDraining(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.setAnswer(after(4*time.Second, 200))
		ep := w.endpoint(1)
		w.run()
		w.accept(ep)
		wait(0)
		w.stop()
		wait(time.Second)
		if place := w.engine.Reserve(ep); place != store.Elsewhere {
			t.Errorf("what comes in while draining goes to %v, others must hear of it", place)
		}
		began := time.Now()
		if err := w.lose(); !errors.Is(err, store.ErrLeaseLost) {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(began); took != 500*time.Millisecond {
			t.Errorf("took %s", took)
		}
	})
}

// A store that takes long, but does write, holds nothing up for good.
func TestSlowStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Limits.MaxUnrecordedFor = time.Nanosecond })
		ep := w.endpoint(1)
		w.run()
		for range 500 {
			w.accept(ep)
			wait(7 * time.Millisecond)
		}
		wait(time.Second)
		if diff := cmp.Diff(map[waypost.Reason]int{"": 500}, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		w.shut()
	})
}
