package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// In these tests time is that of a bubble: it stands still while anything runs.

var ladder = []time.Duration{0, 5 * time.Minute, 20 * time.Minute, time.Hour, 4 * time.Hour, 24 * time.Hour}

func TestDelivers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ep := w.endpoint(1)
		w.run()
		id := w.accept(ep)
		wait(100 * time.Millisecond)
		if diff := cmp.Diff(map[waypost.Reason]int{"": 1}, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		if h := w.table.history(id); len(h) != 1 || h[0].Outcome != waypost.OutcomeDelivered || h[0].Status != 200 {
			t.Errorf("history: %+v", h)
		}
		if g := w.engine.Gauges(); g != (Gauges{}) {
			t.Errorf("something is left in memory: %+v", g)
		}
		if err := w.end(); err != nil {
			t.Error(err)
		}
	})
}

func TestLadder(t *testing.T) {
	t.Parallel()
	weekly := waypost.Doubling(5*time.Second, time.Hour, 7*24*time.Hour)
	for name, c := range map[string]struct {
		schedule []time.Duration
		takes    time.Duration
	}{
		"no retry":                    {nil, time.Second},
		"at once, then hours":         {ladder, 2 * time.Second},
		"a week":                      {weekly, 20 * time.Millisecond},
		"counted from the end":        {[]time.Duration{3 * time.Second, 6 * time.Second}, 4 * time.Second},
		"short waits stay in memory":  {slices.Repeat([]time.Duration{700 * time.Millisecond}, 5), time.Millisecond},
		"the time limit has its turn": {[]time.Duration{time.Minute}, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(c *Config) { c.Limits.Backstop = time.Hour }) // it is not what keeps the time
				w.dialect.policy.Schedule = c.schedule
				w.setAnswer(after(c.takes, 500))
				ep := w.endpoint(1)
				w.run()
				id := w.accept(ep)
				var window time.Duration
				for _, wait := range c.schedule {
					window += wait + 5*time.Second
				}
				wait(window + 10*time.Second)

				sent, takes := w.requests(), min(c.takes, 5*time.Second)
				if len(sent) != len(c.schedule)+1 {
					t.Fatalf("%d requests for %d waits", len(sent), len(c.schedule))
				}
				for i, want := range c.schedule {
					// A retry in hand starts once the attempt before it is on record.
					got := sent[i+1].Sub(sent[i].Add(takes))
					if got < want || got > want+51*time.Millisecond {
						t.Errorf("wait %d took %s, want %s", i+1, got, want)
					}
				}
				if diff := cmp.Diff(map[waypost.Reason]int{w.table.history(id)[0].Reason: 1}, w.table.ends()); diff != "" {
					t.Error(diff)
				}
				if n := len(w.table.history(id)); n != len(sent) {
					t.Errorf("%d attempts on record, %d made", n, len(sent))
				}
				w.shut()
			})
		})
	}
}

func TestLadderGoesOnAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.dialect.policy.Schedule = []time.Duration{time.Minute, 10 * time.Minute}
		w.setAnswer(status(500))
		ep := w.endpoint(1)
		w.run()
		w.accept(ep)
		wait(90 * time.Second)
		w.shut()
		w.table.join()
		w.run()
		wait(15 * time.Minute)
		sent := w.requests()
		if len(sent) != 3 || sent[2].Sub(sent[1]) != 10*time.Minute {
			t.Errorf("requests: %v", sent)
		}
		w.shut()
	})
}

func TestRetryAfterIsHeeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.dialect.policy.Schedule = []time.Duration{time.Second}
		w.setAnswer(func(context.Context, egress.Request) egress.Answer {
			return egress.Answer{Status: 429, Header: "Retry-After: 90\r\n"}
		})
		ep := w.endpoint(1)
		w.run()
		w.accept(ep)
		wait(5 * time.Minute)
		if sent := w.requests(); len(sent) != 2 || sent[1].Sub(sent[0]) != 90*time.Second {
			t.Errorf("requests: %v", sent)
		}
		w.shut()
	})
}

func TestManyRetriesAreEachOnTime(t *testing.T) {
	t.Parallel()
	// More than a lane remembers: the rest is found in the table.
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Breaker.Failures = 1e9 })
		w.dialect.policy.Schedule = []time.Duration{10 * time.Minute}
		first := map[string]time.Time{}
		waits := map[string]time.Duration{}
		w.dialect.encode = func(item dialect.Item) (dialect.Hook, error) {
			return dialect.Hook{Body: []byte(item.Event.ID.String())}, nil
		}
		w.setAnswer(func(_ context.Context, r egress.Request) egress.Answer {
			w.mu.Lock()
			defer w.mu.Unlock()
			if at, again := first[string(r.Body)]; again {
				waits[string(r.Body)] = time.Since(at)
			} else {
				first[string(r.Body)] = time.Now()
			}
			return egress.Answer{Status: 500}
		})
		ep := w.endpoint(1)
		w.run()
		const n = 300
		for range n {
			w.accept(ep)
			wait(time.Second)
		}
		wait(10 * time.Minute)
		if len(waits) != n {
			t.Errorf("%d of %d retried", len(waits), n)
		}
		for id, waited := range waits {
			if waited < 10*time.Minute || waited > 10*time.Minute+2*time.Second {
				t.Errorf("%s waited %s", id, waited)
			}
		}
		w.shut()
	})
}

func TestPauseHoldsAndResumeRamps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.setAnswer(after(200*time.Millisecond, 200))
		ep := w.endpoint(1)
		w.run()
		for range 40 {
			w.accept(ep)
		}
		wait(300 * time.Millisecond) // 4 received, 4 in flight
		w.change(ep, func(e *waypost.Endpoint) { e.State = waypost.EndpointPaused })
		wait(time.Hour)
		if n := len(w.requests()); n != 8 {
			t.Errorf("%d requests before the pause, want 8", n)
		}
		if owed, inHand := w.table.owed(), w.table.inHand(); owed != 32 || inHand != 0 {
			t.Errorf("%d owed, %d in hand; want 32 and 0", owed, inHand)
		}
		if g := w.engine.Gauges(); g.InMemory != 0 || g.Lanes != 0 {
			t.Errorf("a paused endpoint costs memory: %+v", g)
		}
		if w.engine.Reserve(ep) == store.InHand {
			t.Error("a delivery to a paused endpoint was taken into memory")
		}

		resumed := time.Now()
		w.change(ep, func(e *waypost.Endpoint) { e.State = waypost.EndpointActive })
		wait(20 * time.Second)
		if owed := w.table.owed(); owed != 0 {
			t.Errorf("%d still owed", owed)
		}
		inFlight := map[time.Duration]int{}
		for _, at := range w.requests()[8:] {
			inFlight[at.Sub(resumed)]++
		}
		// One at a time at first, and then at the pace, whatever the window is.
		if inFlight[0] != 1 || inFlight[100*time.Millisecond] != 0 || inFlight[200*time.Millisecond] != 1 || inFlight[300*time.Millisecond] != 1 {
			t.Errorf("the backlog did not ramp up: %v", inFlight)
		}
		w.shut()
	})
}

func TestDeletedEndpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Limits.LaneMemory = 20 })
		w.setAnswer(after(200*time.Millisecond, 500))
		w.dialect.policy.Schedule = []time.Duration{time.Minute}
		ep := w.endpoint(1)
		w.run()
		for range 3000 {
			w.accept(ep)
		}
		wait(100 * time.Millisecond)
		w.change(ep, func(e *waypost.Endpoint) { e.DeletedAt = time.Now() })
		wait(10 * time.Second)
		if diff := cmp.Diff(map[waypost.Reason]int{waypost.ReasonEndpointDeleted: 3000}, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		if n := len(w.requests()); n != 4 {
			t.Errorf("%d requests, want the 4 that were in flight", n)
		}
		for _, attempts := range w.table.attempts {
			if a := attempts[0]; a.Outcome != waypost.OutcomeExhausted || a.Reason != waypost.ReasonStatus {
				t.Errorf("in flight when it was deleted: %s, %s", a.Outcome, a.Reason)
			}
		}
		if g := w.engine.Gauges(); g != (Gauges{}) {
			t.Errorf("left in memory: %+v", g)
		}
		w.shut()
	})
}

func TestUnknownEndpointIsNotGivenUpAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run()
		w.table.insert(7, 0) // made by another node, whose settings we have not read yet
		w.table.insert(8, 0)
		wait(time.Minute)
		w.endpoint(7)
		wait(20 * time.Minute)
		want := map[waypost.Reason]int{"": 1, waypost.ReasonEndpointDeleted: 1}
		if diff := cmp.Diff(want, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		w.shut()
	})
}

func TestChangedURLIsUsedForWhatIsQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		urls := map[string]int{}
		w.setAnswer(func(ctx context.Context, r egress.Request) egress.Answer {
			w.mu.Lock()
			urls[r.URL]++
			w.mu.Unlock()
			return after(100*time.Millisecond, 200)(ctx, r)
		})
		ep := w.endpoint(1)
		w.change(ep, func(e *waypost.Endpoint) { e.URL = "https://old.test" })
		w.run()
		for range 12 {
			w.accept(ep)
		}
		wait(150 * time.Millisecond)
		w.change(ep, func(e *waypost.Endpoint) { e.URL = "https://new.test" })
		wait(time.Second)
		if diff := cmp.Diff(map[string]int{"https://old.test": 8, "https://new.test": 4}, urls); diff != "" {
			t.Error(diff)
		}
		w.shut()
	})
}

func TestWithoutURLHeldAndThenExpired(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.dialect.policy.Schedule = []time.Duration{time.Hour}
		ep, back := w.endpoint(1), w.endpoint(2)
		clear := func(e *waypost.Endpoint) { e.URL = "" }
		w.change(ep, clear)
		w.change(back, clear)
		w.run()
		for range 1500 {
			w.table.insert(ep, 0)
		}
		w.table.insert(back, 0)
		wait(59 * time.Minute)
		if len(w.table.ends()) != 0 {
			t.Errorf("given up too early: %v", w.table.ends())
		}
		w.change(back, func(e *waypost.Endpoint) { e.URL = "https://example.test" })
		wait(3 * time.Minute)
		want := map[waypost.Reason]int{waypost.ReasonExpired: 1500, "": 1}
		if diff := cmp.Diff(want, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		w.shut()
	})
}

func TestGoneDisablesAndHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Limits.InFlight = 1 })
		w.dialect.policy.GoneDisables = true
		w.setAnswer(status(410))
		ep := w.endpoint(1)
		w.setFail(errDown) // for a while the state can't be written
		w.run()
		for range 5 {
			w.accept(ep)
		}
		wait(30 * time.Second)
		w.setFail(nil)
		wait(time.Hour)
		if n := len(w.requests()); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		if e := w.Endpoint(ep); e.State != waypost.EndpointDisabled || e.StateReason == "" {
			t.Errorf("state %s (%s)", e.State, e.StateReason)
		}
		if w.table.owed() != 5 || w.table.inHand() != 0 {
			t.Errorf("%d owed, %d in hand", w.table.owed(), w.table.inHand())
		}
		w.setAnswer(status(200))
		w.change(ep, func(e *waypost.Endpoint) { e.State = waypost.EndpointActive })
		wait(time.Second)
		if diff := cmp.Diff(map[waypost.Reason]int{"": 5}, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		w.shut()
	})
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.dialect.policy.Schedule = waypost.Doubling(5*time.Second, time.Hour, 24*time.Hour)
		w.setAnswer(status(503))
		ep := w.endpoint(1)
		w.run()
		started := time.Now()
		for range 30 {
			w.accept(ep)
		}
		until(t, 5*time.Minute, "tripped", func() bool { return w.Endpoint(ep).State == waypost.EndpointTripped })
		tripped := time.Now()
		if quiet := tripped.Sub(started); quiet < time.Minute {
			t.Errorf("tripped after %s", quiet)
		}
		before := len(w.requests())
		wait(15 * time.Minute)
		var probes []time.Duration
		last := tripped
		for _, at := range w.requests()[before:] {
			probes = append(probes, at.Sub(last).Round(time.Second))
			last = at
		}
		want := []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute}
		if diff := cmp.Diff(want, probes); diff != "" {
			t.Errorf("probes (-want +got):\n%s", diff)
		}
		if w.table.owed() != 30 {
			t.Errorf("the breaker dropped something: %v", w.table.ends())
		}
		before = len(w.requests())
		w.setAnswer(after(200*time.Millisecond, 200))
		wait(6 * time.Minute)
		probe := w.requests()[before]
		var starts []time.Duration
		for _, at := range w.requests()[before+1:][:4] {
			starts = append(starts, at.Sub(probe))
		}
		ms := time.Millisecond
		if diff := cmp.Diff([]time.Duration{200 * ms, 400 * ms, 500 * ms, 600 * ms}, starts); diff != "" {
			t.Errorf("the backlog did not ramp up (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[waypost.Reason]int{"": 30}, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]waypost.EndpointState{waypost.EndpointTripped, waypost.EndpointActive}, w.states); diff != "" {
			t.Error(diff)
		}
		w.shut()
	})
}

func TestBreakerLeavesFewDeliveriesAlone(t *testing.T) {
	t.Parallel()
	// However often one delivery fails, its ladder runs as it is.
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.dialect.policy.Schedule = slices.Repeat([]time.Duration{10 * time.Second}, 60)
		w.setAnswer(status(503))
		ep := w.endpoint(1)
		w.run()
		for range 9 {
			w.accept(ep)
		}
		wait(time.Hour)
		if len(w.states) != 0 || len(w.requests()) != 9*61 {
			t.Errorf("states %v after %d requests", w.states, len(w.requests()))
		}
		w.shut()
	})
}

func TestTrippedEndpointIsProbedAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ep := w.endpoint(1)
		w.change(ep, func(e *waypost.Endpoint) { e.State = waypost.EndpointTripped })
		for range 10 {
			w.table.insert(ep, 0)
		}
		w.run()
		wait(29 * time.Second)
		if n := len(w.requests()); n != 0 {
			t.Errorf("%d requests at once", n)
		}
		wait(2 * time.Second)
		if w.table.owed() != 0 || w.Endpoint(ep).State != waypost.EndpointActive {
			t.Errorf("%d owed, %s", w.table.owed(), w.Endpoint(ep).State)
		}
		w.shut()
	})
}

func TestHungEndpointsDoNotDelayHealthyOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) {
			c.Limits.FastSlots, c.Limits.SlowSlots = 8, 16
			c.Breaker.Failures = 1e9
		})
		const hung = 200
		healthy := w.endpoint(1000)
		w.change(healthy, func(e *waypost.Endpoint) { e.URL = "https://healthy.test" })
		var worst time.Duration
		var sentAt time.Time
		w.setAnswer(func(ctx context.Context, r egress.Request) egress.Answer {
			if r.URL == "https://healthy.test" {
				worst = max(worst, time.Since(sentAt))
				return egress.Answer{Status: 200}
			}
			return after(time.Hour, 200)(ctx, r)
		})
		w.run()
		for id := range waypost.EndpointID(hung) {
			w.endpoint(id + 1)
			for range 20 {
				w.accept(id + 1)
			}
		}
		// At first the fast slots are all taken, and free up as they age.
		wait(15 * time.Second)
		for range 50 {
			sentAt = time.Now()
			w.accept(healthy)
			wait(700 * time.Millisecond)
		}
		if worst != 0 {
			t.Errorf("a healthy endpoint waited %s", worst)
		}
		if w.table.owed() == 0 {
			t.Error("the others did not hang")
		}
		if g := w.engine.Gauges(); g.InMemory > hung*slowDepth*4 {
			t.Errorf("hung endpoints keep %d in memory", g.InMemory)
		}
		w.shut()
	})
}

func TestFastSlotsAreFreeAgainAfterHalfASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Limits.FastSlots = 4 })
		var served time.Time
		w.setAnswer(func(ctx context.Context, r egress.Request) egress.Answer {
			if r.URL == "https://healthy.test" {
				served = time.Now()
				return egress.Answer{Status: 200}
			}
			return after(time.Hour, 200)(ctx, r)
		})
		w.endpoint(1)
		w.change(2, func(e *waypost.Endpoint) { e.URL = "https://healthy.test" })
		w.run()
		for range 4 {
			w.accept(1)
		}
		started := time.Now()
		w.accept(2)
		wait(time.Second)
		if waited := served.Sub(started); waited != 500*time.Millisecond {
			t.Errorf("waited %s", waited)
		}
		w.shut()
	})
}

func TestSlowEndpointBecomesFastAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ep := w.endpoint(1)
		w.setAnswer(after(time.Second, 200))
		w.run()
		w.accept(ep)
		wait(2 * time.Second)
		w.setAnswer(after(100*time.Millisecond, 200))
		slowly := func() int {
			w.accept(ep)
			wait(50 * time.Millisecond)
			n := w.engine.Gauges().SlowInFlight
			wait(time.Second)
			return n
		}
		var got []int
		for range 6 {
			got = append(got, slowly())
		}
		if diff := cmp.Diff([]int{1, 1, 1, 1, 0, 0}, got); diff != "" {
			t.Error(diff)
		}
		w.shut()
	})
}

func TestLeaseLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*world) error{
		"told by the store": func(w *world) error { w.table.join(); return <-w.ended },
		"told by the owner of the lease": func(w *world) error {
			defer w.table.join()
			return w.lose()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.setAnswer(after(300*time.Millisecond, 200))
				ep := w.endpoint(1)
				w.run()
				for range 20 {
					w.accept(ep)
				}
				reserved := w.engine.Reserve(ep) == store.InHand
				event := w.table.insert(ep, w.table.node)
				wait(400 * time.Millisecond)
				if err := lose(w); !errors.Is(err, store.ErrLeaseLost) {
					t.Fatalf("Run returned %v", err)
				}
				if w.engine.Reserve(ep) == store.InHand || w.engine.Ready() == nil {
					t.Error("the engine works without a lease")
				}
				w.run()
				if !reserved {
					t.Fatal("not reserved")
				}
				// Committed under the old lease, and told to start only now.
				w.engine.Start([]store.Owed{{Event: event, Endpoint: ep}})
				wait(10 * time.Second)
				if w.table.owed() != 0 {
					t.Errorf("%d stranded, %d in hand", w.table.owed(), w.table.inHand())
				}
				if g := w.engine.Gauges(); g != (Gauges{}) {
					t.Errorf("left in memory: %+v", g)
				}
				w.shut()
			})
		})
	}
}

func TestStoreDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Limits.MaxUnrecorded = 10 })
		ep := w.endpoint(1)
		w.run()
		for range 100 {
			w.accept(ep)
		}
		w.table.setDown(errDown)
		wait(30 * time.Second)
		if n := len(w.requests()); n > 14 {
			t.Errorf("%d requests whose results can't be written", n)
		}
		if w.engine.Ready() == nil {
			t.Error("ready while results can't be written")
		}
		w.table.setDown(nil)
		wait(5 * time.Second)
		if diff := cmp.Diff(map[waypost.Reason]int{"": 100}, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		if n := len(w.requests()); n != 100 {
			t.Errorf("%d requests for 100 deliveries", n)
		}
		if err := w.engine.Ready(); err != nil {
			t.Error(err)
		}
		w.shut()
	})
}

func TestResultTheStoreRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.setAnswer(func(context.Context, egress.Request) egress.Answer {
			return egress.Answer{Status: 200, Address: "192.0.2.1:443"}
		})
		ep := w.endpoint(1)
		w.run()
		var ids []waypost.DeliveryID
		for range 50 {
			ids = append(ids, w.accept(ep))
		}
		w.table.mu.Lock()
		w.table.poison = ids[17]
		w.table.mu.Unlock()
		wait(time.Minute)
		if diff := cmp.Diff(map[waypost.Reason]int{"": 50}, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		w.shut()
	})
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Limits.InFlight = 2 })
		w.dialect.policy.Schedule = []time.Duration{900 * time.Millisecond, time.Hour}
		w.dialect.policy.Timeout = time.Minute
		quick, failing, hung, paused := w.endpoint(1), w.endpoint(2), w.endpoint(3), w.endpoint(4)
		for id, url := range map[waypost.EndpointID]string{quick: "quick", failing: "failing", hung: "hung", paused: "quick"} {
			w.change(id, func(e *waypost.Endpoint) { e.URL = url })
		}
		w.setAnswer(func(ctx context.Context, r egress.Request) egress.Answer {
			switch r.URL {
			case "failing":
				return egress.Answer{Status: 500}
			case "hung":
				return after(time.Hour, 200)(ctx, r)
			}
			return after(300*time.Millisecond, 200)(ctx, r)
		})
		w.change(paused, func(e *waypost.Endpoint) { e.State = waypost.EndpointPaused })
		w.run()
		wait(0)
		for _, ep := range []waypost.EndpointID{quick, failing, hung, paused} {
			for range 5 {
				w.accept(ep)
			}
		}
		w.engine.Reserve(quick) // and never started
		wait(10 * time.Millisecond)
		began := time.Now()
		if err := w.end(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 10*time.Second || took < 8*time.Second {
			t.Errorf("took %s; what hangs is cut short at 8 s, and all is over at 10 s", took)
		}
		if diff := cmp.Diff(map[waypost.Reason]int{"": 2}, w.table.ends()); diff != "" {
			t.Errorf("what was in flight: %s", diff)
		}
		if w.table.owed() != 18 || w.table.inHand() != 0 {
			t.Errorf("%d owed, %d of them in hand", w.table.owed(), w.table.inHand())
		}
		if err := w.engine.Ready(); err == nil {
			t.Error("ready after the end")
		}
		for _, r := range w.table.rows {
			if r.step > 1 || r.due.After(began.Add(time.Second)) && r.due.After(began.Add(9*time.Second)) {
				t.Errorf("a row was put off: %+v", r)
			}
		}
	})
}

func TestShutdownWithStoreDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ep := w.endpoint(1)
		w.run()
		for range 5 {
			w.accept(ep)
		}
		w.table.setDown(errDown)
		began := time.Now()
		if err := w.end(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestPaging(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Limits.LaneMemory = 512 })
		big, small := w.endpoint(1), w.endpoint(2)
		w.setAnswer(after(10*time.Millisecond, 200))
		most := 0
		w.table.onTake = func(int) { most = max(most, w.engine.Gauges().InMemory) }
		for range 4000 {
			w.table.insert(big, 0)
		}
		w.run()
		wait(time.Second)
		started := time.Now()
		id := w.accept(small)
		wait(20 * time.Millisecond)
		if sent := w.requests(); !slices.ContainsFunc(sent, started.Equal) {
			t.Error("a long backlog of one endpoint delays another")
		}
		inTable := 0
		for range 100 {
			if w.engine.Reserve(big) != store.InHand {
				inTable++
				w.table.insert(big, 0)
				w.engine.Wake(big)
			} else {
				w.engine.Unreserve(big)
			}
		}
		wait(time.Minute)
		if n := w.table.ends()[""]; n != 4001+inTable || w.table.owed() != 0 {
			t.Errorf("%d delivered, %d owed", n, w.table.owed())
		}
		if n := len(w.requests()); n != 4001+inTable {
			t.Errorf("%d requests", n)
		}
		if most > 513 {
			t.Errorf("%d in memory", most)
		}
		if len(w.table.history(id)) != 1 {
			t.Error("the small one was not delivered")
		}
		w.shut()
	})
}

func TestMemoryBudget(t *testing.T) {
	t.Parallel()
	// Hung endpoints fill the memory; a healthy one still gets its share.
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Limits.Memory = 20; c.Breaker.Failures = 1e9 })
		w.setAnswer(func(ctx context.Context, r egress.Request) egress.Answer {
			if r.URL == "https://healthy.test" {
				return egress.Answer{Status: 200}
			}
			return after(time.Hour, 200)(ctx, r)
		})
		w.run()
		for id := range waypost.EndpointID(10) {
			w.endpoint(id + 1)
			for range 20 {
				w.accept(id + 1)
			}
		}
		most := 0
		w.table.onTake = func(limit int) { most = max(most, w.engine.Gauges().InMemory+limit) }
		w.change(100, func(e *waypost.Endpoint) { e.URL = "https://healthy.test" })
		if g := w.engine.Gauges(); g.InMemory > 20+10*4 {
			t.Errorf("%d in memory", g.InMemory)
		}
		for range 100 {
			w.accept(100)
		}
		wait(2 * time.Second)
		if n := w.table.ends()[""]; n != 100 {
			t.Errorf("%d of 100 delivered", n)
		}
		if most > 20+11*4 {
			t.Errorf("%d in memory", most)
		}
		w.shut()
	})
}

func TestFloorOfTheMemoryBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Limits.Memory = 20 })
		w.setAnswer(after(time.Hour, 200))
		w.run()
		for id := range waypost.EndpointID(6) {
			w.endpoint(id + 1)
			for range 20 {
				w.accept(id + 1)
			}
		}
		w.endpoint(100)
		wait(0)
		for i := range 6 {
			if got := w.engine.Reserve(100) == store.InHand; got != (i < 4) {
				t.Errorf("reservation %d: %t", i+1, got)
			}
		}
		w.shut()
	})
}

func TestBacklogComesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.setAnswer(after(10*time.Millisecond, 200))
		ep := w.endpoint(1)
		for range 2500 {
			w.table.insert(ep, 0)
		}
		w.run()
		if g := w.engine.Gauges(); g.InMemory >= 1024 || w.engine.Reserve(ep) == store.InHand {
			t.Error("a new delivery overtakes those that are due in the table")
		}
		wait(20 * time.Second)
		if w.engine.Reserve(ep) != store.InHand {
			t.Error("no first attempts from memory after a backlog")
		}
		w.shut()
	})
}

func TestTakeFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Limits.Backstop = time.Hour })
		ep := w.endpoint(1)
		w.run()
		w.table.setDown(errDown)
		w.table.insert(ep, 0)
		w.engine.Wake(ep)
		wait(3 * time.Second)
		w.table.setDown(nil)
		wait(4 * time.Second)
		if w.table.owed() != 0 {
			t.Error("not tried again")
		}
		w.shut()
	})
}

func TestStartWithoutReservation(t *testing.T) {
	t.Parallel()
	// The reservation went to one from before a lost lease. The row is in our
	// hand, and must not stay there unattended.
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ep := w.endpoint(1)
		w.run()
		event := w.table.insert(ep, w.table.node)
		w.engine.Start([]store.Owed{{Event: event, Endpoint: ep}})
		wait(time.Second)
		if w.table.owed() != 0 {
			t.Error("stranded")
		}
		w.shut()
	})
}

func TestPausedAtAnyMoment(t *testing.T) {
	t.Parallel()
	for moment := range 40 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.Limits.Backstop = time.Hour })
			ep := w.endpoint(1)
			w.run()
			w.pauseAtRead(moment)
			for range 3 {
				w.accept(ep)
			}
			wait(time.Second)
			w.change(ep, func(e *waypost.Endpoint) { e.State = waypost.EndpointActive })
			wait(time.Second)
			if w.table.owed() != 0 {
				t.Errorf("paused at read %d: %d owed", moment, w.table.owed())
			}
			w.shut()
		})
	}
}

func TestEncodeFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		encode func(dialect.Item) (dialect.Hook, error)
		want   waypost.Reason
	}{
		"panic":      {func(dialect.Item) (dialect.Hook, error) { panic("+1 555 0100") }, waypost.ReasonEncode},
		"error":      {func(dialect.Item) (dialect.Hook, error) { return dialect.Hook{}, errors.New("no form") }, waypost.ReasonEncode},
		"not wanted": {func(dialect.Item) (dialect.Hook, error) { return dialect.Hook{}, dialect.ErrNotWanted }, waypost.ReasonNotWanted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				w := newWorld(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
				w.dialect.policy.Schedule = ladder
				w.dialect.encode = c.encode
				ep := w.endpoint(1)
				w.run()
				w.accept(ep)
				wait(time.Second)
				if diff := cmp.Diff(map[waypost.Reason]int{c.want: 1}, w.table.ends()); diff != "" {
					t.Error(diff)
				}
				if len(w.requests()) != 0 {
					t.Error("a request was made")
				}
				w.shut()
				if strings.Contains(log.String(), "555 0100") {
					t.Errorf("the log quotes the event:\n%s", log.String())
				}
			})
		})
	}
}

func TestSenderPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.setAnswer(func(context.Context, egress.Request) egress.Answer { panic("oops") })
		ep := w.endpoint(1)
		w.run()
		w.accept(ep)
		wait(time.Minute)
		w.setAnswer(status(200))
		wait(time.Minute)
		if diff := cmp.Diff(map[waypost.Reason]int{"": 1}, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		w.shut()
	})
}

func TestUnknownDialectIsHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ep := w.endpoint(1)
		w.change(ep, func(e *waypost.Endpoint) { e.Dialect = "of a newer release" })
		w.run()
		w.accept(ep)
		wait(time.Hour)
		if w.table.owed() != 1 || len(w.requests()) != 0 {
			t.Errorf("%d owed, %d requests", w.table.owed(), len(w.requests()))
		}
		w.shut()
	})
}

func TestDependents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		main, clone := w.endpoint(1), w.endpoint(2)
		var urls []string
		for id, url := range map[waypost.EndpointID]string{main: "main", clone: "clone"} {
			w.change(id, func(e *waypost.Endpoint) { e.URL = url })
		}
		code := 200
		w.setAnswer(func(_ context.Context, r egress.Request) egress.Answer {
			urls = append(urls, r.URL)
			return egress.Answer{Status: code}
		})
		w.run()
		pair := func() {
			event := w.table.insert(main, w.table.node)
			w.table.insertAfter(event, clone, main)
			if w.engine.Reserve(main) != store.InHand {
				t.Fatal("not reserved")
			}
			w.engine.Start([]store.Owed{{Event: event, Endpoint: main}})
			wait(200 * time.Millisecond)
		}
		pair()
		if diff := cmp.Diff([]string{"main", "clone"}, urls); diff != "" {
			t.Error(diff)
		}
		code = 500
		pair()
		want := map[waypost.Reason]int{"": 2, waypost.ReasonStatus: 1, waypost.ReasonMainFailed: 1}
		if diff := cmp.Diff(want, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		w.shut()
	})
}

func TestLostResultEndsARetryInHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		counted := &lostCounter{}
		w := newWorld(t, func(c *Config) { c.Observer = counted })
		w.dialect.policy.Schedule = []time.Duration{0, 0}
		w.setAnswer(status(500))
		ep := w.endpoint(1)
		w.run()
		id := w.accept(ep)
		w.table.mu.Lock()
		w.table.rows[id].node = 99 // another node has taken it over
		w.table.mu.Unlock()
		wait(time.Minute)
		if n := len(w.requests()); n != 1 {
			t.Errorf("%d requests for a delivery in other hands", n)
		}
		if counted.lost != 1 {
			t.Errorf("%d lost", counted.lost)
		}
		if g := w.engine.Gauges(); g.InMemory != 0 {
			t.Errorf("left in memory: %+v", g)
		}
		w.shut()
	})
}

type lostCounter struct {
	nobody
	lost int
}

func (c *lostCounter) Lost(n int) { c.lost += n }

// TestResultsAreSoonWrittenWhenNoMoreCome: and while others are to be expected they
// wait for those.
func TestResultsAreSoonWrittenWhenNoMoreCome(t *testing.T) {
	t.Parallel()
	for hanging, limit := range map[bool]time.Duration{false: 5 * time.Millisecond, true: 50 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			ep, other := w.endpoint(1), w.endpoint(2)
			w.change(other, func(e *waypost.Endpoint) { e.URL = "https://example.test/hangs" })
			w.setAnswer(func(ctx context.Context, r egress.Request) egress.Answer {
				if strings.HasSuffix(r.URL, "hangs") {
					<-ctx.Done()
				}
				return egress.Answer{Status: 200}
			})
			w.run()
			if hanging {
				w.accept(other)
			}
			id := w.accept(ep)
			for _, after := range []struct {
				wait     time.Duration
				attempts int
			}{{limit - time.Millisecond, 0}, {2 * time.Millisecond, 1}} {
				wait(after.wait)
				if got := len(w.table.history(id)); got != after.attempts {
					t.Errorf("others in flight %t, limit %s: %d attempts on record, want %d", hanging, limit, got, after.attempts)
				}
			}
			w.shut()
		})
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		got := map[string][]string{}
		w.setAnswer(func(_ context.Context, r egress.Request) egress.Answer {
			for _, f := range r.Header {
				got[f.Name] = append(got[f.Name], f.Value)
			}
			return egress.Answer{Status: 200}
		})
		w.dialect.encode = func(dialect.Item) (dialect.Hook, error) {
			return dialect.Hook{Header: map[string][]string{"x-Signature": {"hook"}}}, nil
		}
		ep := w.endpoint(1)
		w.change(ep, func(e *waypost.Endpoint) {
			e.Headers = map[string]waypost.Secret{"authorization": "Bearer x", "X-SIGNATURE": "endpoint", "User-Agent": "theirs"}
		})
		w.run()
		w.accept(ep)
		wait(time.Second)
		want := map[string][]string{
			"Authorization": {"Bearer x"}, "x-Signature": {"hook"}, "User-Agent": {"theirs"}, "Content-Type": {"application/json"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		w.shut()
	})
}

func TestLogHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w := newWorld(t, func(c *Config) {
			c.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		w.dialect.policy.Schedule = []time.Duration{time.Minute}
		w.setAnswer(func(context.Context, egress.Request) egress.Answer {
			return egress.Answer{Status: 500, Body: []byte("answer-body"), Header: "Server: answer-header\r\n"}
		})
		ep := w.endpoint(1)
		w.change(ep, func(e *waypost.Endpoint) { e.Headers = map[string]waypost.Secret{"Authorization": "Bearer hidden"} })
		w.run()
		id := w.accept(ep)
		wait(time.Second)
		w.shut()
		if n := strings.Count(log.String(), `"msg":"delivery.attempted"`); n != 1 {
			t.Errorf("%d lines for one attempt:\n%s", n, log.String())
		}
		for _, part := range []string{"hello", "hidden", "topsecret", "answer-body", "answer-header"} {
			if strings.Contains(log.String(), part) {
				t.Errorf("the log holds %q:\n%s", part, log.String())
			}
		}
		for _, part := range []string{id.String(), `"attempt":1`, `"status":500`, `"outcome":"retry"`, `"reason":"status"`, `"next_at"`} {
			if !strings.Contains(log.String(), part) {
				t.Errorf("the log lacks %q:\n%s", part, log.String())
			}
		}
	})
}

func TestDetailIsFitToStore(t *testing.T) {
	t.Parallel()
	d := detail(&egress.Answer{
		Body:   append([]byte("a\x00b\xff"), bytes.Repeat([]byte("é"), 2000)...),
		Header: "Content-Type: text/\x00plain\r\n",
		Err:    errors.New(strings.Repeat("ö", 600)),
	}, waypost.OutcomeRetry)
	for _, s := range []string{d.Response, d.Error, d.Headers["content-type"]} {
		if s == "" || strings.ContainsRune(s, 0) || strings.ToValidUTF8(s, "") != s || len(s) > maxResponse+8 {
			t.Errorf("not fit: %q", s)
		}
	}
}

func TestRunTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.run()
		if err := w.engine.Run(t.Context(), 1, nil); err == nil {
			t.Error("two runs at a time")
		}
		w.shut()
		if w.engine.Ready() == nil || w.engine.Reserve(1) == store.InHand {
			t.Error("it works after its end")
		}
		w.engine.Wake(1)
		w.engine.EndpointChanged(1)
		w.engine.Start(nil)
	})
}

// TestNothingIsStranded lets everything happen at once, and then asks that
// every delivery came to an end.
func TestNothingIsStranded(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { havoc(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func havoc(t *testing.T, random *rand.Rand) {
	t.Helper()
	w := newWorld(t, func(c *Config) {
		c.Limits = Limits{FastSlots: 6, SlowSlots: 6, LaneMemory: 10, Memory: 40, FlushAt: 16, MaxUnrecorded: 32}
		c.Breaker = BreakerConfig{Failures: 5, Deliveries: 3, Quiet: time.Second}
	})
	w.dialect.policy.Schedule = []time.Duration{0, time.Second, time.Second, 2 * time.Second, time.Minute, time.Minute}
	w.setAnswer(func(ctx context.Context, r egress.Request) egress.Answer {
		w.mu.Lock()
		n := random.IntN(10)
		w.mu.Unlock()
		switch n {
		case 0, 1, 2:
			return after(20*time.Millisecond, 500)(ctx, r)
		case 3:
			return after(time.Hour, 200)(ctx, r)
		case 4:
			return egress.Answer{Err: errors.New("no files left"), Reason: waypost.ReasonInternal}
		}
		return after(time.Duration(n)*10*time.Millisecond, 200)(ctx, r)
	})
	pick := func(n int) int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return random.IntN(n)
	}
	const endpoints = 8
	for id := range waypost.EndpointID(endpoints) {
		w.endpoint(id + 1)
	}
	w.run()
	accepted := 0
	for range 600 {
		ep := waypost.EndpointID(pick(endpoints) + 1)
		switch pick(40) {
		case 0:
			w.change(ep, func(e *waypost.Endpoint) { e.State = waypost.EndpointPaused })
		case 1, 2:
			w.change(ep, func(e *waypost.Endpoint) { e.State = waypost.EndpointActive })
		case 3:
			w.table.setDown(errDown)
			wait(time.Duration(pick(2000)) * time.Millisecond)
			w.table.setDown(nil)
		case 4:
			w.table.join()
			wait(time.Duration(pick(200)) * time.Millisecond) // the store may tell before the owner of the lease does
			if err := w.lose(); !errors.Is(err, store.ErrLeaseLost) {
				t.Error(err)
			}
			w.run()
		case 5:
			w.shut()
			w.table.join()
			w.run()
		case 6:
			w.table.insert(ep, 0) // work that another node has put back
			accepted++
		default:
			for range pick(6) {
				w.accept(ep)
				accepted++
			}
		}
		wait(time.Duration(pick(50)) * time.Millisecond)
	}
	for id := range waypost.EndpointID(endpoints) {
		w.change(id+1, func(e *waypost.Endpoint) { e.State = waypost.EndpointActive })
	}
	w.setAnswer(status(200))
	until(t, 30*time.Minute, "nothing owed", func() bool { return w.table.owed() == 0 })
	ends := 0
	for _, n := range w.table.ends() {
		ends += n
	}
	if ends != accepted {
		t.Errorf("%d accepted, %d came to an end", accepted, ends)
	}
	wait(20 * time.Minute)
	if g := w.engine.Gauges(); g != (Gauges{}) {
		t.Errorf("left in memory: %+v", g)
	}
	if err := w.end(); err != nil {
		t.Error(err)
	}
}
