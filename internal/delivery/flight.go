package delivery

import (
	"slices"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// flight is one delivery being attempted.
type flight struct {
	job     *job
	class   class // the slot it has
	probe   bool
	started time.Time // by the wall clock
	ager    *time.Timer
	landed  bool
}

// pump starts what the lane may have in flight.
func (t *tenure) pump(l *lane, now time.Time) {
	for f := t.begin(l, now); f != nil; f = t.begin(l, now) {
		t.launch(sortie{l, f})
	}
}

// sortie is a flight and the lane it is made for.
type sortie struct {
	lane   *lane
	flight *flight
}

// maxIdle bounds the workers that wait for a sortie.
const maxIdle = 64

// launch gives the sortie to a worker that waits for one, whose stack has grown
// already, or else to a new one.
func (t *tenure) launch(s sortie) {
	select {
	case t.sorties <- s:
	default:
		t.workers.Go(func() { t.work(s) })
	}
}

// work makes sorties until there are none and enough other workers wait.
func (t *tenure) work(s sortie) {
	for more := true; more; {
		t.fly(s.lane, s.flight)
		if more = t.idle.Add(1) <= maxIdle; more {
			s, more = <-t.sorties // closed at the end of the tenure
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
	f := &flight{job: l.ready.pop(), class: c, probe: l.gate == probing, started: t.config.Now()}
	if c == fast {
		f.ager = time.AfterFunc(t.config.Limits.SlowAfter, func() { t.age(l, f) })
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
				t.launch(sortie{l, f})
				if l.ready.len() > 0 {
					t.slots.enqueue(c, l)
				}
			}
			t.arm(l, now)
		}
	}
}

// age moves a request that takes long, and with it its lane, out of the way of
// those that do not.
func (t *tenure) age(l *lane, f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.landed || t.ended() {
		return
	}
	f.class = slow
	t.slots.used[fast]--
	t.slots.used[slow]++
	l.slow, l.quick = true, 0
	t.serve()
	t.turn(l)
}

// fly attempts a delivery, and then others of the same lane while there are any.
func (t *tenure) fly(l *lane, f *flight) {
	for f != nil {
		f = t.land(l, f, t.try(f))
	}
}

// land books what came of a flight and gives the next one, if there is any.
func (t *tenure) land(l *lane, f *flight, y try) *flight {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.landed = true
	if f.ager != nil {
		f.ager.Stop()
	}
	l.flights = slices.DeleteFunc(l.flights, func(other *flight) bool { return other == f })
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
			t.learn(l, f, &y, now)
		}
		t.book(l, f.job, &y, now)
	}
	t.serve()
	var next *flight
	if !y.held {
		next = t.begin(l, now)
	}
	t.turn(l)
	t.checkDrained()
	return next
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
