package delivery

import "time"

// ramp is the pace at which a backlog goes out after a resume: slow at first,
// twice as fast with each step that goes well, until it is no longer the pace
// that sets the limit. The zero ramp limits nothing.
type ramp struct {
	rate    int       // requests a second to the endpoint, over all nodes; 0: there is no ramp
	next    time.Time // no request before
	stepAt  time.Time // the rate doubles with the first success from then on
	limited bool      // in this step a request had to wait for its turn
}

// rampSlack is how late a start may be and still count as in time, so that timers
// that fire late do not slow the pace.
const rampSlack = 5 * time.Millisecond

func (r *ramp) on() bool { return r.rate > 0 }

func (r *ramp) begin(l *Limits, now time.Time) {
	*r = ramp{rate: l.RampRate, next: now, stepAt: now.Add(l.RampStep)}
}

// holds tells that the next request must wait, and remembers that it had to.
func (r *ramp) holds(now time.Time) bool {
	held := r.on() && now.Before(r.next)
	r.limited = r.limited || held
	return held
}

// started books a request of a node that has share of the endpoint's limit.
func (r *ramp) started(now time.Time, share, limit int) {
	if r.on() {
		if now.Sub(r.next) > rampSlack {
			r.next = now
		}
		r.next = r.next.Add(time.Second * time.Duration(limit) / time.Duration(r.rate*max(share, 1)))
	}
}

// succeeded doubles the rate after a step that went well, or ends the ramp if
// nothing had to wait for it.
func (r *ramp) succeeded(l *Limits, now time.Time) {
	switch {
	case !r.on() || now.Before(r.stepAt):
	case !r.limited:
		*r = ramp{}
	default:
		r.rate, r.limited = 2*r.rate, false
		r.stepAt = now.Add(l.RampStep)
	}
}

// failed halves the rate and begins the step anew.
func (r *ramp) failed(l *Limits, now time.Time) {
	if r.on() {
		r.rate = max(r.rate/2, l.RampRate)
		r.stepAt = now.Add(l.RampStep)
	}
}

// ahead is how many deliveries of a step a lane has use for in memory.
func (r *ramp) ahead(l *Limits, share, limit int) int {
	return int(time.Duration(r.rate)*l.RampStep/time.Second) * share / limit
}
