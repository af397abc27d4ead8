package delivery

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// tenure is the engine's work under one node id. Losing the lease ends it, and
// all that was in memory with it; the next one is given only what results it
// could not write.
type tenure struct {
	config *Config
	clock  *clock
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
	launches  chan *flight // for workers that wait
	idle      atomic.Int32

	scanner scanner
	teller  *teller

	mu        sync.Mutex // guards what follows
	phase     phase
	tableOpen bool // the table may be asked for work
	cluster   cluster
	skipped   map[waypost.EndpointID]waypost.EventID // below these the table has been cleared of what is too old
	lanes     map[waypost.EndpointID]*lane
	heldIdle  map[waypost.EndpointID]bool // endpoints without a lane that were held when last looked at
	slots     slots
	young     young
	memory    memory
	errands   fifo[*lane]
	giveWay   giveWay
	errand    *sync.Cond // an errand was queued, or there will be none
	busy      int        // errands under way
	recorder  recorder
}

// phase is how far a tenure has come.
type phase uint8

const (
	working phase = iota
	draining
	ending // the lease is lost; what is in flight may still land
	over
)

// newTenure makes a tenure. carried is what the one before could not write, if
// it lost its lease, and else nil.
func newTenure(c *Config, clock *clock, node waypost.NodeID, carried *[]store.Result) *tenure {
	t := &tenure{
		config:    c,
		clock:     clock,
		node:      node,
		tableOpen: carried == nil,
		cluster:   cluster{self: node},
		skipped:   map[waypost.EndpointID]waypost.EventID{},
		leaseLost: make(chan struct{}),
		drained:   make(chan struct{}),
		launches:  make(chan *flight),
		lanes:     map[waypost.EndpointID]*lane{},
		heldIdle:  map[waypost.EndpointID]bool{},
		slots:     slots{limit: [2]int{c.Limits.FastSlots, c.Limits.SlowSlots}},
		memory:    memory{limit: c.Limits.Memory, limitBytes: c.Limits.MemoryBytes},
		scanner:   newScanner(),
		teller:    newTeller(c.Log),
	}
	if carried == nil {
		carried = new([]store.Result)
	}
	t.recorder = newRecorder(*carried)
	t.errand = sync.NewCond(&t.mu)
	t.attempts, t.cutAttempts = context.WithCancel(context.Background())
	t.table, t.cutTable = context.WithCancel(context.Background())
	return t
}

// now is the time that due times are compared with.
func (t *tenure) now() time.Time { return t.clock.now() }

// ended tells that nothing is begun and nothing is asked of the table any more.
func (t *tenure) ended() bool { return t.phase >= ending }

func (t *tenure) run(ctx context.Context, lost <-chan struct{}) error {
	defer t.stop()
	t.workers.Go(t.runRecorder)
	t.workers.Go(t.runScanner)
	for range errandRunners {
		t.workers.Go(t.runErrands)
	}
	select {
	case <-ctx.Done():
		if t.drain(lost) {
			return nil
		}
	case <-lost:
	case <-t.leaseLost:
	}
	t.ground()
	return store.ErrLeaseLost
}

// ground lets requests in flight end, for a moment: their results may yet be
// written under the next lease.
func (t *tenure) ground() {
	t.mu.Lock()
	t.phase = ending
	t.drained = make(chan struct{})
	t.errand.Broadcast()
	t.checkDrained()
	t.mu.Unlock()
	t.pause(t.config.Limits.LostTimeout, t.drained)
}

// regroupTime is how long the table is left alone after a lost lease. If the
// database was away, all nodes lost theirs, and have results to bring in: what
// one of them took in the meantime would be sent twice.
const regroupTime = 2 * time.Second

// regroup waits until the table may be asked for work; false: the tenure has ended.
func (t *tenure) regroup() bool {
	t.mu.Lock()
	tableOpen := t.tableOpen
	t.mu.Unlock()
	if tableOpen {
		return true
	}
	select {
	case <-t.recorder.caughtUp:
	case <-t.table.Done():
		return false
	}
	if !t.pause(regroupTime, nil) {
		return false
	}
	t.mu.Lock()
	t.tableOpen = true
	t.mu.Unlock()
	t.sweep()
	return true
}

// members takes in which nodes there are.
func (t *tenure) members(members []store.Member) (seen waypost.NodeID, settled bool) {
	t.mu.Lock()
	c := &t.cluster
	changed := c.update(members)
	within := true
	for _, l := range t.lanes {
		if changed {
			l.share = c.share(l.id, l.limit)
		}
		within = within && len(l.flights) <= l.share
	}
	if within {
		c.seen = c.newest()
	}
	seen, settled = c.seen, c.admitted && c.seen >= c.newest()
	t.mu.Unlock()
	if changed {
		t.sweep()
		t.scanner.request()
	}
	return seen, settled
}

// drain lets requests in flight finish, hands back the rest and waits until
// all of it is on record. Requests that take too long are cut short, so that
// there is time left to write that down.
func (t *tenure) drain(lost <-chan struct{}) (done bool) {
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
	case <-lost:
		return false
	case <-t.leaseLost:
		return false
	case <-deadline.C:
		g := t.gauges()
		t.config.Log.Warn("shutdown took too long, what is left is freed with the lease",
			"in_memory", g.InMemory, "unrecorded", g.Unrecorded)
	}
	return true
}

// checkDrained closes drained once nothing is in hand any more, or, if the lease
// is lost, nothing in flight. Reservations do not count: should they still be
// started, their rows are freed with the lease.
func (t *tenure) checkDrained() {
	switch t.phase {
	case draining:
		if t.busy > 0 || t.memory.count > t.memory.reserved || t.recorder.unrecorded() > 0 {
			return
		}
	case ending:
		if t.inFlight() > 0 {
			return
		}
	case working, over:
		return
	}
	select {
	case <-t.drained:
	default:
		close(t.drained)
	}
}

// inFlight is how many requests are.
func (t *tenure) inFlight() int { return t.slots.used[fast] + t.slots.used[slow] }

// stop ends everything and waits until it has ended.
func (t *tenure) stop() {
	t.mu.Lock()
	t.phase = over
	for _, l := range t.lanes {
		l.disarm()
	}
	if t.young.timer != nil {
		t.young.timer.Stop()
	}
	if t.recorder.quiet != nil {
		t.recorder.quiet.Stop()
	}
	t.errand.Broadcast()
	close(t.launches) // nothing is launched any more
	t.mu.Unlock()
	t.cutAttempts()
	t.cutTable()
	t.workers.Wait()
}

// lost ends the tenure: the lease has run out.
func (t *tenure) lost() { t.loseLease.Do(func() { close(t.leaseLost) }) }

func (t *tenure) reserve(id waypost.EndpointID) store.Place {
	ep := t.config.Directory.Endpoint(id)
	if ep == nil || !ep.Open() {
		return store.InTable
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != working {
		return store.Elsewhere
	}
	place := store.InHand
	if l := t.lanes[id]; l != nil {
		place = t.place(l)
	} else if t.cluster.share(id, t.limit(ep, ep.State)) == 0 {
		place = store.Elsewhere
	}
	if place == store.InHand {
		t.lane(id).reserved++
		t.memory.reserve(1)
	}
	return place
}

// place is where one more delivery from outside begins. While the table holds
// some that are due it joins them: they come first. Of those that can't be dealt
// with here soon the other nodes are told, now and then: they may have a share
// left.
func (t *tenure) place(l *lane) store.Place {
	now := t.now()
	switch t.look(l, now) {
	case open:
	case elsewhere:
		return store.Elsewhere
	default:
		return store.InTable
	}
	room := l.occupied() < t.depth(l) && (t.memory.room() > 0 || l.occupied() < l.share)
	switch {
	case room && !l.backlogged(now) && !l.late(now):
		return store.InHand
	case t.cluster.shared() && now.Sub(l.toldAt) >= lateAfter:
		l.toldAt = now
		return store.Elsewhere
	}
	return store.InTable
}

// lateAfter is how long a delivery may wait in memory before other nodes are
// asked for help, and the time between two such calls.
const lateAfter = 250 * time.Millisecond

// late tells that other nodes could be of help to the lane.
func (l *lane) late(now time.Time) bool {
	return l.share < l.limit && l.ready.len() > 0 && now.Sub(l.ready.all()[0].due) > lateAfter
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
	if t.ended() {
		return // the rows are freed with the lease
	}
	now := t.now()
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
	t.wakeLane(id, t.now())
}

// wakeLane tells a lane that the table holds a delivery due at the time.
func (t *tenure) wakeLane(id waypost.EndpointID, at time.Time) {
	if t.phase != working {
		return
	}
	l := t.lane(id)
	l.note(at, t.now())
	t.turn(l)
}

func (t *tenure) endpointChanged(id waypost.EndpointID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended() {
		return
	}
	now := t.now()
	l := t.lane(id)
	if l.gate == open {
		l.breaker.reset()
	}
	l.search(now)
	t.turn(l)
}

func (t *tenure) ready() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.phase != working:
		return errNotRunning
	case !t.recorder.failingSince.IsZero() && time.Since(t.recorder.failingSince) > patience:
		return fmt.Errorf("results of deliveries can't be written since %s", t.recorder.failingSince.UTC().Format(time.RFC3339))
	case time.Since(t.scanner.okAt) > max(patience, 4*t.config.Limits.Backstop):
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
