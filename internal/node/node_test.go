package node_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/node"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// leases is a store.Nodes that notes what it is asked and answers as told.
type leases struct {
	mu      sync.Mutex
	log     []string
	next    waypost.NodeID
	members []store.Member
	renew   func(ctx context.Context) error // nil: it works
	refuse  error                           // of all but Renew
	ahead   time.Duration                   // of its clock
}

func (l *leases) Clock(context.Context) (time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Add(l.ahead), l.refuse
}

func (l *leases) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, fmt.Sprintf(format, args...))
}

func (l *leases) set(edit func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	edit()
}

func (l *leases) refused() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refuse
}

func (l *leases) Join(context.Context, time.Duration, time.Time) (waypost.NodeID, int, int64, error) {
	if err := l.refused(); err != nil {
		return 0, 0, 0, err
	}
	l.mu.Lock()
	l.next++
	id := l.next
	l.mu.Unlock()
	l.note("join %d", id)
	return id, int(id), 0, nil
}

func (l *leases) Renew(ctx context.Context, id waypost.NodeID, _ time.Duration, _ time.Time, seen waypost.NodeID) ([]store.Member, error) {
	l.mu.Lock()
	renew := l.renew
	members := slices.Clone(l.members)
	l.mu.Unlock()
	if renew != nil {
		if err := renew(ctx); err != nil {
			return nil, err
		}
	}
	l.note("renew %d, seen %d", id, seen)
	return append(members, store.Member{Node: id, Seen: seen}), nil
}

func (l *leases) Leave(_ context.Context, id waypost.NodeID, _ time.Time) error {
	if err := l.refused(); err != nil {
		return err
	}
	l.note("leave %d", id)
	return nil
}

func (l *leases) Adopt(context.Context, time.Time) (int, error) { return 0, l.refused() }

// work is a node.Work that does nothing.
type work struct {
	leases *leases
	drain  time.Duration // how long it takes to end
	answer func(members []store.Member) (waypost.NodeID, bool)
	runs   chan waypost.NodeID
	lostAt time.Time
}

func (w *work) Run(ctx context.Context, id waypost.NodeID, lost <-chan struct{}) error {
	w.runs <- id
	w.leases.note("run %d", id)
	select {
	case <-lost:
		w.lostAt = time.Now()
		w.leases.note("lost %d", id)
		return store.ErrLeaseLost
	case <-ctx.Done():
	}
	select {
	case <-lost:
		w.leases.note("lost %d while draining", id)
		return store.ErrLeaseLost
	case <-time.After(w.drain):
		w.leases.note("drained %d", id)
		return nil
	}
}

func (w *work) Members(members []store.Member) (waypost.NodeID, bool) {
	if w.answer != nil {
		return w.answer(members)
	}
	return members[len(members)-1].Node, true
}

// afloat is a node that runs.
type afloat struct {
	*leases
	work  *work
	node  *node.Node
	stop  context.CancelFunc
	ended chan error
}

func launch(t *testing.T, options node.Options, edit func(*leases, *work)) *afloat {
	t.Helper()
	<-time.After(time.Until(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)))
	l := &leases{}
	a := &afloat{leases: l, work: &work{leases: l, runs: make(chan waypost.NodeID, 100)}, ended: make(chan error, 1)}
	if edit != nil {
		edit(l, a.work)
	}
	a.node = node.New(l, options)
	if err := a.node.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	a.stop = stop
	go func() { a.ended <- a.node.Run(ctx, a.work) }()
	synctest.Wait()
	return a
}

func (a *afloat) end(t *testing.T) {
	t.Helper()
	a.stop()
	if err := <-a.ended; err != nil {
		t.Error(err)
	}
}

func (a *afloat) logged() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.log)
}

func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

var errAway = waypost.Errorf(waypost.KindUnavailable, "the database can't be reached")

func TestKeepsAndGivesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := launch(t, node.Options{}, func(_ *leases, w *work) { w.drain = 2 * time.Second })
		wait(3500 * time.Millisecond)
		if a.node.ID() != 1 || a.node.Members() != 1 {
			t.Errorf("node %d of %d", a.node.ID(), a.node.Members())
		}
		a.end(t)
		want := []string{
			"join 1", "run 1", "renew 1, seen 0", "renew 1, seen 1", "renew 1, seen 1", "renew 1, seen 1",
			"renew 1, seen 1", "renew 1, seen 1", "renew 1, seen 1", "drained 1", "leave 1",
		}
		got := a.logged()
		slices.Sort(got[1:3]) // side by side
		slices.Sort(want[1:3])
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// Whom the work takes into account is told at once, and while it is not settled
// the node looks more often.
func TestTellsWhomItHasSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		full := true
		a := launch(t, node.Options{}, func(_ *leases, w *work) {
			w.answer = func(members []store.Member) (waypost.NodeID, bool) {
				if len(members) > 1 && full {
					return 1, false
				}
				return slices.MaxFunc(members, func(a, b store.Member) int { return int(a.Node - b.Node) }).Node, true
			}
		})
		wait(500 * time.Millisecond)
		a.set(func() { a.members = []store.Member{{Node: 9}} })
		wait(time.Second) // seen at 1 s, and looked for again at 1.2 s and 1.4 s
		a.set(func() { full = false })
		wait(150 * time.Millisecond)
		want := []string{"join 1", "run 1", "renew 1, seen 0", "renew 1, seen 1", "renew 1, seen 1", "renew 1, seen 1", "renew 1, seen 1", "renew 1, seen 1", "renew 1, seen 9"}
		got := a.logged()
		slices.Sort(got[1:3])
		slices.Sort(want[1:3])
		if len(got) > len(want)+1 || !slices.Contains(got, "renew 1, seen 9") {
			t.Errorf("(-want +got):\n%s", cmp.Diff(want, got))
		}
		a.end(t)
	})
}

// A node that can't renew stops before its lease can have run out, whether the
// store refuses, or does not answer at all.
func TestStopsByItself(t *testing.T) {
	t.Parallel()
	for name, renew := range map[string]func(context.Context) error{
		"refused":   func(context.Context) error { return errAway },
		"no answer": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				refreshed := 0
				a := launch(t, node.Options{Refresh: func(context.Context) error { refreshed++; return nil }}, nil)
				wait(10*time.Second + 10*time.Millisecond)
				last := time.Now().Add(-10 * time.Millisecond)
				a.set(func() { a.renew, a.refuse = renew, errAway })
				wait(time.Minute)
				if held := a.work.lostAt.Sub(last); held != 5*time.Second {
					t.Errorf("stopped %s after the last renewal, want 5 s of a lease of 6 s", held)
				}
				if refreshed != 0 {
					t.Error("settings read before the old lease was given up")
				}
				a.set(func() { a.renew, a.refuse = nil, nil })
				wait(1100 * time.Millisecond)
				log := a.logged()
				at := slices.Index(log, "lost 1")
				if diff := cmp.Diff([]string{"lost 1", "leave 1", "join 2"}, log[at:at+3]); diff != "" || refreshed != 1 {
					t.Errorf("refreshed %d times, %s", refreshed, diff)
				}
				if a.node.ID() != 2 {
					t.Errorf("now %d", a.node.ID())
				}
				a.end(t)
			})
		})
	}
}

func TestStoreSaysTheLeaseIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := launch(t, node.Options{}, nil)
		once := sync.OnceValue(func() error { return fmt.Errorf("renew: %w", store.ErrLeaseLost) })
		said := false
		a.set(func() {
			a.renew = func(context.Context) error {
				if said {
					return nil
				}
				said = true
				return once()
			}
		})
		before := a.node.NextID()
		wait(1500 * time.Millisecond)
		if id := a.node.ID(); id != 2 {
			t.Errorf("node %d", id)
		}
		if id := a.node.NextID(); id <= before {
			t.Errorf("id %d after %d", id, before)
		}
		a.end(t)
	})
}

// What can't be read anew keeps the node from joining: it must not work on what
// may be out of date.
func TestRefreshComesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failing := true
		a := launch(t, node.Options{Refresh: func(context.Context) error {
			if failing {
				return errors.New("settings not read")
			}
			return nil
		}}, nil)
		a.set(func() { a.renew = func(context.Context) error { return store.ErrLeaseLost } })
		wait(20 * time.Second)
		if id := a.node.ID(); id != 1 {
			t.Errorf("joined as %d", id)
		}
		a.set(func() { failing, a.renew = false, nil })
		wait(1100 * time.Millisecond)
		if id := a.node.ID(); id != 2 {
			t.Errorf("node %d", id)
		}
		a.end(t)
	})
}

func TestLeaseLostWhileDraining(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := launch(t, node.Options{}, func(_ *leases, w *work) { w.drain = time.Hour })
		wait(time.Second)
		a.set(func() { a.renew = func(context.Context) error { return errAway } })
		a.stop()
		wait(4900 * time.Millisecond)
		if log := a.logged(); log[len(log)-1] == "lost 1 while draining" {
			t.Error("too early")
		}
		a.end(t)
		want := []string{"lost 1 while draining", "leave 1"}
		if log := a.logged(); !slices.Equal(log[len(log)-2:], want) {
			t.Errorf("%q", log)
		}
	})
}

// TestClocksAreCompared has a machine whose clock is wrong, then set right, then
// off by no more than a moment.
func TestClocksAreCompared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := launch(t, node.Options{}, func(l *leases, _ *work) { l.ahead = time.Hour })
		defer f.stop()
		off := func(want time.Duration) {
			t.Helper()
			if got := time.Until(f.node.Now()).Round(time.Millisecond); got != want {
				t.Errorf("the shared time is %s ahead of ours, want %s", got, want)
			}
		}
		off(time.Hour)
		if id := waypost.EventID(f.node.NextID()); time.Until(id.Time()) < 59*time.Minute {
			t.Errorf("ids are of %s", id.Time())
		}
		f.set(func() { f.ahead = 0 })
		<-time.After(11 * time.Second)
		off(0)
		f.set(func() { f.ahead = 100 * time.Millisecond })
		<-time.After(11 * time.Second)
		off(0)
	})
}
