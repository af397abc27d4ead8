// Package delivery is the engine that gets owed deliveries to their endpoints:
// it encodes, sends, judges the answer, records the outcome and reschedules.
//
// The model. Each endpoint with work has a lane: a queue of its own, at most a
// few requests in flight, goroutines only while something is in flight, nothing
// in memory while it is idle. What a lane has in memory is in this node's hand
// in the table; everything else that is owed is in nobody's hand and is taken
// in pages as the lane drains. A delivery goes from hand to hand only by
// Take and Settle, so that at any moment the table says who works on it.
//
// One path finds work: a lane learns that the table holds something due (from
// Wake, from a result written back, from the regular look at Queue.Due) and
// takes it. A restart, a dead node's work, a missed wake-up and a retry whose
// time has come are all the same case.
//
// Results are written back in order, in batches, on a clock of their own. A
// delivery is never in two results that are not written yet: even a retry "at
// once" starts after the attempt before it is on record.
//
// Several nodes work on one table. Each endpoint's limit of requests in flight is
// divided among those whose lease is live (see cluster), so that it holds for all
// of them together. A node without a share of an endpoint sends nothing to it and
// keeps nothing of it in memory.
//
// An endpoint that is resumed gets its backlog at a pace that rises while all
// goes well (see ramp), in the order that was asked for, and without what is
// older than was asked for.
//
// What happens on failure. The store is down: results stay in memory and are
// offered again, and when too many wait, or for too long, no new attempt starts.
// The lease is lost: requests in flight get a moment to end, Run returns
// store.ErrLeaseLost, and whoever holds a lease takes the work over; a delivery
// may be repeated, none is lost. The results that could not be written are the
// first thing that the next Run writes, as far as the deliveries are still to be
// had. The wall clock is set: due times follow it forward and never back. A
// receiver hangs: after half a second its requests count against a budget of
// their own, so that the others do not wait for it. A receiver is down: the
// breaker holds its lane and probes it now and then, on one node. A dialect
// panics: that delivery is given up, visibly.
package delivery

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Queue is the part of store.Queue that the engine needs.
type Queue interface {
	Take(ctx context.Context, node waypost.NodeID, endpoint waypost.EndpointID, now time.Time, limit int, order store.Order) ([]store.Owed, error)
	Due(ctx context.Context) ([]store.Due, error)
	Settle(ctx context.Context, node waypost.NodeID, results []store.Result) (store.Settled, error)
	Drop(ctx context.Context, endpoint waypost.EndpointID, before waypost.EventID, reason waypost.Reason, now time.Time, limit int) (int, error)
}

// Directory is what is configured. It hands out snapshots that never change,
// without waiting for anything, and nil for what it does not know.
type Directory interface {
	Endpoint(id waypost.EndpointID) *waypost.Endpoint
	Number(id waypost.NumberID) *waypost.Number
	Tenant(id waypost.TenantID) *waypost.Tenant
}

// Sender makes the requests; egress.Client is one. Send comes back soon after
// ctx ends, or the request's Timeout is over, and its answer says how long it took.
type Sender interface {
	Send(ctx context.Context, r egress.Request) egress.Answer
}

// States keeps what the engine finds out about endpoints. The change is in
// force when SetState returns. It moves active to tripped, tripped to active,
// and either to disabled. What was found out of an endpoint as it was last changed
// at seen says nothing of one that was changed since, by hand for instance: then
// nothing happens, and that is no error.
type States interface {
	SetState(ctx context.Context, endpoint waypost.EndpointID, state waypost.EndpointState, reason string, seen time.Time) error
}

// Observer counts. Its methods must not block.
type Observer interface {
	// Attempted is called once for each request made.
	Attempted(dialect string, outcome waypost.Outcome, reason waypost.Reason, took time.Duration)
	// Lost is called with the number of results that were not written because
	// the delivery was not in this node's hand any more.
	Lost(results int)
}

// Config is what an Engine works with. Queue, Directory, Dialects, Sender and
// States are required.
type Config struct {
	Queue     Queue
	Directory Directory
	Dialects  func(id string) dialect.Dialect // nil for an unknown id
	Sender    Sender
	States    States
	// MediaURL makes dialect.Item.MediaURL for an event of a number. nil, or nil
	// for the number: no links are given.
	MediaURL func(event *waypost.Event, number *waypost.Number) func(mediaID string) string
	// Open gives the event as hooks are to be written of it, with what is stored
	// sealed in clear; the event itself stays as it is. nil: nothing is sealed.
	Open func(event *waypost.Event) (*waypost.Event, error)
	// Strain is how many times longer than usual accepts have lately taken, 0 if
	// there were none. What is taken from the table gives way to them. nil: it
	// does not.
	Strain   func() float64
	Log      *slog.Logger
	Observer Observer
	Now      func() time.Time
	Limits   Limits
	Breaker  BreakerConfig
}

// Limits bound what the engine uses. Zero members get their default.
type Limits struct {
	InFlight  int           // requests at a time to one endpoint that sets no limit of its own, over all nodes; default 4
	FastSlots int           // requests at a time to endpoints that answer quickly; default 512
	SlowSlots int           // requests at a time to those that do not; default 2048
	SlowAfter time.Duration // a request older than this makes its endpoint slow; default 500 ms

	LaneMemory  int   // deliveries of one endpoint in memory; default 1024
	Memory      int   // deliveries in memory; default 65536
	MemoryBytes int64 // bytes of event bodies in memory; default 128 MiB

	FlushEvery       time.Duration // how long a result waits to be written at most; a tenth of it if nothing is in flight any more; default 50 ms
	FlushAt          int           // results that are written without waiting, and at once; default 512
	MaxUnrecorded    int           // results not written at which no new attempt starts; default 8192
	MaxUnrecordedFor time.Duration // no new attempt starts while none of them could be written for so long; default 1 s

	RampRate int           // requests a second to an endpoint right after a resume, over all nodes; default 10
	RampStep time.Duration // after each such time that goes well it is twice as many; default 2 s

	InHandWait      time.Duration // retries due within this stay in memory; default 1 s
	Backstop        time.Duration // time between looks at Queue.Due; default 5 s
	ExpireEvery     time.Duration // time between looks for what waits too long without a URL; default 1 min
	ShutdownTimeout time.Duration // default 10 s
	LostTimeout     time.Duration // how long requests in flight may go on when the lease is lost; default 500 ms
}

func (l *Limits) setDefaults() {
	setDefault(&l.InFlight, 4)
	setDefault(&l.FastSlots, 512)
	setDefault(&l.SlowSlots, 2048)
	setDefault(&l.SlowAfter, 500*time.Millisecond)
	setDefault(&l.LaneMemory, 1024)
	setDefault(&l.Memory, 65536)
	setDefault(&l.MemoryBytes, 128<<20)
	setDefault(&l.FlushEvery, 50*time.Millisecond)
	setDefault(&l.FlushAt, 512)
	setDefault(&l.MaxUnrecorded, 8192)
	setDefault(&l.MaxUnrecordedFor, time.Second)
	setDefault(&l.RampRate, 10)
	setDefault(&l.RampStep, 2*time.Second)
	setDefault(&l.InHandWait, time.Second)
	setDefault(&l.Backstop, 5*time.Second)
	setDefault(&l.ExpireEvery, time.Minute)
	setDefault(&l.ShutdownTimeout, 10*time.Second)
	setDefault(&l.LostTimeout, 500*time.Millisecond)
}

func setDefault[T int | int64 | time.Duration](value *T, fallback T) {
	if *value <= 0 {
		*value = fallback
	}
}

// Engine delivers. Its methods are safe for concurrent use.
type Engine struct {
	config  Config
	clock   clock
	running sync.Mutex
	carried *[]store.Result        // what a tenure that lost its lease could not write; nil: the last one did not lose it. Guarded by running
	tenure  atomic.Pointer[tenure] // nil while it does not run
}

// New makes an engine that does nothing until Run.
func New(c Config) *Engine {
	c.Limits.setDefaults()
	c.Breaker.setDefaults()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("component", "delivery")
	if c.Observer == nil {
		c.Observer = nobody{}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	e := &Engine{config: c}
	e.clock.start(c.Now)
	return e
}

// nobody is the Observer where there is none.
type nobody struct{}

func (nobody) Attempted(string, waypost.Outcome, waypost.Reason, time.Duration) {}
func (nobody) Lost(int)                                                         {}

// Run delivers under the lease of node, from when Members lists it. When ctx
// ends it lets requests in flight finish, hands back the rest, and returns nil
// within Limits.ShutdownTimeout. When the lease is lost (told by the store, or by
// lost being closed) it ends what is in flight within Limits.LostTimeout, drops
// the rest and returns store.ErrLeaseLost; the caller gives the old lease up for
// good, joins again and calls Run with the new id.
func (e *Engine) Run(ctx context.Context, node waypost.NodeID, lost <-chan struct{}) error {
	if !e.running.TryLock() {
		return errors.New("run delivery engine: it is running already")
	}
	defer e.running.Unlock()
	t := newTenure(&e.config, &e.clock, node, e.carried)
	e.carried = nil
	e.tenure.Store(t)
	err := t.run(ctx, lost)
	e.tenure.Store(nil)
	if errors.Is(err, store.ErrLeaseLost) {
		carried := t.unwritten()
		e.carried = &carried
	}
	return err
}

// Members tells which nodes hold a lease. It gives the newest of them that is
// counted in whatever is sent from here on and of which nothing more is in flight
// than that allows, and whether that settles it: if not, some request has to end
// first, or other nodes have to make room for this one, and the caller asks again
// soon.
func (e *Engine) Members(members []store.Member) (seen waypost.NodeID, settled bool) {
	if t := e.tenure.Load(); t != nil {
		return t.members(members)
	}
	return 0, false
}

// Reserve is asked before a delivery is accepted: where does it begin? If in
// hand, Start or Unreserve must follow. If not, the row belongs in nobody's
// hand, and Wake must follow.
func (e *Engine) Reserve(endpoint waypost.EndpointID) store.Place {
	if t := e.tenure.Load(); t != nil {
		return t.reserve(endpoint)
	}
	return store.Elsewhere
}

// Unreserve takes a reservation back: the accept failed or was a duplicate.
func (e *Engine) Unreserve(endpoint waypost.EndpointID) {
	if t := e.tenure.Load(); t != nil {
		t.unreserve(endpoint)
	}
}

// Start begins deliveries that were reserved and are now committed in this
// node's hand.
func (e *Engine) Start(owed []store.Owed) {
	if t := e.tenure.Load(); t != nil {
		t.start(owed)
	}
}

// Wake tells that a delivery of the endpoint is due and in nobody's hand.
func (e *Engine) Wake(endpoint waypost.EndpointID) {
	if t := e.tenure.Load(); t != nil {
		t.wake(endpoint)
	}
}

// Rescan looks soon for work of any endpoint; for when another node may have
// released some.
func (e *Engine) Rescan() {
	if t := e.tenure.Load(); t != nil {
		t.scanner.request()
	}
}

// EndpointChanged tells that the Directory has a new snapshot of the endpoint.
// It must not be called with a lock held that Directory.Endpoint needs.
func (e *Engine) EndpointChanged(endpoint waypost.EndpointID) {
	if t := e.tenure.Load(); t != nil {
		t.endpointChanged(endpoint)
	}
}

var errNotRunning = errors.New("the delivery engine does not run")

// Ready is nil while the engine takes up work and records results, and else
// says what is the matter.
func (e *Engine) Ready() error {
	if t := e.tenure.Load(); t != nil {
		return t.ready()
	}
	return errNotRunning
}

// Gauges are figures of the moment.
type Gauges struct {
	Lanes        int   // endpoints with work in memory or a wake-up set
	InMemory     int   // deliveries in this node's hand, in memory
	MemoryBytes  int64 // bytes of their events' bodies
	FastInFlight int   // requests in flight to endpoints that answer quickly
	SlowInFlight int   // requests in flight to those that do not
	WaitingLanes int   // endpoints with work that wait for a slot
	Unrecorded   int   // results not written yet
}

// Gauges reads the figures.
func (e *Engine) Gauges() Gauges {
	if t := e.tenure.Load(); t != nil {
		return t.gauges()
	}
	return Gauges{}
}
