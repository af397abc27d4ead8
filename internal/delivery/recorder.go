package delivery

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	minRecordWait = 50 * time.Millisecond
	maxRecordWait = 2 * time.Second
)

// recorder holds the results that are not written yet, in the order in which
// they came about. All of it but the channels is guarded by tenure.mu.
type recorder struct {
	pending []entry
	batch   int       // how many are written at a time; shrinks around one the store won't take
	movedAt time.Time // when the first of them came, or some were last written

	carried  int           // of them, from the tenure before
	caughtUp chan struct{} // closed when there are none of those left

	failingSince time.Time // zero while results can be written
	some         chan struct{}
	hurry        chan struct{} // closed when results are not to wait any more
	enough       chan struct{}
	quiet        *time.Timer // goes off when no more of them are to be expected; nil at first
}

// entry is one result. job is set if the delivery stays in hand: it goes on in
// its lane once the result is written.
type entry struct {
	result store.Result
	lane   *lane
	job    *job
}

func newRecorder(carried []store.Result) recorder {
	r := recorder{
		some:     make(chan struct{}, 1),
		enough:   make(chan struct{}, 1),
		hurry:    make(chan struct{}),
		carried:  len(carried),
		caughtUp: make(chan struct{}),
		movedAt:  time.Now(),
	}
	for _, result := range carried {
		r.pending = append(r.pending, entry{result: result})
	}
	if len(carried) > 0 {
		signal(r.some)
	} else {
		close(r.caughtUp)
	}
	return r
}

func (r *recorder) unrecorded() int { return len(r.pending) }

// full tells that no new attempt may start until some results are written: what
// is sent in spite of that may have to be sent again.
func (t *tenure) full() bool {
	r, l := &t.recorder, &t.config.Limits
	return r.unrecorded() >= l.MaxUnrecorded ||
		r.unrecorded() > 0 && time.Since(r.movedAt) >= l.MaxUnrecordedFor+l.FlushEvery
}

// unwritten are the results that the tenure leaves behind, as the next one can
// offer them.
func (t *tenure) unwritten() []store.Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	var left []store.Result
	for _, e := range t.recorder.pending {
		if e.result.Attempt != nil {
			e.result.Earlier, e.result.InHand = true, false
			left = append(left, e.result)
		}
	}
	return left
}

// record takes a result to be written. The caller holds mu.
func (t *tenure) record(e entry) {
	r := &t.recorder
	r.pending = append(r.pending, e)
	switch len(r.pending) {
	case 1:
		r.movedAt = time.Now()
		signal(r.some)
	case t.config.Limits.FlushAt:
		signal(r.enough)
	}
	if t.inFlight() > 0 {
		return
	}
	wait := t.config.Limits.FlushEvery / 10
	if r.quiet == nil {
		r.quiet = time.AfterFunc(wait, t.hasten)
	} else {
		r.quiet.Reset(wait)
	}
}

// hasten has results written before their time if nothing is in flight that would
// add to them: the fewer are not written, the fewer requests a kill repeats.
func (t *tenure) hasten() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inFlight() == 0 {
		signal(t.recorder.enough)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// runRecorder writes results FlushEvery after the first of them, or as soon as
// there are FlushAt, or no more are to be expected.
func (t *tenure) runRecorder() {
	for {
		select {
		case <-t.recorder.some:
		case <-t.table.Done():
			return
		}
		if !t.gather() || !t.flushAll() {
			return
		}
	}
}

// gather waits for more results to come.
func (t *tenure) gather() bool {
	timer := time.NewTimer(t.config.Limits.FlushEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.recorder.enough:
	case <-t.recorder.hurry:
	case <-t.table.Done():
		return false
	}
	return true
}

// flushAll writes what is pending, for as long as it takes, down to less than a
// batch. It reports false when the tenure has ended.
func (t *tenure) flushAll() bool {
	wait := minRecordWait
	for {
		batch := t.nextBatch()
		if len(batch) == 0 {
			return true
		}
		settled, err := t.config.Queue.Settle(t.table, t.node, results(batch))
		switch {
		case err == nil:
			if t.written(batch, settled) {
				return true
			}
			wait = minRecordWait
			continue
		case errors.Is(err, store.ErrLeaseLost):
			t.lost()
			return false
		case t.table.Err() != nil:
			return false
		}
		t.notWritten(batch, err)
		if !t.pause(wait, nil) {
			return false
		}
		wait = min(2*wait, maxRecordWait)
	}
}

func (t *tenure) nextBatch() []entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.recorder
	if r.batch == 0 {
		r.batch = t.config.Limits.FlushAt
	}
	n := min(r.batch, len(r.pending))
	return slices.Clone(r.pending[:n])
}

func results(batch []entry) []store.Result {
	results := make([]store.Result, len(batch))
	for i := range batch {
		results[i] = batch[i].result
	}
	return results
}

// notWritten prepares for another go. While the store can't be reached that is
// all; an error of another kind may be due to one of the results, so the batch
// shrinks until that one stands alone, goes on without its details, and lets
// the others pass.
func (t *tenure) notWritten(batch []entry, err error) {
	t.config.Log.Warn("results not written, they are kept", "results", len(batch), "error", err)
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.recorder
	if r.failingSince.IsZero() {
		r.failingSince = time.Now()
	}
	if waypost.KindOf(err) == waypost.KindUnavailable || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	if r.batch = max(len(batch)/2, 1); len(batch) > 1 {
		return
	}
	first := r.pending[0]
	if first.result.Attempt != nil {
		bare := *first.result.Attempt
		bare.Detail = waypost.AttemptDetail{}
		first.result.Attempt = &bare
	}
	r.pending = append(slices.Delete(r.pending, 0, 1), first)
}

// written acts on results that are on record now. It reports true if the rest
// can wait for more to come.
func (t *tenure) written(batch []entry, settled store.Settled) (rest bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.recorder
	r.pending = slices.Delete(r.pending, 0, len(batch))
	r.movedAt = time.Now()
	r.bring(batch)
	r.batch = min(2*max(r.batch, 1), t.config.Limits.FlushAt)
	r.failingSince = time.Time{}
	t.countLost(batch, settled.Lost)
	lost := settled.Lost
	for i := range batch {
		isLost := len(lost) > 0 && lost[0] == i
		if isLost {
			lost = lost[1:]
		}
		t.goOn(&batch[i], isLost)
	}
	for _, id := range settled.Released {
		t.wakeLane(id, t.now())
	}
	t.serve()
	t.checkDrained()
	if len(r.pending) > 0 {
		signal(r.some)
	}
	return len(r.pending) < r.batch
}

// goOn continues a delivery whose result is written: in its lane if it stays in
// hand, by the table if it does not.
func (t *tenure) goOn(e *entry, lost bool) {
	switch {
	case e.job != nil && lost:
		t.forget(e.lane, e.job)
		t.turn(e.lane)
	case e.job != nil && e.job.skipped:
		t.giveUp(e.lane, e.job, waypost.ReasonSkipped)
		t.turn(e.lane)
	case e.job != nil:
		e.lane.putOff(e.job)
		t.turn(e.lane)
	case e.result.Next == store.NextRetry && !lost:
		t.wakeLane(e.result.Delivery.Endpoint, e.result.At)
	}
}

// bring counts off the carried results that are done with.
func (r *recorder) bring(batch []entry) {
	if r.carried == 0 {
		return
	}
	for i := range batch {
		if batch[i].result.Earlier {
			r.carried--
		}
	}
	if r.carried == 0 {
		close(r.caughtUp)
	}
}

func (t *tenure) countLost(batch []entry, lost []int) {
	if len(lost) == 0 {
		return
	}
	slices.Sort(lost)
	t.config.Observer.Lost(len(lost))
	for _, i := range lost {
		t.config.Log.Debug("result not written: the delivery is in other hands", "delivery", batch[i].result.Delivery.String())
	}
	t.scanner.request() // what a write whose answer got lost has released shows there
}
