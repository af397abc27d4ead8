package ingest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Batches end at whichever limit comes first. They form by themselves while the
// one before is being committed. Only in a crowd does a batch wait a moment for
// more: a commit costs about the same for one event as for sixty. It waits for as
// many as are known to be there, and no longer.
const (
	maxBatchEvents = 256
	maxBatchBytes  = 1 << 20
	crowd          = 16                    // requests waiting at a time that make a crowd
	comeBack       = 50 * time.Microsecond // for each of a crowd, in which all of it has come again
	minLinger      = 2 * time.Millisecond
	maxLinger      = 5 * time.Millisecond
)

// Accepter is the part of the store that takes events in.
type Accepter interface {
	Accept(ctx context.Context, node waypost.NodeID, batch []store.Arrival) ([]store.Receipt, error)
}

// Engine is the part of the delivery engine that starts first attempts from
// memory.
type Engine interface {
	Reserve(endpoint waypost.EndpointID) store.Place
	Unreserve(endpoint waypost.EndpointID)
	Start(owed []store.Owed)
	Wake(endpoint waypost.EndpointID)
}

// Member says who this node is; see package node.
type Member interface {
	ID() waypost.NodeID
	NextID() int64
}

// Committer gathers what concurrent requests bring into group commits: one
// transaction, and one wait for the disk, for as many as came in meanwhile. It
// gives events their ids right before the commit, one batch at a time, so that
// commit order is id order.
type Committer struct {
	store  Accepter
	engine Engine
	node   Member
	queue  queue
	late   *time.Timer // for the batch to go without the rest

	arrivals    []store.Arrival // of one batch, used again for the next
	submissions sync.Pool

	commits, events atomic.Int64
	strain          strain
}

type submission struct {
	arrivals []store.Arrival
	bytes    int
	since    time.Time
	receipts []store.Receipt
	err      error
	ready    chan struct{} // filled once receipts and err are there; the committer has done with it then
}

// outcome is what became of a submission, which ends its use.
func (c *Committer) outcome(s *submission) ([]store.Receipt, error) {
	receipts, err := s.receipts, s.err
	*s = submission{ready: s.ready}
	c.submissions.Put(s)
	return receipts, err
}

// NewCommitter makes a committer; Run must be running for Commit to return.
func NewCommitter(accepter Accepter, engine Engine, node Member) *Committer {
	return &Committer{
		store:  accepter,
		engine: engine,
		node:   node,
		queue:  queue{wake: make(chan struct{}, 1)},
		late:   time.NewTimer(0),

		submissions: sync.Pool{New: func() any { return &submission{ready: make(chan struct{}, 1)} }},
	}
}

var (
	errClosed = &waypost.Error{Kind: waypost.KindUnavailable, Message: "shutting down; try again"}
	errLate   = &waypost.Error{Kind: waypost.KindUnavailable, Message: "the store is too slow; try again"}
)

// Commit returns once all arrivals are on disk, in one transaction. On an
// error none is, as far as can be told: if the connection to the store broke in
// the middle they may be, which the sender's retry turns into duplicates. Once
// they are in the queue it waits for what becomes of them even if ctx ends, so
// that the queue holds nothing that nobody answers for in memory; it is not
// long, for what has waited out its patience is not committed any more.
func (c *Committer) Commit(ctx context.Context, arrivals []store.Arrival) ([]store.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, &waypost.Error{Kind: waypost.KindUnavailable, Message: "gave up waiting", Err: err}
	}
	s := c.submissions.Get().(*submission)
	s.arrivals, s.since = arrivals, time.Now()
	for i := range arrivals {
		s.bytes += len(arrivals[i].Event.Body)
	}
	if c.queue.put(s) {
		<-s.ready
	} else {
		s.err = errClosed
	}
	return c.outcome(s)
}

// Commits is how many commits were asked for so far, and with how many events.
func (c *Committer) Commits() (commits, events int64) { return c.commits.Load(), c.events.Load() }

// Run commits until ctx ends, and then what is still in the queue.
func (c *Committer) Run(ctx context.Context) error {
	batch := make([]*submission, 0, maxBatchEvents)
	waiting, answered := 0, time.Time{} // requests, at the end of the commit before; and when that was
	for c.queue.begin(ctx) {
		if waiting >= crowd {
			c.linger(waiting, answered)
		}
		batch = punctual(c.queue.take(batch[:0]))
		waiting, answered = c.commit(batch), time.Now()
	}
	return nil
}

// linger waits for as many as were seen waiting last to come again, as they do as
// soon as they are answered. They have little time for it: requests that come more
// slowly are no crowd, and must not seem one because they are waited for. How long
// none came says nothing: a machine that is busy with what was accepted before may
// take longer than that to hear of them.
func (c *Committer) linger(last int, answered time.Time) {
	c.late.Reset(time.Until(answered.Add(lingerFor(last))))
	c.queue.await(last, nil, c.late.C)
}

// lingerFor is how long so many are waited for at most.
func lingerFor(requests int) time.Duration {
	return min(max(minLinger, time.Duration(requests)*comeBack), maxLinger)
}

// punctual lets those go who have waited too long: their senders have given up,
// and while a store that hardly works is kept busy with them, so would the others.
func punctual(batch []*submission) []*submission {
	now := time.Now()
	return slices.DeleteFunc(batch, func(s *submission) bool {
		late := now.Sub(s.since) > patience
		if late {
			s.err = errLate
			s.ready <- struct{}{}
		}
		return late
	})
}

// commitTimeout bounds one transaction; a store that takes longer is answered
// for as unavailable, and the sender comes back.
const commitTimeout = 10 * time.Second

// commit commits a batch. It gives how many requests waited for a commit at its
// end, those of the batch included.
func (c *Committer) commit(batch []*submission) (waiting int) {
	if len(batch) == 0 {
		return 0
	}
	arrivals := batch[0].arrivals
	if len(batch) > 1 {
		arrivals = c.arrivals[:0]
		for _, s := range batch {
			arrivals = append(arrivals, s.arrivals...)
		}
		defer func() { // nothing of it is needed once this returns
			c.arrivals = arrivals
			clear(arrivals)
		}()
	}
	for i := range arrivals {
		arrivals[i].Event.ID = waypost.EventID(c.node.NextID())
		for j := range arrivals[i].Owed {
			owing := &arrivals[i].Owed[j]
			if owing.Place = store.InTable; owing.After == 0 {
				owing.Place = c.engine.Reserve(owing.Endpoint)
			}
		}
	}
	c.commits.Add(1)
	c.events.Add(int64(len(arrivals)))
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	receipts, err := c.store.Accept(ctx, c.node.ID(), arrivals)
	cancel()
	if now := time.Now(); err == nil { // a store that is away fails quickly, which is not what is usual
		c.strain.add(len(arrivals), now.Sub(began), now)
	}
	waiting = len(batch) + c.queue.len()
	c.answer(batch, receipts, err)
	c.start(arrivals, receipts, err)
	return waiting
}

// answer lets the waiting requests go.
func (c *Committer) answer(batch []*submission, receipts []store.Receipt, err error) {
	if err != nil && waypost.KindOf(err) != waypost.KindUnavailable {
		// Whatever went wrong, nothing was stored: the sender has to come back.
		err = &waypost.Error{Kind: waypost.KindUnavailable, Message: "the event could not be stored", Err: err}
	}
	for _, s := range batch {
		if s.err = err; err == nil {
			s.receipts, receipts = receipts[:len(s.arrivals)], receipts[len(s.arrivals):]
		}
		s.ready <- struct{}{}
	}
}

// start hands what is now owed to the engine, or takes the reservations back.
func (c *Committer) start(arrivals []store.Arrival, receipts []store.Receipt, err error) {
	owed := make([]store.Owed, 0, len(arrivals))
	for i := range arrivals {
		stored := err == nil && !receipts[i].Duplicate
		for _, owing := range arrivals[i].Owed {
			switch {
			case owing.Place == store.InHand && stored:
				event := arrivals[i].Event
				owed = append(owed, store.Owed{Event: &event, Endpoint: owing.Endpoint})
			case owing.Place == store.InHand:
				c.engine.Unreserve(owing.Endpoint)
			case stored && owing.After == 0:
				c.engine.Wake(owing.Endpoint)
			}
		}
	}
	if len(owed) > 0 {
		c.engine.Start(owed)
	}
}
