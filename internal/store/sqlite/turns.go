package sqlite

import (
	"context"
	"sync"
	"time"
)

// patience is how long a transaction that can wait lets others go first.
const patience = 25 * time.Millisecond

// turns says whose transaction is next. There is one writer, and what drains a
// backlog keeps it busy; those that somebody waits for, and those that keep the
// lease, go first, but never for so long that the rest comes to a stop.
type turns struct {
	mu      sync.Mutex
	taken   bool
	urgent  []*waiter
	patient []*waiter
}

type waiter struct {
	since time.Time
	ready chan struct{} // closed when it is this one's turn
}

// take waits for the writer. done gives it to the next.
func (t *turns) take(ctx context.Context, urgent bool) (done func(), err error) {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return t.done, nil
	}
	w := &waiter{since: time.Now(), ready: make(chan struct{})}
	if urgent {
		t.urgent = append(t.urgent, w)
	} else {
		t.patient = append(t.patient, w)
	}
	t.mu.Unlock()
	select {
	case <-w.ready:
		return t.done, nil
	case <-ctx.Done():
		t.leave(w)
		return nil, context.Cause(ctx)
	}
}

// urgently is take for what somebody waits for.
func (t *turns) urgently(ctx context.Context) (done func(), err error) { return t.take(ctx, true) }

// leave gives up waiting. The turn may have come at the very moment.
func (t *turns) leave(w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, queue := range []*[]*waiter{&t.urgent, &t.patient} {
		for i, other := range *queue {
			if other == w {
				*queue = append((*queue)[:i:i], (*queue)[i+1:]...)
				return
			}
		}
	}
	t.next()
}

func (t *turns) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next()
}

// next hands the writer on. The caller holds mu.
func (t *turns) next() {
	from := &t.urgent
	if len(t.urgent) == 0 || len(t.patient) > 0 && time.Since(t.patient[0].since) > patience {
		from = &t.patient
	}
	if len(*from) == 0 {
		t.taken = false
		return
	}
	w := (*from)[0]
	*from = (*from)[1:]
	close(w.ready)
}
