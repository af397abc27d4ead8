// Package node is this process's membership among the nodes that share a store.
//
// A node holds a lease and renews it well before it runs out. While it holds
// the lease it may accept events and work on deliveries, and with each renewal it
// learns which other nodes there are and tells them whom it takes into account.
//
// When renewals fail the node stops by itself, by a clock that nobody sets and
// before the lease can have run out: what it had in hand is then taken over by
// others, and must not be worked on twice. It gives the old lease up for good,
// reads anew what may have changed meanwhile, joins under a new id and starts
// afresh. Nothing is lost by that; a delivery may be repeated.
package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Work is what a node does under its lease; delivery.Engine is it.
type Work interface {
	// Run works under the lease of node until ctx ends. When lost is closed, or
	// the store says that the lease is lost, it soon returns store.ErrLeaseLost
	// with nothing left under way.
	Run(ctx context.Context, node waypost.NodeID, lost <-chan struct{}) error
	// Members tells which leases are live. It gives the newest node that is taken
	// into account from here on in whatever is done under the lease, and whether
	// that settles it; if not, it is called again soon.
	Members(members []store.Member) (seen waypost.NodeID, settled bool)
}

// Options of a Node. The zero value works.
type Options struct {
	TTL   time.Duration // how long a lease lasts; default 6 s
	Renew time.Duration // time between renewals; default a sixth of TTL
	// Refresh is called before the node joins again. nil: there is nothing to do.
	Refresh func(ctx context.Context) error
	Log     *slog.Logger
	Now     func() time.Time
}

// Node is one run of the process. Its methods are safe for concurrent use.
type Node struct {
	leases  store.Nodes
	options Options
	current atomic.Pointer[membership]
	members atomic.Int64
	wall    time.Time    // our clock at the start
	started time.Time    // the same moment by the clock that nobody sets
	ahead   atomic.Int64 // nanoseconds that the store's clock is ahead of what ours should have come to
}

type membership struct {
	id  waypost.NodeID
	ids *waypost.IDs
}

// New makes a node that has not joined yet.
func New(leases store.Nodes, options Options) *Node {
	if options.TTL <= 0 {
		options.TTL = 6 * time.Second
	}
	if options.Renew <= 0 {
		options.Renew = options.TTL / 6
	}
	if options.Refresh == nil {
		options.Refresh = func(context.Context) error { return nil }
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Node{leases: leases, options: options, wall: options.Now().Round(0), started: time.Now()}
}

// ID is the node's present id, or the last one while it joins again; the store
// knows whether that is worth anything.
func (n *Node) ID() waypost.NodeID {
	if m := n.current.Load(); m != nil {
		return m.id
	}
	return 0
}

// NextID makes an id for a new row. It must not be called before Join has
// succeeded once.
func (n *Node) NextID() int64 { return n.current.Load().ids.Next() }

// Now is the time that all nodes share, so that what one node puts off is due for
// another at the same time: our clock at the start and what has passed since, set
// right by the store's clock when the two are more than a moment apart. Setting our
// own clock later changes nothing.
func (n *Node) Now() time.Time { return n.unset().Add(time.Duration(n.ahead.Load())) }

func (n *Node) unset() time.Time { return n.wall.Add(time.Since(n.started)) }

const (
	// apart is what the clocks may differ before it matters.
	apart = 250 * time.Millisecond
	// compareEvery is how often they are compared.
	compareEvery = 10 * time.Second
)

// compare sets our clock right by the store's. The reading lies somewhere between
// question and answer, so a slow answer tells less.
func (n *Node) compare(ctx context.Context) {
	asked := n.unset()
	theirs, err := n.leases.Clock(ctx)
	if err != nil {
		return // the renewal says so
	}
	took := n.unset().Sub(asked)
	ahead := theirs.Sub(asked.Add(took / 2))
	if difference := (ahead - time.Duration(n.ahead.Load())).Abs(); difference > apart+took {
		n.options.Log.Warn("this machine's clock and the database's are apart; the database's counts", "ahead", ahead.String())
		n.ahead.Store(int64(ahead))
	}
}

// Members is how many nodes hold a lease, as last heard.
func (n *Node) Members() int { return int(n.members.Load()) }

// Join takes a first lease, so that NextID works before Run.
func (n *Node) Join(ctx context.Context) error {
	id, slot, floor, err := n.leases.Join(ctx, n.options.TTL, n.Now())
	if err != nil {
		return err
	}
	n.compare(ctx)
	if m := n.current.Load(); m != nil {
		floor = max(floor, m.ids.Next())
	}
	ids, err := waypost.NewIDs(slot, floor, n.Now)
	if err != nil {
		return err
	}
	n.current.Store(&membership{id: id, ids: ids})
	n.options.Log.Info("node joined", "node", id.String(), "slot", slot)
	return nil
}

// Run keeps the lease and runs work under it, again and again under new ids if
// the lease is lost, until ctx ends. The lease is given back at the end.
func (n *Node) Run(ctx context.Context, work Work) error {
	for {
		id := n.ID()
		err := n.hold(ctx, id, work)
		lost := errors.Is(err, store.ErrLeaseLost)
		switch {
		case lost && ctx.Err() == nil:
			n.options.Log.Warn("lease lost, joining again", "node", id.String())
			if !n.rejoin(ctx, id) {
				return nil
			}
			continue
		case lost:
			err = nil
		}
		n.leave(ctx, id)
		return err
	}
}

// hold runs work while it keeps the lease.
func (n *Node) hold(ctx context.Context, id waypost.NodeID, work Work) error {
	lost := make(chan struct{})
	// The lease outlives ctx: work that drains after ctx has ended still needs it
	// to write back.
	keepCtx, end := context.WithCancel(context.WithoutCancel(ctx))
	var keeping sync.WaitGroup
	keeping.Go(func() {
		if n.keep(keepCtx, id, work) {
			close(lost)
		}
	})
	keeping.Go(func() { n.adopt(keepCtx) })
	keeping.Go(func() { n.keepTime(keepCtx) })
	err := work.Run(ctx, id, lost)
	end()
	keeping.Wait()
	return err
}

// soon is the time between renewals when a renewal failed or nodes wait for one
// another.
const soon = 200 * time.Millisecond

// keep renews the lease until ctx ends (false) or it is lost (true). The lease
// counts as lost when a sixth of it is left, which is for ending what is under
// way. What the store has granted lasts at least TTL from when it was asked for,
// whatever its clock says.
func (n *Node) keep(ctx context.Context, id waypost.NodeID, work Work) (lost bool) {
	safe := n.options.TTL - n.options.TTL/6
	// Work starts with the first answer, whatever is left of the lease till then.
	until := time.Now().Add(safe)
	var seen waypost.NodeID
	for {
		asked := time.Now()
		wait := min(soon, n.options.Renew)
		members, err := n.renew(ctx, id, seen, until)
		switch {
		case ctx.Err() != nil:
			return false
		case errors.Is(err, store.ErrLeaseLost):
			return true
		case err != nil:
			n.options.Log.Warn("lease not renewed", "node", id.String(), "error", err)
		default:
			until = asked.Add(safe)
			n.members.Store(int64(len(members)))
			told := seen
			var settled bool
			seen, settled = work.Members(members)
			switch {
			case seen != told:
				wait = 0 // others may be waiting to hear it
			case settled:
				wait = n.options.Renew
			}
		}
		if !pause(ctx, min(wait, time.Until(until))) {
			return false
		}
		if !time.Now().Before(until) {
			return true
		}
	}
}

func (n *Node) renew(ctx context.Context, id, seen waypost.NodeID, until time.Time) ([]store.Member, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return n.leases.Renew(ctx, id, n.options.TTL, n.Now(), seen)
}

// pause reports false if ctx ends first.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// adopt frees, again and again until ctx ends, what nodes whose lease has run out
// had in hand.
func (n *Node) adopt(ctx context.Context) {
	for {
		adopted, err := n.leases.Adopt(ctx, n.Now())
		switch {
		case err != nil && ctx.Err() == nil:
			n.options.Log.Warn("dead nodes not adopted", "error", err)
		case adopted > 0:
			n.options.Log.Info("adopted deliveries of dead nodes", "deliveries", adopted)
		}
		if !pause(ctx, n.options.Renew) {
			return
		}
	}
}

// keepTime compares the clocks again and again until ctx ends.
func (n *Node) keepTime(ctx context.Context) {
	for pause(ctx, compareEvery) {
		n.compare(ctx)
	}
}

// rejoin takes a new lease, for as long as it takes; false if ctx ended first.
func (n *Node) rejoin(ctx context.Context, old waypost.NodeID) bool {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := n.again(ctx, old)
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			n.options.Log.Warn("not joined", "error", err)
		}
		if !pause(ctx, wait) {
			return false
		}
	}
}

// again joins after the old lease is ended, whether it had run out already or
// not: then what was in its hand is free, and what is known of it can be written.
func (n *Node) again(ctx context.Context, old waypost.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, n.options.TTL)
	defer cancel()
	if err := n.leases.Leave(ctx, old, n.Now()); err != nil {
		return err
	}
	if err := n.options.Refresh(ctx); err != nil {
		return err
	}
	return n.Join(ctx)
}

func (n *Node) leave(ctx context.Context, id waypost.NodeID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := n.leases.Leave(ctx, id, n.Now()); err != nil {
		n.options.Log.Warn("lease not given back; it will run out by itself", "node", id.String(), "error", err)
	}
}
