package delivery

import (
	"slices"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// flight is one delivery being attempted.
type flight struct {
	lane  *lane
	job   *job
	class class // the slot it has
	probe bool
	since time.Time // by a clock that nobody sets

	older, newer *flight // among the young
}

// young are the flights in the fast class, in the order in which they began. One
// timer serves for all of them.
type young struct {
	oldest, newest *flight
	timer          *time.Timer
	set            bool // the timer is, for the oldest or before
}

func (y *young) add(f *flight) {
	if f.older = y.newest; f.older != nil {
		f.older.newer = f
	} else {
		y.oldest = f
	}
	y.newest = f
}

func (y *young) remove(f *flight) {
	if f.older != nil {
		f.older.newer = f.newer
	} else {
		y.oldest = f.newer
	}
	if f.newer != nil {
		f.newer.older = f.older
	} else {
		y.newest = f.older
	}
	f.older, f.newer = nil, nil
}

// pump starts what the lane may have in flight.
func (t *tenure) pump(l *lane, now time.Time) {
	for f := t.begin(l, now); f != nil; f = t.begin(l, now) {
		t.launch(f)
	}
}

// maxIdle bounds the workers that wait for a flight.
const maxIdle = 64

// launch gives the flight to a worker that waits for one, whose stack has grown
// already, or else to a new one.
func (t *tenure) launch(f *flight) {
	select {
	case t.launches <- f:
	default:
		t.workers.Go(func() { t.work(f) })
	}
}

// work makes flights until there are none and enough other workers wait.
func (t *tenure) work(f *flight) {
	for more := true; more; {
		t.fly(f)
		if more = t.idle.Add(1) <= maxIdle; more {
			f, more = <-t.launches // closed at the end of the tenure
		}
		t.idle.Add(-1)
	}
}

// begin takes the next delivery of the lane and a slot for it; nil if there is
// none, or it must wait. A lane that waits for a slot or for results to be
// written is called by serve.
func (t *tenure) begin(l *lane, now time.Time) *flight {
	if t.phase != working || l.ready.len() == 0 || len(l.flights) >= l.width() {
		return nil
	}
	switch {
	case l.gate == probing && now.Before(l.breaker.probeAt):
		return nil
	case l.gate == open && l.ramp.holds(now):
		return nil
	}
	c := fast
	if l.slow {
		c = slow
	}
	if t.full() || !t.slots.free(c) {
		t.slots.enqueue(c, l)
		return nil
	}
	t.slots.used[c]++
	l.ramp.started(now, l.share, l.limit)
	f := &flight{lane: l, job: l.ready.pop(), class: c, probe: l.gate == probing, since: time.Now()}
	if c == fast {
		t.young.add(f)
		t.watchYoung()
	}
	l.flights = append(l.flights, f)
	return f
}

// serve gives free slots to the lanes that wait for one, one each in turn.
func (t *tenure) serve() {
	if t.ended() {
		return
	}
	for _, c := range []class{fast, slow} {
		queue := &t.slots.waiting[c]
		for queue.len() > 0 && t.slots.free(c) && !t.full() {
			l, now := queue.pop(), t.now()
			l.waiting = false
			if f := t.begin(l, now); f != nil {
				t.launch(f)
				if l.ready.len() > 0 {
					t.slots.enqueue(c, l)
				}
			}
			t.arm(l, now)
		}
	}
}

// watchYoung sets the timer for when the oldest of the young flights is young no
// more, if it is not set.
func (t *tenure) watchYoung() {
	y := &t.young
	if y.set || y.oldest == nil || t.ended() {
		return
	}
	y.set = true
	left := t.config.Limits.SlowAfter - time.Since(y.oldest.since)
	if y.timer == nil {
		y.timer = time.AfterFunc(left, t.ageYoung)
	} else {
		y.timer.Reset(left)
	}
}

func (t *tenure) ageYoung() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.young.set = false
	for f := t.young.oldest; f != nil && time.Since(f.since) >= t.config.Limits.SlowAfter && !t.ended(); f = t.young.oldest {
		t.age(f)
	}
	t.watchYoung()
}

// age moves a request that takes long, and with it its lane, out of the way of
// those that do not.
func (t *tenure) age(f *flight) {
	l := f.lane
	t.young.remove(f)
	f.class = slow
	t.slots.used[fast]--
	t.slots.used[slow]++
	l.slow, l.quick = true, 0
	t.serve()
	t.turn(l)
}

// fly attempts a delivery, and then others of the same lane while there are any.
func (t *tenure) fly(f *flight) {
	for f != nil {
		f = t.land(f, t.try(f))
	}
}

// land books what came of a flight and gives the next one, if there is any.
func (t *tenure) land(f *flight, y try) *flight {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := f.lane
	if f.class == fast {
		t.young.remove(f)
	}
	l.landed(f)
	t.slots.used[f.class]--
	now := t.now()
	if t.ended() {
		if y.attempt != nil {
			t.book(l, f.job, &y, now)
		}
		t.checkDrained()
		return nil
	}
	l.used = now
	switch {
	case y.held && f.job.skipped:
		t.giveUp(l, f.job, waypost.ReasonSkipped)
	case y.held:
		l.ready.push(f.job) // turn does with it what the gate says
	default:
		if y.attempt != nil {
			l.took += (y.attempt.Duration - l.took) / 8
			t.learn(l, f, &y, now)
		}
		t.book(l, f.job, &y, now)
	}
	t.serve()
	var next *flight
	if !y.held {
		next = t.begin(l, now)
	}
	t.turnAt(l, now)
	t.checkDrained()
	return next
}

// landed takes a flight out of those in the air, whose order means nothing.
func (l *lane) landed(f *flight) {
	last := len(l.flights) - 1
	l.flights[slices.Index(l.flights, f)] = l.flights[last]
	l.flights[last] = nil
	l.flights = l.flights[:last]
}

// book records the outcome.
func (t *tenure) book(l *lane, j *job, y *try, now time.Time) {
	r := y.ruling
	e := entry{result: store.Result{Delivery: j.id(), Attempt: y.attempt, Step: r.step}}
	switch r.outcome {
	case waypost.OutcomeDelivered:
		e.result.Next = store.NextDelivered
	case waypost.OutcomeExhausted:
		e.result.Next = store.NextExhausted
		e.result.Reason = r.reason
		if y.deleted {
			e.result.Reason = waypost.ReasonEndpointDeleted
		}
	case waypost.OutcomeRetry:
		if j.skipped {
			y.attempt.Outcome = waypost.OutcomeExhausted
			e.result.Next, e.result.Reason = store.NextExhausted, waypost.ReasonSkipped
			break
		}
		e.result.Next = store.NextRetry
		e.result.At = r.at
		soon := r.at.Sub(now) <= t.config.Limits.InHandWait
		if soon && t.phase == working && t.look(l, now) == open {
			e.result.InHand = true
			e.lane, e.job = l, j
			j.due = r.at
			j.owed.Attempts++
			j.owed.Step = r.step
		}
	}
	if e.job == nil {
		t.forget(l, j)
	}
	t.record(e)
}
