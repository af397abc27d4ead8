// Package retention forgets what is old, before the disk is full.
//
// The model. Bodies, attempts, whole events, dedupe keys and the audit trail each
// have a clock: how long they are kept. Every node looks now and then what has
// passed its clock and forgets it, in short steps with pauses between them, so
// that ingest hardly notices. What is still owed to anyone keeps all it has; the
// store sees to that.
//
// Besides, every node watches the room that the data takes. When it runs short
// (level Early), what is settled is forgotten before its time, oldest first:
// bodies and attempts, and whole events when that does not suffice. When it is
// nearly gone (level Full), Full tells ingest to refuse; what is owed is delivered
// all the same, and there is room again as it is.
//
// What happens on failure: a step that fails has changed nothing and is tried
// again in the next round. While the store can't tell how much room there is, the
// last level stays in force. Several nodes at it are as good as one.
package retention

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Clocks say how long each kind of data is kept. 0 is without end.
type Clocks struct {
	Bodies, Attempts, Events, Dedupe, Audit time.Duration
}

// leastDedupe is how long dedupe keys are kept at least: a day longer than Meta
// repeats what it sent.
const leastDedupe = 8 * 24 * time.Hour

// Options of a Keeper.
type Options struct {
	Store     store.Retention
	Clocks    Clocks
	DiskLimit int64 // bytes that the data may take; 0: what the file system has
	Log       *slog.Logger
	Now       func() time.Time
	Every     time.Duration // time between rounds; default a minute
	Watch     time.Duration // time between looks at the disk; default 5 s
}

// Keeper forgets in time. Its methods are safe for concurrent use.
type Keeper struct {
	o     Options
	full  atomic.Pointer[waypost.Error]
	tight chan struct{} // holds a token when the room has become short

	forgotten atomic.Int64 // rows

	mu    sync.Mutex
	usage store.Usage
	level Level
	spent bool // all that may be forgotten was, and it did not suffice
	blind bool // the room could not be measured the last time

	// Only the round at work uses these.
	limit int // rows a step
	ahead struct{ bodies, events waypost.EventID }
}

// New makes a Keeper. Nothing happens before Prepare or Run.
func New(o Options) *Keeper {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Every <= 0 {
		o.Every = time.Minute
	}
	if o.Watch <= 0 {
		o.Watch = 5 * time.Second
	}
	if o.Clocks.Dedupe > 0 {
		o.Clocks.Dedupe = max(o.Clocks.Dedupe, leastDedupe)
	}
	return &Keeper{o: o, limit: leastStep, tight: make(chan struct{}, 1)}
}

// Full is nil unless there is no room for more: then it says why.
func (k *Keeper) Full() error {
	if err := k.full.Load(); err != nil {
		return err
	}
	return nil
}

// Prepare readies the store for what is accepted next, and takes a first look at
// the disk. To be called before anything is accepted. It fails softly: Run does
// both again.
func (k *Keeper) Prepare(ctx context.Context) {
	if err := k.o.Store.Prepare(ctx, k.o.Now()); err != nil && ctx.Err() == nil {
		k.o.Log.Warn("the days ahead are not prepared", "error", err)
	}
	k.look(ctx)
}

// Run keeps at it until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	watching.Go(func() { k.watch(ctx) })
	defer watching.Wait()
	for {
		k.round(ctx)
		wait := k.o.Every/2 + rand.N(k.o.Every)
		if k.Gauges().Level > Calm {
			wait = k.o.Watch
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.tight:
		case <-time.After(wait):
		}
	}
}

func (k *Keeper) watch(ctx context.Context) {
	ticker := time.NewTicker(k.o.Watch)
	defer ticker.Stop()
	for {
		k.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// round forgets what has passed its clock and, if the room is short, more.
func (k *Keeper) round(ctx context.Context) {
	if err := k.o.Store.Prepare(ctx, k.o.Now()); err != nil && ctx.Err() == nil {
		k.o.Log.Warn("the days ahead are not prepared", "error", err)
	}
	if k.forget(ctx, k.horizons()) {
		k.relieve(ctx)
	}
}

// horizonStep is by how much horizons move at a time: the store looks through some
// things once for each.
const horizonStep = 5 * time.Minute

func (k *Keeper) horizons() store.Horizons {
	now := k.o.Now()
	before := func(age time.Duration) waypost.EventID {
		if age <= 0 {
			return 0
		}
		return waypost.FirstEventID(now.Add(-age).Truncate(horizonStep))
	}
	c := k.o.Clocks
	return store.Horizons{
		Bodies: before(c.Bodies), Attempts: before(c.Attempts), Events: before(c.Events),
		Dedupe: before(c.Dedupe), Audit: before(c.Audit),
	}
}

// Steps take as many rows as fit into stepTime, so that what else is written waits
// for no longer. Even where that is little, they are larger than the batches in
// which events come: taking turns with ingest, pruning is the faster of the two. It
// works a quarter of the time, and nearly all of it when room runs short.
const (
	leastStep = 800
	mostStep  = 4000
	stepTime  = 5 * time.Millisecond
	mostPause = 50 * time.Millisecond
)

// forget prunes until nothing is left before the horizons. It reports whether it
// got there. After each step it leaves the store to others for a while. They have
// their turn between any two steps in any case; the pause makes it a longer one.
func (k *Keeper) forget(ctx context.Context, h store.Horizons) bool {
	var sum store.Pruned
	begin := time.Now()
	defer func() { k.report(ctx, &sum, time.Since(begin)) }()
	for ctx.Err() == nil {
		start := time.Now()
		pruned, err := k.o.Store.Prune(ctx, h, k.limit)
		if err != nil {
			if ctx.Err() == nil {
				k.o.Log.Warn("what is old was not forgotten", "error", err)
			}
			return false
		}
		if !pruned.More {
			return true
		}
		add(&sum, &pruned)
		k.forgotten.Add(int64(rows(&pruned)))
		took := time.Since(start)
		if pruned.Partitions == 0 {
			k.adapt(took, rows(&pruned))
		}
		pause := 3 * took
		if k.Gauges().Level > Calm {
			pause = took / 8
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(pause, mostPause)):
		}
	}
	return false
}

// adapt makes steps smaller that took too long, and larger those that had their
// fill in much less time.
func (k *Keeper) adapt(took time.Duration, rows int) {
	switch {
	case took > 2*stepTime:
		k.limit = max(k.limit/2, leastStep)
	case took < stepTime && rows >= k.limit/8:
		k.limit = min(k.limit*3/2, mostStep)
	}
}

func rows(p *store.Pruned) int { return p.Bodies + p.Attempts + p.Events + p.Keys + p.Audit }

func add(sum, p *store.Pruned) {
	sum.Bodies += p.Bodies
	sum.Attempts += p.Attempts
	sum.Events += p.Events
	sum.Keys += p.Keys
	sum.Audit += p.Audit
	sum.Partitions += p.Partitions
}

func (k *Keeper) report(ctx context.Context, sum *store.Pruned, took time.Duration) {
	if rows(sum)+sum.Partitions == 0 {
		return
	}
	k.o.Log.DebugContext(ctx, "forgot what is old", "bodies", sum.Bodies, "attempts", sum.Attempts, "events", sum.Events,
		"keys", sum.Keys, "audit", sum.Audit, "partitions", sum.Partitions, "took", took)
}
