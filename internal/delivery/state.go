package delivery

import (
	"slices"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// learn draws conclusions about the endpoint.
func (t *tenure) learn(l *lane, f *flight, y *try, now time.Time) {
	if y.attempt.Duration >= t.config.Limits.SlowAfter {
		l.slow, l.quick = true, 0
	} else if l.slow {
		if l.quick++; l.quick >= quickAnswers {
			l.slow = false
		}
	}
	if f.probe && y.ruling.outcome != waypost.OutcomeDelivered {
		l.breaker.probed(&t.config.Breaker, now)
	}
	switch {
	case y.ruling.outcome == waypost.OutcomeDelivered:
		if l.window *= 2; l.window >= l.share {
			l.window = 0
		}
		l.ramp.succeeded(&t.config.Limits, now)
		if l.gate == open {
			l.breaker.reset()
		} else if t.inState(l, now, waypost.EndpointTripped) {
			t.setState(l, waypost.EndpointActive, "")
		}
	case y.ruling.reason == waypost.ReasonGone:
		if t.inState(l, now, waypost.EndpointActive, waypost.EndpointTripped) {
			t.setStateOf(l, y.endpoint, waypost.EndpointDisabled, "the receiver answered 410 (gone)")
		}
	case l.gate == open && !y.ruling.blameless:
		l.ramp.failed(&t.config.Limits, now)
		if l.breaker.failed(&t.config.Breaker, f.job.id(), now) && t.inState(l, now, waypost.EndpointActive) {
			t.setState(l, waypost.EndpointTripped, l.breaker.explain(y.ruling.reason, y.attempt.Status, now))
		}
	}
}

// inState tells whether the endpoint is there and in one of the states.
func (t *tenure) inState(l *lane, now time.Time, states ...waypost.EndpointState) bool {
	ep := t.config.Directory.Endpoint(l.id)
	if ep == nil || !ep.DeletedAt.IsZero() {
		return false
	}
	return slices.Contains(states, l.state(ep, now))
}

// setState puts the endpoint into a state: for this lane at once, for good as
// soon as it is written.
func (t *tenure) setState(l *lane, state waypost.EndpointState, reason string) {
	t.setStateOf(l, t.config.Directory.Endpoint(l.id), state, reason)
}

// setStateOf is setState after something that was found out of the endpoint as it
// was then.
func (t *tenure) setStateOf(l *lane, ep *waypost.Endpoint, state waypost.EndpointState, reason string) {
	now := t.now()
	if own := l.own; own != nil && own.until.IsZero() { // it is being written; the writer sees the change
		own.state, own.reason, own.seen = state, reason, ep
	} else {
		own = &ownState{state: state, reason: reason, seen: ep}
		l.own = own
		t.workers.Go(func() { t.writeState(l, own) })
	}
	t.pass(l, t.look(l, now), now)
}

// writeState persists what the engine found, for as long as it takes.
func (t *tenure) writeState(l *lane, own *ownState) {
	for wait := minErrandWait; ; wait = min(2*wait, maxErrandWait) {
		t.mu.Lock()
		state, reason, seen := own.state, own.reason, own.seen.UpdatedAt
		t.mu.Unlock()
		err := t.config.States.SetState(t.table, l.id, state, reason, seen)
		if err == nil && t.stateWritten(l, own, state) {
			t.config.Log.Info("endpoint state changed", "endpoint", l.id.String(), "state", state, "reason", reason)
			return
		}
		if err != nil && t.table.Err() == nil {
			t.config.Log.Warn("endpoint state not changed", "endpoint", l.id.String(), "state", state, "error", err)
		}
		if !t.pause(wait, nil) {
			return
		}
	}
}

func (t *tenure) stateWritten(l *lane, own *ownState, state waypost.EndpointState) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if own.state != state {
		return false
	}
	own.until = t.now().Add(ownGrace)
	t.turn(l)
	return true
}
