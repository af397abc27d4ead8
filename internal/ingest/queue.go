package ingest

import (
	"context"
	"slices"
	"sync"
	"time"
)

// queue holds what waits for its commit. One goroutine takes, and is not woken
// before what it waits for is there: waking it costs more than all else here.
type queue struct {
	mu            sync.Mutex
	waiting       []*submission
	events, bytes int // of those that wait
	wanted        int // so many have to wait for the taker to be woken; 0: it is awake
	closed        bool
	wake          chan struct{} // room for one
}

// put adds a submission; false: the queue is closed.
func (q *queue) put(s *submission) bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.waiting = append(q.waiting, s)
	q.events += len(s.arrivals)
	q.bytes += s.bytes
	wakes := q.wanted > 0 && q.holds(q.wanted)
	if wakes {
		q.wanted = 0
	}
	q.mu.Unlock()
	if wakes {
		q.wake <- struct{}{}
	}
	return true
}

// holds reports whether so many wait, or all that one batch takes.
func (q *queue) holds(wanted int) bool {
	return len(q.waiting) >= wanted || q.events >= maxBatchEvents || q.bytes >= maxBatchBytes
}

// begin waits for a first submission. Once ctx has ended it gives false if there
// is none, and the queue is closed.
func (q *queue) begin(ctx context.Context) bool {
	if q.await(1, ctx.Done(), nil) {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = len(q.waiting) == 0
	return !q.closed
}

// await returns once so many wait, or all that one batch takes, and then gives
// true; or when one of the channels has something to say.
func (q *queue) await(wanted int, done <-chan struct{}, late <-chan time.Time) bool {
	q.mu.Lock()
	if q.holds(wanted) {
		q.mu.Unlock()
		return true
	}
	q.wanted = wanted
	q.mu.Unlock()
	select {
	case <-q.wake:
		return true
	case <-done:
	case <-late:
	}
	q.mu.Lock()
	woken := q.wanted == 0
	q.wanted = 0
	q.mu.Unlock()
	if woken { // at the same time
		<-q.wake
	}
	return woken
}

// take moves what makes one batch from the queue to batch.
func (q *queue) take(batch []*submission) []*submission {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, bytes := 0, 0
	for _, s := range q.waiting {
		if events >= maxBatchEvents || bytes >= maxBatchBytes {
			break
		}
		batch = append(batch, s)
		events += len(s.arrivals)
		bytes += s.bytes
	}
	q.waiting = slices.Delete(q.waiting, 0, len(batch))
	q.events -= events
	q.bytes -= bytes
	return batch
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}
