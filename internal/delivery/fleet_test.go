package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/node"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// fleet is several nodes on one table, and a receiver that counts what is in
// flight to each endpoint, over all of them.
type fleet struct {
	t        *testing.T
	table    *table
	settings *settings
	dialect  plain
	ships    []*ship
	deaf     bool // notices get lost

	mu     sync.Mutex
	random *rand.Rand
	takes  func() time.Duration // how long a receiver takes
	limit  map[string]int       // by URL
	flying map[string]int
	most   map[string]int
}

func newFleet(t *testing.T, seed uint64, limits ...int) *fleet {
	t.Helper()
	<-time.After(time.Until(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)))
	f := &fleet{
		t: t, table: newTable(t), settings: &settings{endpoints: map[waypost.EndpointID]*waypost.Endpoint{}},
		random: rand.New(rand.NewPCG(seed, 7)),
		limit:  map[string]int{}, flying: map[string]int{}, most: map[string]int{},
	}
	f.table.node = 0
	f.table.leases = map[waypost.NodeID]*lease{}
	f.dialect.policy = waypost.Policy{Success: waypost.Success200, Timeout: 15 * time.Second, Schedule: []time.Duration{time.Second, time.Second}}
	f.takes = func() time.Duration { return 100 * time.Millisecond }
	for i, limit := range limits {
		id := waypost.EndpointID(i + 1)
		url := fmt.Sprint("https://example.test/", id)
		f.settings.endpoints[id] = &waypost.Endpoint{ID: id, URL: url, Dialect: "plain", State: waypost.EndpointActive, InFlight: limit}
		f.limit[url] = limit
	}
	return f
}

func (f *fleet) pick(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.random.IntN(n)
}

func (f *fleet) Send(ctx context.Context, r egress.Request) egress.Answer {
	f.mu.Lock()
	f.flying[r.URL]++
	f.most[r.URL] = max(f.most[r.URL], f.flying[r.URL])
	if f.flying[r.URL] > f.limit[r.URL] {
		f.t.Errorf("%s: %d in flight to %s, the limit is %d", time.Now(), f.flying[r.URL], r.URL, f.limit[r.URL])
	}
	takes := f.takes()
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.flying[r.URL]--
	}()
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	return after(takes, 200)(ctx, r)
}

// launch starts a node.
func (f *fleet) launch() *ship {
	f.t.Helper()
	s := &ship{fleet: f, table: f.table, ended: make(chan error, 1)}
	s.engine = New(Config{
		Queue: s, Directory: f.settings, States: f.settings, Sender: f,
		Dialects: func(string) dialect.Dialect { return &f.dialect },
		Log:      slog.New(slog.DiscardHandler),
		Limits:   Limits{LaneMemory: 40},
		Breaker:  BreakerConfig{Failures: 1e9},
	})
	s.node = node.New(s, node.Options{})
	if err := s.node.Join(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.ended <- s.node.Run(ctx, s.engine) }()
	f.ships = append(f.ships, s)
	return s
}

// land stops a node in good order.
func (f *fleet) land(s *ship) {
	f.t.Helper()
	s.stop()
	if err := <-s.ended; err != nil {
		f.t.Error(err)
	}
	f.ships = slices.DeleteFunc(f.ships, func(other *ship) bool { return other == s })
}

// accept does what ingest on one of the nodes does with an event.
func (f *fleet) accept(s *ship, endpoint waypost.EndpointID) (accepted bool) {
	place := s.engine.Reserve(endpoint)
	id := s.node.ID()
	if s.cut.Load() != nil || !f.table.live(id) {
		if place == store.InHand {
			s.engine.Unreserve(endpoint)
		}
		return false
	}
	if place == store.InHand {
		event := f.table.insert(endpoint, id)
		s.engine.Start([]store.Owed{{Event: event, Endpoint: endpoint}})
		return true
	}
	f.table.insert(endpoint, 0)
	s.engine.Wake(endpoint)
	for _, other := range f.ships {
		if place == store.Elsewhere && other != s && !f.deaf && other.cut.Load() == nil {
			other.engine.Wake(endpoint)
		}
	}
	return true
}

// The limit of an endpoint holds over all nodes at every moment, whatever becomes
// of them, and everything arrives.
func TestLimitHoldsAcrossNodes(t *testing.T) {
	t.Parallel()
	seeds := uint64(16)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { voyage(t, seed) })
		})
	}
}

func voyage(t *testing.T, seed uint64) {
	t.Helper()
	f := newFleet(t, seed, 1, 2, 3, 4, 7)
	f.takes = func() time.Duration {
		switch f.random.IntN(12) {
		case 0:
			return time.Duration(f.random.IntN(20)) * time.Second // past the time limit, too
		case 1, 2:
			return time.Second
		}
		return time.Duration(f.random.IntN(200)) * time.Millisecond
	}
	f.launch()
	accepted := 0
	for range 150 {
		s := f.ships[f.pick(len(f.ships))]
		switch f.pick(14) {
		case 0, 1:
			if len(f.ships) < 5 {
				f.launch()
			}
		case 2:
			if len(f.ships) > 1 {
				s.uncut()
				s.slow.Store(0)
				f.land(s)
			}
		case 3:
			s.sever()
		case 4, 5:
			s.uncut()
		case 6:
			s.slow.Store(int64(f.pick(4)) * int64(time.Second))
		case 7:
			s.slow.Store(0)
		default:
			for range f.pick(30) {
				if f.accept(s, waypost.EndpointID(f.pick(len(f.limit))+1)) {
					accepted++
				}
			}
		}
		wait(time.Duration(f.pick(1500)) * time.Millisecond)
	}
	for _, s := range f.ships {
		s.uncut()
		s.slow.Store(0)
	}
	until(t, time.Hour, "nothing owed", func() bool { return f.table.owed() == 0 })
	ends := 0
	for _, n := range f.table.ends() {
		ends += n
	}
	if ends != accepted {
		t.Errorf("%d accepted, %d came to an end", accepted, ends)
	}
	f.full()
	for len(f.ships) > 0 {
		f.land(f.ships[0])
	}
}

// full checks that nothing of a limit is lost either, once all is quiet.
func (f *fleet) full() {
	f.t.Helper()
	wait(10 * time.Second)
	f.mu.Lock()
	clear(f.most)
	f.takes = func() time.Duration { return 3 * time.Second }
	f.mu.Unlock()
	for round := range 20 * len(f.ships) {
		for id := range f.settings.endpoints {
			f.accept(f.ships[round%len(f.ships)], id)
		}
	}
	wait(10 * time.Second)
	f.mu.Lock()
	defer f.mu.Unlock()
	for url, limit := range f.limit {
		if f.most[url] != limit {
			f.t.Errorf("%s has %d in flight, the limit is %d", url, f.most[url], limit)
		}
	}
}

// A node that joins has its share in a moment when the others have nothing slow
// in flight, and gets none before they have made room when they have.
func TestJoining(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		takes       time.Duration
		least, most time.Duration
	}{
		"nothing is slow":           {50 * time.Millisecond, 0, 1300 * time.Millisecond},
		"the others have to finish": {4 * time.Second, 2 * time.Second, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 1, 4)
				f.takes = func() time.Duration { return c.takes }
				first := f.launch()
				wait(700 * time.Millisecond)
				for range 400 {
					f.accept(first, 1)
				}
				wait(100 * time.Millisecond)
				second := f.launch()
				took := until(t, 10*time.Second, "it takes its share", func() bool {
					g := second.engine.Gauges()
					return g.FastInFlight+g.SlowInFlight == 2
				})
				if took < c.least || took > c.most {
					t.Errorf("took %s", took)
				}
				if err := second.engine.Ready(); err != nil {
					t.Error(err)
				}
				until(t, time.Hour, "nothing owed", func() bool { return f.table.owed() == 0 })
				f.land(first)
				f.land(second)
			})
		})
	}
}

// With more nodes than the limit allows requests, those without a share hand over.
func TestFewerRequestsThanNodes(t *testing.T) {
	t.Parallel()
	for name, deaf := range map[string]bool{"notices arrive": false, "the scan is what is left": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 1, 1)
				f.takes = func() time.Duration { return time.Millisecond }
				f.deaf = deaf
				for range 4 {
					f.launch()
				}
				wait(5 * time.Second)
				accepted := 0
				for round := range 40 {
					if f.accept(f.ships[round%4], 1) {
						accepted++
					}
					wait(10 * time.Millisecond)
				}
				patience := 10 * time.Millisecond
				if deaf {
					patience = 6 * time.Second
				}
				wait(patience + 100*time.Millisecond)
				if f.table.owed() != 0 || accepted != 40 {
					t.Errorf("%d accepted, %d still owed", accepted, f.table.owed())
				}
				idle := 0
				for _, s := range f.ships {
					if s.engine.Reserve(1) == store.Elsewhere {
						idle++
					} else {
						s.engine.Unreserve(1)
					}
					if g := s.engine.Gauges(); g.InMemory > 0 {
						t.Errorf("left in memory: %+v", g)
					}
				}
				if idle != 3 {
					t.Errorf("%d of 4 nodes have no share", idle)
				}
				for len(f.ships) > 0 {
					f.land(f.ships[0])
				}
			})
		})
	}
}

// The nodes share a backlog: what one of them has no hands for, others take.
func TestOverflowGoesToOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, 4)
		first, second := f.launch(), f.launch()
		wait(5 * time.Second)
		for range 200 {
			f.accept(first, 1)
			wait(25 * time.Millisecond) // what four at a time can do, and two can't
		}
		wait(time.Second)
		if f.table.owed() > 10 {
			t.Errorf("%d are late", f.table.owed())
		}
		until(t, time.Minute, "nothing owed", func() bool { return f.table.owed() == 0 })
		f.land(first)
		f.land(second)
	})
}

// A tripped endpoint is probed by one node.
func TestOneNodeProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, 4)
		f.settings.endpoints[1].State = waypost.EndpointTripped
		f.limit["https://example.test/1"] = 1
		var probes atomic.Int64
		f.takes = func() time.Duration { probes.Add(1); return 16 * time.Second } // past the time limit
		for range 3 {
			f.launch()
		}
		wait(time.Second)
		for range 10 {
			f.table.insert(1, 0)
		}
		wait(130 * time.Second) // 30 s and 60 s, the time limit, and the scan that finds it
		if probes.Load() != 2 {
			t.Errorf("%d probes", probes.Load())
		}
		for len(f.ships) > 0 {
			f.land(f.ships[0])
		}
	})
}

// After the database was away for longer than a lease, what was sent is recorded
// and not sent again, whichever node comes back first.
func TestWholeFleetLosesItsLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, 4, 4, 4)
		for range 3 {
			f.launch()
		}
		wait(5 * time.Second)
		accepted := 0
		for round := range 600 {
			if f.accept(f.ships[round%3], waypost.EndpointID(round%len(f.limit)+1)) {
				accepted++
			}
			wait(5 * time.Millisecond)
		}
		for _, s := range f.ships {
			s.sever()
		}
		wait(time.Minute)
		for _, s := range f.ships {
			s.uncut()
		}
		back := until(t, 10*time.Second, "delivering again", func() bool { return f.table.owed() == 0 })
		sent := 0
		for _, made := range f.table.made() {
			sent += made
		}
		if sent != accepted {
			t.Errorf("%d requests for %d deliveries; all was over %s after the database was back", sent, accepted, back)
		}
		for len(f.ships) > 0 {
			f.land(f.ships[0])
		}
	})
}

// ship is one node: it is a store.Nodes and a Queue that reaches the table over a
// line that can be slow, or cut.
type ship struct {
	fleet  *fleet
	table  *table
	node   *node.Node
	engine *Engine
	stop   context.CancelFunc
	ended  chan error

	slow atomic.Int64                  // how long a question or an answer takes, at most
	cut  atomic.Pointer[chan struct{}] // closed when the line is whole again; nil: it is
}

func (s *ship) sever() {
	whole := make(chan struct{})
	s.cut.CompareAndSwap(nil, &whole)
}

func (s *ship) uncut() {
	if whole := s.cut.Swap(nil); whole != nil {
		close(*whole)
	}
}

// there is the way of a question or an answer. On a line that is cut nothing
// comes back, at times not even an error.
func (s *ship) there(ctx context.Context) error {
	takes := time.Duration(0)
	if slow := int(s.slow.Load()); slow > 0 {
		takes = time.Duration(s.fleet.pick(slow))
	}
	whole := s.cut.Load()
	if whole != nil && s.fleet.pick(2) == 0 {
		return errDown
	}
	timer := time.NewTimer(takes)
	defer timer.Stop()
	if whole != nil {
		select {
		case <-*whole:
			return errDown
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// over does it at the other end: the answer may get lost.
func (s *ship) over(ctx context.Context, do func() error) error {
	if err := s.there(ctx); err != nil {
		return err
	}
	return errors.Join(do(), s.there(ctx))
}

func (s *ship) Join(ctx context.Context, ttl time.Duration, _ time.Time) (id waypost.NodeID, slot int, floor int64, err error) {
	err = s.over(ctx, func() error { id, slot = s.table.joinAs(ttl); return nil })
	return id, slot, 0, err
}

func (s *ship) Renew(ctx context.Context, id waypost.NodeID, ttl time.Duration, _ time.Time, seen waypost.NodeID) (members []store.Member, err error) {
	err = s.over(ctx, func() error {
		members, err = s.table.renew(id, ttl, seen)
		return err
	})
	return members, err
}

func (s *ship) Leave(ctx context.Context, id waypost.NodeID, _ time.Time) error {
	return s.over(ctx, func() error { s.table.leave(id); return nil })
}

func (s *ship) Clock(context.Context) (time.Time, error) { return time.Now(), nil }

func (s *ship) Adopt(ctx context.Context, _ time.Time) (adopted int, err error) {
	err = s.over(ctx, func() error { adopted = s.table.adopt(); return nil })
	return adopted, err
}

func (s *ship) Take(ctx context.Context, id waypost.NodeID, endpoint waypost.EndpointID, now time.Time, limit int, order store.Order) (owed []store.Owed, err error) {
	if err := s.there(ctx); err != nil {
		return nil, err
	}
	return s.table.Take(ctx, id, endpoint, now, limit, order)
}

func (s *ship) Due(ctx context.Context) ([]store.Due, error) {
	if err := s.there(ctx); err != nil {
		return nil, err
	}
	return s.table.Due(ctx)
}

func (s *ship) Settle(ctx context.Context, id waypost.NodeID, results []store.Result) (settled store.Settled, err error) {
	err = s.over(ctx, func() error {
		settled, err = s.table.Settle(ctx, id, results)
		return err
	})
	return settled, err
}

func (s *ship) Drop(ctx context.Context, endpoint waypost.EndpointID, before waypost.EventID, reason waypost.Reason, now time.Time, limit int) (int, error) {
	if err := s.there(ctx); err != nil {
		return 0, err
	}
	return s.table.Drop(ctx, endpoint, before, reason, now, limit)
}
