// Package node is this process's membership among the nodes that share a store.
//
// A node holds a lease and renews it well before it runs out. While it holds
// the lease it may accept events and work on deliveries. When a renewal comes
// too late the node is no longer who it was: other nodes may have taken over
// its work, so it stops, drops what it had in hand, joins again under a new id
// and starts afresh. Nothing is lost by that; a delivery may be repeated.
package node

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Options of a Node. The zero value works.
type Options struct {
	TTL   time.Duration // how long a lease lasts; default 6 s
	Renew time.Duration // time between renewals; default a third of TTL
	Log   *slog.Logger
	Now   func() time.Time
}

// Node is one run of the process. Its methods are safe for concurrent use.
type Node struct {
	leases  store.Nodes
	options Options
	current atomic.Pointer[membership]
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
		options.Renew = options.TTL / 3
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Node{leases: leases, options: options}
}

// ID is the node's present id, or 0 while it holds no lease.
func (n *Node) ID() waypost.NodeID {
	if m := n.current.Load(); m != nil {
		return m.id
	}
	return 0
}

// NextID makes an id for a new row. It must not be called before Join has
// succeeded once.
func (n *Node) NextID() int64 { return n.current.Load().ids.Next() }

// Join takes a first lease, so that NextID works before Run.
func (n *Node) Join(ctx context.Context) error {
	id, slot, floor, err := n.leases.Join(ctx, n.options.TTL, n.options.Now())
	if err != nil {
		return err
	}
	if m := n.current.Load(); m != nil {
		floor = max(floor, m.ids.Next())
	}
	ids, err := waypost.NewIDs(slot, floor, n.options.Now)
	if err != nil {
		return err
	}
	n.current.Store(&membership{id: id, ids: ids})
	n.options.Log.Info("node joined", "node", id.String(), "slot", slot)
	return nil
}

// Run keeps the lease and runs work under it, again and again under new ids if
// the lease is lost, until ctx ends. work must return soon after its context
// ends. The lease is given back at the end.
func (n *Node) Run(ctx context.Context, work func(context.Context, waypost.NodeID) error) error {
	for {
		id := n.ID()
		err := n.hold(ctx, id, work)
		if !errors.Is(err, store.ErrLeaseLost) {
			n.leave(ctx, id)
			return err
		}
		n.options.Log.Warn("lease lost, joining again", "node", id.String())
		if err := n.rejoin(ctx); err != nil {
			return nil //nolint:nilerr // the context ended while there was no lease to give back
		}
	}
}

// hold runs work while it renews the lease of id.
func (n *Node) hold(ctx context.Context, id waypost.NodeID, work func(context.Context, waypost.NodeID) error) error {
	workCtx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	renewed := make(chan struct{})
	// Renewal outlives ctx: work that drains after ctx has ended still needs
	// the lease to write back.
	renewCtx, endRenewal := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(renewed)
		if n.renew(renewCtx, id) {
			stop(store.ErrLeaseLost)
		}
	}()
	err := work(workCtx, id)
	endRenewal()
	<-renewed
	if errors.Is(context.Cause(workCtx), store.ErrLeaseLost) {
		return store.ErrLeaseLost
	}
	return err
}

// renew keeps the lease until ctx ends (false) or it is lost (true). A renewal
// that fails for another reason is tried again as long as the lease can still
// be alive.
func (n *Node) renew(ctx context.Context, id waypost.NodeID) (lost bool) {
	ticker := time.NewTicker(n.options.Renew)
	defer ticker.Stop()
	n.adopt(ctx)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
		_, err := n.leases.Renew(ctx, id, n.options.TTL, n.options.Now(), 0)
		switch {
		case ctx.Err() != nil:
			return false
		case errors.Is(err, store.ErrLeaseLost):
			return true
		case err != nil:
			n.options.Log.Warn("lease not renewed", "node", id.String(), "error", err)
		default:
			n.adopt(ctx)
		}
	}
}

// adopt frees what nodes whose lease has run out had in hand.
func (n *Node) adopt(ctx context.Context) {
	adopted, err := n.leases.Adopt(ctx, n.options.Now())
	switch {
	case err != nil && ctx.Err() == nil:
		n.options.Log.Warn("dead nodes not adopted", "error", err)
	case adopted > 0:
		n.options.Log.Info("adopted deliveries of dead nodes", "deliveries", adopted)
	}
}

func (n *Node) rejoin(ctx context.Context) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := n.Join(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		n.options.Log.Warn("not joined", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (n *Node) leave(ctx context.Context, id waypost.NodeID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := n.leases.Leave(ctx, id, n.options.Now()); err != nil {
		n.options.Log.Warn("lease not given back; it will run out by itself", "node", id.String(), "error", err)
	}
}
