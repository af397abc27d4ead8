package delivery

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func pause(e *waypost.Endpoint)  { e.State = waypost.EndpointPaused }
func resume(e *waypost.Endpoint) { e.State = waypost.EndpointActive }

// starts counts the requests of each second since the first.
func starts(sent []time.Time) []int {
	var counts []int
	for _, at := range sent {
		second := int(at.Sub(sent[0]) / time.Second)
		for len(counts) <= second {
			counts = append(counts, 0)
		}
		counts[second]++
	}
	return counts
}

func TestResumeGoesAtAPace(t *testing.T) {
	t.Parallel()
	healthy := after(10*time.Millisecond, 200)
	for name, c := range map[string]struct {
		edit   func(*Config)
		answer func(sent int) func(context.Context, egress.Request) egress.Answer
		want   []int // requests in each second
	}{
		"doubling": {
			nil, func(int) func(context.Context, egress.Request) egress.Answer { return healthy },
			[]int{10, 10, 20, 20, 40, 40, 80, 80, 160, 160},
		},
		"with another pace": {
			func(c *Config) { c.Limits.RampRate, c.Limits.RampStep = 5, time.Second },
			func(int) func(context.Context, egress.Request) egress.Answer { return healthy },
			[]int{5, 10, 20, 40, 80, 160},
		},
		"a failure halves it": {
			// The 41st request is the first at 40 a second.
			nil, func(sent int) func(context.Context, egress.Request) egress.Answer {
				if sent == 80 {
					return after(10*time.Millisecond, 500)
				}
				return healthy
			},
			[]int{10, 10, 20, 20, 30, 20, 30, 40, 60},
		},
		"until it does not limit": {
			// Four at a time of 200 ms each are 20 a second.
			nil, func(int) func(context.Context, egress.Request) egress.Answer { return after(200*time.Millisecond, 200) },
			[]int{9, 10, 20, 20, 20, 20, 20},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c.edit)
				w.dialect.policy.Schedule = []time.Duration{time.Hour}
				sent := 0
				w.setAnswer(func(ctx context.Context, r egress.Request) egress.Answer {
					w.mu.Lock()
					sent++
					answer := c.answer(sent)
					w.mu.Unlock()
					return answer(ctx, r)
				})
				ep := w.endpoint(1)
				w.change(ep, pause)
				w.run()
				for range 2000 {
					w.table.insert(ep, 0)
				}
				wait(time.Minute)
				w.change(ep, resume)
				wait(time.Duration(len(c.want)) * time.Second)
				got := starts(w.requests())[:len(c.want)]
				for i := range got {
					if got[i] < c.want[i]*9/10-1 || got[i] > c.want[i]*11/10+1 {
						t.Errorf("requests in each second: %v, want about %v", got, c.want)
						break
					}
				}
				wait(10 * time.Minute)
				if owed := w.table.owed(); owed > 1 {
					t.Errorf("%d still owed", owed)
				}
				w.shut()
			})
		})
	}
}

func TestFreshEventsKeepThePaceOfTheBacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ep := w.endpoint(1)
		w.change(ep, pause)
		w.run()
		for range 25 {
			w.accept(ep)
		}
		w.change(ep, resume)
		wait(0)
		for range 20 {
			w.accept(ep)
		}
		wait(1950 * time.Millisecond)
		if n := len(w.requests()); n != 20 {
			t.Errorf("%d requests in two seconds, want 20", n)
		}
		wait(2 * time.Second)
		if w.table.owed() != 0 {
			t.Errorf("%d owed", w.table.owed())
		}
		before := len(w.requests())
		for range 50 {
			w.accept(ep)
		}
		wait(0)
		if n := len(w.requests()) - before; n != 50 {
			t.Errorf("the pace outlives the backlog: %d of 50 sent at once", n)
		}
		w.shut()
	})
}

// An endpoint that was never held has no pace, whatever is changed about it.
func TestChangesHaveNoPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ep := w.endpoint(1)
		for range 300 {
			w.table.insert(ep, 0)
		}
		w.run()
		w.change(ep, func(e *waypost.Endpoint) { e.URL = "https://new.test" })
		wait(time.Second)
		if w.table.owed() != 0 {
			t.Errorf("%d owed", w.table.owed())
		}
		w.shut()
	})
}

func TestDrainOrder(t *testing.T) {
	t.Parallel()
	for _, drain := range []waypost.Drain{waypost.DrainOldest, waypost.DrainNewest} {
		t.Run("drain "+string(drain), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(c *Config) { c.Limits.InFlight = 1 })
				var order []waypost.EventID
				w.dialect.encode = func(item dialect.Item) (dialect.Hook, error) {
					order = append(order, item.Event.ID)
					return dialect.Hook{}, nil
				}
				ep := w.endpoint(1)
				w.change(ep, pause)
				w.run()
				var want []waypost.EventID
				for range 60 {
					id := w.accept(ep).Event
					if drain == waypost.DrainNewest {
						want = append([]waypost.EventID{id}, want...)
					} else {
						want = append(want, id)
					}
				}
				w.change(ep, func(e *waypost.Endpoint) { resume(e); e.Drain = drain })
				wait(time.Minute)
				if diff := cmp.Diff(want, order); diff != "" {
					t.Errorf("order (-want +got):\n%s", diff)
				}
				w.shut()
			})
		})
	}
}

func TestSkipWhatIsOlder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.dialect.policy.Schedule = []time.Duration{time.Minute}
		ep := w.endpoint(1)
		w.change(ep, pause)
		w.run()
		for range 1500 {
			w.accept(ep)
		}
		wait(time.Hour)
		const fresh = 10
		first := w.accept(ep)
		for range fresh - 1 {
			w.accept(ep)
		}
		w.change(ep, func(e *waypost.Endpoint) { resume(e); e.SkipBefore = first.Event })
		wait(10 * time.Second)
		want := map[waypost.Reason]int{waypost.ReasonSkipped: 1500, "": fresh}
		if diff := cmp.Diff(want, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		if n := len(w.requests()); n != fresh {
			t.Errorf("%d requests, want %d", n, fresh)
		}
		if n := w.table.dropped(); n != 2 {
			t.Errorf("dropped in %d steps, want 2", n)
		}

		// What is made due again by hand goes out, however old it is.
		old := w.table.insertEvent(&waypost.Event{ID: first.Event - 1}, ep)
		w.engine.Wake(ep)
		wait(time.Second)
		if reason, ended := w.table.end(old); !ended || reason != "" {
			t.Errorf("ended %t, %q", ended, reason)
		}
		if n := w.table.dropped(); n != 2 {
			t.Errorf("looked for old ones again: %d", n)
		}
		w.shut()
	})
}

// What is in memory when the endpoint is told to skip ends too: what waits, what
// is in flight and fails, and what waits for a result to be written.
func TestSkipInMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Limits.InFlight = 2 })
		w.dialect.policy.Schedule = []time.Duration{100 * time.Millisecond, time.Hour}
		answers := []int{500, 500, 200, 500} // the first two are to be retried soon; one of the next is received
		w.setAnswer(func(ctx context.Context, r egress.Request) egress.Answer {
			w.mu.Lock()
			code := answers[0]
			answers = answers[1:]
			w.mu.Unlock()
			return after(time.Second, code)(ctx, r)
		})
		ep := w.endpoint(1)
		w.run()
		var last waypost.DeliveryID
		for range 10 {
			last = w.accept(ep)
		}
		wait(1010 * time.Millisecond) // the results of the first two are not written yet
		w.change(ep, func(e *waypost.Endpoint) { e.SkipBefore = last.Event + 1 })
		wait(10 * time.Second)
		want := map[waypost.Reason]int{waypost.ReasonSkipped: 9, "": 1}
		if diff := cmp.Diff(want, w.table.ends()); diff != "" {
			t.Error(diff)
		}
		if n := len(w.requests()); n != 4 {
			t.Errorf("%d requests", n)
		}
		if g := w.engine.Gauges(); g.InMemory != 0 || g.Unrecorded != 0 {
			t.Errorf("left in memory: %+v", g)
		}
		w.shut()
	})
}

func TestOwnLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.setAnswer(after(100*time.Millisecond, 200))
		ep := w.endpoint(1)
		w.change(ep, func(e *waypost.Endpoint) { e.InFlight = 7 })
		w.run()
		for range 20 {
			if w.engine.Reserve(ep) != store.InHand {
				t.Fatal("not reserved")
			}
			w.engine.Unreserve(ep)
			w.accept(ep)
		}
		wait(0)
		if n := len(w.requests()); n != 7 {
			t.Errorf("%d in flight, want 7", n)
		}
		w.change(ep, func(e *waypost.Endpoint) { e.InFlight = 1 })
		wait(150 * time.Millisecond)
		if n := len(w.requests()); n != 8 {
			t.Errorf("%d requests, want 8", n)
		}
		w.shut()
	})
}
