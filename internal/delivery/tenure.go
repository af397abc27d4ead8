package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// tenure is the engine's work under one node id. Losing the lease ends it, and
// all that was in memory with it; nothing is carried over to the next.
type tenure struct {
	config *Config
	node   waypost.NodeID

	// attempts ends when requests in flight must end; table when nothing may be
	// asked of the store any more.
	attempts    context.Context
	cutAttempts context.CancelFunc
	table       context.Context
	cutTable    context.CancelFunc

	leaseLost chan struct{} // closed when the store says so
	loseLease sync.Once
	drained   chan struct{} // closed when nothing is left in hand while draining
	workers   sync.WaitGroup
	sorties   chan sortie // for workers that wait
	idle      atomic.Int32

	scanner scanner

	mu       sync.Mutex // guards what follows
	phase    phase
	lanes    map[waypost.EndpointID]*lane
	slots    slots
	memory   memory
	errands  fifo[*lane]
	errand   *sync.Cond // an errand was queued, or there will be none
	busy     int        // errands under way
	recorder recorder
}

// phase is how far a tenure has come.
type phase uint8

const (
	working phase = iota
	draining
	over
)

func newTenure(c *Config, node waypost.NodeID) *tenure {
	t := &tenure{
		config:    c,
		node:      node,
		leaseLost: make(chan struct{}),
		drained:   make(chan struct{}),
		sorties:   make(chan sortie),
		lanes:     map[waypost.EndpointID]*lane{},
		slots:     slots{limit: [2]int{c.Limits.FastSlots, c.Limits.SlowSlots}},
		memory:    memory{limit: c.Limits.Memory, limitBytes: c.Limits.MemoryBytes},
		recorder:  newRecorder(),
		scanner:   newScanner(c.Now()),
	}
	t.errand = sync.NewCond(&t.mu)
	t.attempts, t.cutAttempts = context.WithCancel(context.Background())
	t.table, t.cutTable = context.WithCancel(context.Background())
	return t
}

func (t *tenure) run(ctx context.Context) error {
	defer t.stop()
	t.workers.Go(t.runRecorder)
	t.workers.Go(t.runScanner)
	for range errandRunners {
		t.workers.Go(t.runErrands)
	}
	select {
	case <-t.leaseLost:
		return store.ErrLeaseLost
	case <-ctx.Done():
	}
	if errors.Is(context.Cause(ctx), store.ErrLeaseLost) {
		return store.ErrLeaseLost
	}
	return t.drain()
}

// drain lets requests in flight finish, hands back the rest and waits until
// all of it is on record. Requests that take too long are cut short, so that
// there is time left to write that down.
func (t *tenure) drain() error {
	t.mu.Lock()
	t.phase = draining
	close(t.recorder.hurry)
	for _, l := range t.lanes {
		t.turn(l)
	}
	t.checkDrained()
	t.mu.Unlock()

	timeout := t.config.Limits.ShutdownTimeout
	cut := time.AfterFunc(timeout*4/5, t.cutAttempts)
	defer cut.Stop()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	select {
	case <-t.drained:
	case <-t.leaseLost:
		return store.ErrLeaseLost
	case <-deadline.C:
		g := t.gauges()
		t.config.Log.Warn("shutdown took too long, what is left is freed with the lease",
			"in_memory", g.InMemory, "unrecorded", g.Unrecorded)
	}
	return nil
}

// checkDrained closes drained once nothing is in hand any more. Reservations
// do not count: should they still be started, their rows are freed with the
// lease.
func (t *tenure) checkDrained() {
	if t.phase != draining || t.busy > 0 || t.memory.count > t.memory.reserved || t.recorder.unrecorded() > 0 {
		return
	}
	select {
	case <-t.drained:
	default:
		close(t.drained)
	}
}

// stop ends everything and waits until it has ended.
func (t *tenure) stop() {
	t.mu.Lock()
	t.phase = over
	for _, l := range t.lanes {
		l.disarm()
	}
	t.errand.Broadcast()
	close(t.sorties) // nothing is launched any more
	t.mu.Unlock()
	t.cutAttempts()
	t.cutTable()
	t.workers.Wait()
}

// lost ends the tenure: the lease has run out.
func (t *tenure) lost() { t.loseLease.Do(func() { close(t.leaseLost) }) }

func (t *tenure) reserve(id waypost.EndpointID) bool {
	ep := t.config.Directory.Endpoint(id)
	if ep == nil || !ep.Open() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != working {
		return false
	}
	if l := t.lanes[id]; l != nil && !t.room(l) {
		return false
	}
	l := t.lane(id)
	l.reserved++
	t.memory.reserve(1)
	return true
}

// room tells whether the lane takes one more delivery from outside. While the
// table holds some that are due it does not: they come first.
func (t *tenure) room(l *lane) bool {
	now := t.config.Now()
	return t.look(l, now) == open && !l.backlogged(now) && l.occupied() < t.depth(l) &&
		(t.memory.room() > 0 || l.occupied() < t.config.Limits.InFlight)
}

func (t *tenure) unreserve(id waypost.EndpointID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.lanes[id]; l != nil {
		t.release(l)
		t.turn(l)
	}
}

// release ends one reservation. There may be none: what was reserved before a
// lease was lost may be started, or not, after the next tenure has begun.
func (t *tenure) release(l *lane) bool {
	if l.reserved == 0 {
		return false
	}
	l.reserved--
	t.memory.reserve(-1)
	return true
}

// disown sees to a delivery that was started without a reservation. Most likely
// it was committed under a lease that is lost, and then its row is not in our
// hand, or was taken since. But its start may also have cost another one its
// reservation, so it must not just be dropped: should the row be in our hand,
// nobody else would ever work on it.
func (t *tenure) disown(l *lane, o store.Owed, now time.Time) {
	j := &job{owed: o, due: dueAt(now)}
	if !t.has(l, j.id()) {
		t.record(entry{result: store.Result{Delivery: j.id(), Next: store.NextRetry, At: j.due}})
	}
}

func (t *tenure) start(owed []store.Owed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase == over {
		return // the rows are freed with the lease
	}
	now := t.config.Now()
	for _, o := range owed {
		l := t.lane(o.Endpoint)
		l.started = true
		if t.release(l) {
			t.hold(l, o, now)
		} else {
			t.disown(l, o, now)
		}
	}
	for _, o := range owed {
		if l := t.lanes[o.Endpoint]; l != nil && l.started {
			l.started = false
			t.turn(l)
		}
	}
}

func (t *tenure) wake(id waypost.EndpointID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wakeLane(id, t.config.Now())
}

// wakeLane tells a lane that the table holds a delivery due at the time.
func (t *tenure) wakeLane(id waypost.EndpointID, at time.Time) {
	if t.phase != working {
		return
	}
	l := t.lane(id)
	l.note(at, t.config.Now())
	t.turn(l)
}

func (t *tenure) endpointChanged(id waypost.EndpointID) {
	ep := t.config.Directory.Endpoint(id)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase == over {
		return
	}
	l := t.lanes[id]
	if l == nil {
		if ep == nil || ep.DeletedAt.IsZero() && !ep.Open() && ep.State != waypost.EndpointTripped {
			return
		}
		l = t.lane(id)
		l.window = 1
	} else if l.gate == open {
		l.breaker.reset()
	}
	now := t.config.Now()
	l.note(now, now)
	l.blind = true
	t.turn(l)
}

func (t *tenure) ready() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.config.Now()
	switch {
	case t.phase != working:
		return errNotRunning
	case !t.recorder.failingSince.IsZero() && now.Sub(t.recorder.failingSince) > patience:
		return fmt.Errorf("results of deliveries can't be written since %s", t.recorder.failingSince.UTC().Format(time.RFC3339))
	case now.Sub(t.scanner.okAt) > max(patience, 4*t.config.Limits.Backstop):
		return fmt.Errorf("owed deliveries can't be listed since %s", t.scanner.okAt.UTC().Format(time.RFC3339))
	}
	return nil
}

// patience is how long the store may fail before the engine is not ready.
const patience = 10 * time.Second

func (t *tenure) gauges() Gauges {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Gauges{
		Lanes:        len(t.lanes),
		InMemory:     t.memory.count,
		MemoryBytes:  t.memory.bytes,
		FastInFlight: t.slots.used[fast],
		SlowInFlight: t.slots.used[slow],
		WaitingLanes: t.slots.waiting[fast].len() + t.slots.waiting[slow].len(),
		Unrecorded:   t.recorder.unrecorded(),
	}
}
