package delivery

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// wallClock is one that can be set.
type wallClock struct{ ahead atomic.Int64 }

func (c *wallClock) now() time.Time {
	return time.Now().Round(0).Add(time.Duration(c.ahead.Load()))
}

func (c *wallClock) leap(by time.Duration) { c.ahead.Add(int64(by)) }

func TestClockNeverStepsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var wall wallClock
		var c clock
		c.start(wall.now)
		begin := c.now()
		var got []time.Duration
		for _, by := range []time.Duration{0, -time.Hour, 0, 30 * time.Minute, time.Hour, -time.Minute} {
			wall.leap(by)
			wait(time.Second)
			got = append(got, c.now().Sub(begin))
		}
		s, ahead := time.Second, 30*time.Minute
		want := []time.Duration{s, 2 * s, 3 * s, 4 * s, ahead + 5*s, ahead + 6*s}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// A clock that is set neither strands what waits nor lets it all loose.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]time.Duration{"back": -time.Hour, "forward": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, check := range map[string]func(*testing.T, *world, func()){
				"while retries wait":         leapAmongRetries,
				"while short retries wait":   leapAmongShortRetries,
				"while the breaker is open":  leapWhileTripped,
				"while a ramp is on":         leapOnRamp,
				"while nothing waits":        leapWhenIdle,
				"while an endpoint is new":   leapWhileUnknown,
				"while the store is away":    leapWhileAway,
				"while an event is accepted": leapWhileAccepting,
			} {
				t.Run(what, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						var wall wallClock
						w := newWorld(t, func(c *Config) { c.Now = wall.now })
						w.table.wall = wall.now
						w.dialect.policy.Schedule = []time.Duration{10 * time.Minute, 30 * time.Minute, 2 * time.Hour}
						check(t, w, func() { wall.leap(by) })
						w.shut()
					})
				})
			}
		})
	}
}

func leapAmongRetries(t *testing.T, w *world, leap func()) {
	w.setAnswer(status(500))
	ep := w.endpoint(1)
	w.run()
	for range 9 {
		w.accept(ep)
	}
	wait(time.Minute)
	leap()
	wait(10 * time.Minute) // a wait that began before it may be cut short, and is no longer than it was
	n := len(w.requests())
	if n != 18 {
		t.Errorf("%d requests, want 9 and one retry each", n)
	}
	wait(31 * time.Minute)
	if n := len(w.requests()); n != 27 {
		t.Errorf("%d requests, want 27: those after it keep their waits", n)
	}
}

func leapAmongShortRetries(t *testing.T, w *world, leap func()) {
	w.dialect.policy.Schedule = []time.Duration{500 * time.Millisecond, time.Hour}
	w.setAnswer(status(500))
	ep := w.endpoint(1)
	w.run()
	w.accept(ep)
	wait(100 * time.Millisecond)
	leap()
	wait(time.Second)
	if n := len(w.requests()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func leapWhileTripped(t *testing.T, w *world, leap func()) {
	ep := w.endpoint(1)
	w.change(ep, func(e *waypost.Endpoint) { e.State = waypost.EndpointTripped })
	w.setAnswer(status(500))
	for range 10 {
		w.table.insert(ep, 0)
	}
	w.run()
	wait(10 * time.Second)
	leap()
	wait(9 * time.Minute)
	if n := len(w.requests()); n < 3 || n > 5 {
		t.Errorf("%d probes in nine minutes", n)
	}
	w.setAnswer(status(200))
	wait(6 * time.Minute)
	if n := w.table.ends()[""]; n < 5 || w.Endpoint(ep).State != waypost.EndpointActive {
		t.Errorf("%d received, %s", n, w.Endpoint(ep).State)
	}
}

func leapOnRamp(t *testing.T, w *world, leap func()) {
	ep := w.endpoint(1)
	w.change(ep, pause)
	w.run()
	for range 200 {
		w.table.insert(ep, 0)
	}
	wait(10 * time.Second)
	w.change(ep, resume)
	wait(time.Second)
	leap()
	wait(990 * time.Millisecond)
	if n := len(w.requests()); n < 18 || n > 32 {
		t.Errorf("%d requests in two seconds", n)
	}
	wait(20 * time.Second)
	if w.table.owed() != 0 {
		t.Errorf("%d owed", w.table.owed())
	}
}

func leapWhenIdle(t *testing.T, w *world, leap func()) {
	ep := w.endpoint(1)
	w.run()
	w.accept(ep)
	wait(time.Minute)
	leap()
	w.accept(ep)
	w.table.insert(ep, 0) // in the table, by a clock that was set
	wait(6 * time.Second) // nobody tells; the scan finds it
	if w.table.owed() != 0 {
		t.Errorf("%d owed", w.table.owed())
	}
}

func leapWhileUnknown(t *testing.T, w *world, leap func()) {
	w.run()
	w.table.insert(7, 0)
	wait(10 * time.Second)
	leap()
	wait(8 * time.Minute)
	w.endpoint(7)
	wait(time.Second)
	if diff := cmp.Diff(map[waypost.Reason]int{"": 1}, w.table.ends()); diff != "" {
		t.Error(diff)
	}
}

func leapWhileAway(t *testing.T, w *world, leap func()) {
	ep := w.endpoint(1)
	w.run()
	w.table.setDown(errDown)
	w.accept(ep)
	wait(2 * time.Second)
	leap()
	wait(2 * time.Second)
	if w.engine.Ready() != nil {
		t.Error("not ready, though it has not been long")
	}
	w.table.setDown(nil)
	w.accept(ep)
	wait(5 * time.Second)
	if diff := cmp.Diff(map[waypost.Reason]int{"": 2}, w.table.ends()); diff != "" {
		t.Error(diff)
	}
}

func leapWhileAccepting(t *testing.T, w *world, leap func()) {
	w.setAnswer(after(time.Second, 200))
	ep := w.endpoint(1)
	w.run()
	for range 12 {
		w.accept(ep)
	}
	leap()
	for range 12 {
		w.accept(ep)
	}
	wait(20 * time.Second)
	if diff := cmp.Diff(map[waypost.Reason]int{"": 24}, w.table.ends()); diff != "" {
		t.Error(diff)
	}
	for id := range w.table.done {
		if h := w.table.history(id); h[0].Duration != time.Second {
			t.Errorf("took %s", h[0].Duration)
		}
	}
}
