package ingest

import (
	"context"
	"slices"
	"sync"
	"time"
)

// What a request takes in memory. Measured on Split: the index of a request that
// is all small members comes to once its size, its items with their envelopes to
// twice, what is kept of each to half; what meta refuses as out of proportion
// lies at three and at eight times.
const (
	baseCost = 8 << 10 // whatever its size: goroutine, header, what is committed of it
	workCost = 8       // for each byte of its body, while it is taken apart
	itemCost = 512     // for each item besides its body, once it is
)

// patience is how long a request waits: for its turn to be taken apart, and in
// the committer's queue.
const patience = 10 * time.Second

// budget is memory that requests share. A request that is more than all of it has
// it for itself.
type budget struct {
	limit int64

	mu   sync.Mutex
	held int64
	line []*waiter // first come, first served
}

type waiter struct {
	bytes int64
	turn  chan struct{} // closed when it has them
}

// take takes bytes if they are free and nobody waits for them.
func (b *budget) take(bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.line) > 0 || !b.fits(bytes) {
		return false
	}
	b.held += bytes
	return true
}

func (b *budget) fits(bytes int64) bool { return b.held == 0 || b.held+bytes <= b.limit }

// wait takes bytes once they are free; false: they were not within patience, or
// ctx ended.
func (b *budget) wait(ctx context.Context, bytes int64) bool {
	if b.take(bytes) {
		return true
	}
	w := &waiter{bytes: bytes, turn: make(chan struct{})}
	b.mu.Lock()
	b.line = append(b.line, w)
	b.serve()
	b.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.turn:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return b.abandon(w)
}

// abandon leaves the line; true: the turn had come meanwhile.
func (b *budget) abandon(w *waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.line, w)
	if i < 0 {
		return true
	}
	b.line = slices.Delete(b.line, i, i+1)
	b.serve()
	return false
}

// give gives bytes back; a negative number is taken, whether it fits or not.
func (b *budget) give(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= bytes
	b.serve()
}

func (b *budget) serve() {
	for len(b.line) > 0 && b.fits(b.line[0].bytes) {
		b.held += b.line[0].bytes
		close(b.line[0].turn)
		b.line = slices.Delete(b.line, 0, 1)
	}
}

// intake is what one request holds of the two halves of the memory: of arriving
// while its body comes in, as much as has come; then of working, which it holds
// until it is answered. So a body that trickles holds little, and a crowd of
// bodies can't keep those from being finished that have come.
type intake struct {
	arriving, working *budget
	came, has         int64
}

// arrive takes memory for more of the body.
func (t *intake) arrive(bytes int64) bool {
	if !t.arriving.take(bytes) {
		return false
	}
	t.came += bytes
	return true
}

// work takes memory for what is made of a body that has come.
func (t *intake) work(ctx context.Context, size int) bool {
	bytes := baseCost + workCost*int64(size)
	if !t.working.wait(ctx, bytes) {
		return false
	}
	t.has = bytes
	t.arriving.give(t.came)
	t.came = 0
	return true
}

// settle corrects what the request holds to what it takes now.
func (t *intake) settle(bytes int64) {
	t.working.give(t.has - bytes)
	t.has = bytes
}

// leave gives all of it back.
func (t *intake) leave() {
	t.arriving.give(t.came)
	t.working.give(t.has)
	t.came, t.has = 0, 0
}
