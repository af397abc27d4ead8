package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// flight is one delivery being attempted.
type flight struct {
	job     *job
	class   class // the slot it has
	probe   bool
	started time.Time
	ager    *time.Timer
	landed  bool
}

// try is what came of a flight.
type try struct {
	endpoint *waypost.Endpoint // as it was; nil if it is unknown
	attempt  *waypost.Attempt  // nil: no request was made
	ruling   ruling
	deleted  bool // the endpoint was, meanwhile
	held     bool // the endpoint is not to be sent to; nothing was decided
}

// pump starts what the lane may have in flight.
func (t *tenure) pump(l *lane) {
	for f := t.begin(l); f != nil; f = t.begin(l) {
		t.workers.Go(func() { t.fly(l, f) })
	}
}

// begin takes the next delivery of the lane and a slot for it; nil if there is
// none, or it must wait. A lane that waits for a slot or for results to be
// written is called by serve.
func (t *tenure) begin(l *lane) *flight {
	if t.phase != working || l.ready.len() == 0 {
		return nil
	}
	window := l.window
	if l.gate == probing {
		window = 1
		if t.config.Now().Before(l.breaker.probeAt) {
			return nil
		}
	}
	if l.gate != open && l.gate != probing || l.flying >= window {
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
	l.flying++
	f := &flight{job: l.ready.pop(), class: c, probe: l.gate == probing, started: t.config.Now()}
	if c == fast {
		f.ager = time.AfterFunc(t.config.Limits.SlowAfter, func() { t.age(l, f) })
	}
	return f
}

// serve gives free slots to the lanes that wait for one, one each in turn.
func (t *tenure) serve() {
	for _, c := range []class{fast, slow} {
		queue := &t.slots.waiting[c]
		for queue.len() > 0 && t.slots.free(c) && !t.full() {
			l := queue.pop()
			l.waiting = false
			f := t.begin(l)
			if f == nil {
				continue
			}
			t.workers.Go(func() { t.fly(l, f) })
			if l.ready.len() > 0 {
				t.slots.enqueue(c, l)
			}
		}
	}
}

// age moves a request that takes long, and with it its lane, out of the way of
// those that do not.
func (t *tenure) age(l *lane, f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.landed || t.phase == over {
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
	l.flying--
	t.slots.used[f.class]--
	if t.phase == over {
		return nil
	}
	now := t.config.Now()
	l.used = now
	if y.held {
		l.ready.push(f.job) // turn does with it what the gate says
	} else {
		if y.attempt != nil {
			t.learn(l, f, &y, now)
		}
		t.book(l, f.job, &y, now)
	}
	t.serve()
	var next *flight
	if !y.held {
		next = t.begin(l)
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

// learn draws conclusions about the endpoint.
func (t *tenure) learn(l *lane, f *flight, y *try, now time.Time) {
	if now.Sub(f.started) >= t.config.Limits.SlowAfter {
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
		l.window = min(2*l.window, t.config.Limits.InFlight)
		if l.gate == open {
			l.breaker.reset()
		} else if t.inState(l, now, waypost.EndpointTripped) {
			t.setState(l, waypost.EndpointActive, "")
		}
	case y.ruling.reason == waypost.ReasonGone:
		if t.inState(l, now, waypost.EndpointActive, waypost.EndpointTripped) {
			t.setState(l, waypost.EndpointDisabled, "the receiver answered 410 (gone)")
		}
	case l.gate == open && !y.ruling.blameless:
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
	ep := t.config.Directory.Endpoint(l.id)
	if own := l.own; own != nil && own.until.IsZero() { // it is being written; the writer sees the change
		own.state, own.reason, own.seen = state, reason, ep
		return
	}
	own := &ownState{state: state, reason: reason, seen: ep}
	l.own = own
	t.workers.Go(func() { t.writeState(l, own) })
}

// writeState persists what the engine found, for as long as it takes.
func (t *tenure) writeState(l *lane, own *ownState) {
	for wait := minErrandWait; ; wait = min(2*wait, maxErrandWait) {
		t.mu.Lock()
		state, reason := own.state, own.reason
		t.mu.Unlock()
		err := t.config.States.SetState(t.table, l.id, state, reason)
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
	own.until = t.config.Now().Add(ownGrace)
	t.turn(l)
	return true
}

// try makes one request, without the lock.
func (t *tenure) try(f *flight) try {
	ep := t.config.Directory.Endpoint(f.job.owed.Endpoint)
	if !t.sendable(ep) || ep.State != waypost.EndpointActive && ep.State != waypost.EndpointTripped {
		return try{held: true}
	}
	d := t.config.Dialects(ep.Dialect)
	hook, err := t.encode(f, ep, d)
	if errors.Is(err, dialect.ErrNotWanted) {
		return refused(ep, f.job, waypost.ReasonNotWanted)
	}
	policy, policyErr := policy(d, ep)
	if err = errors.Join(err, policyErr); err != nil {
		t.config.Log.Error("delivery not encoded", "delivery", f.job.id().String(),
			"endpoint", ep.ID.String(), "dialect", ep.Dialect, "error", err)
		return refused(ep, f.job, waypost.ReasonEncode)
	}
	y := t.send(f, ep, policy, hook)
	t.tell(&y)
	return y
}

// safely turns a panic into an error that says where it was and quotes nothing
// of what it was about.
func safely(what string, do func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			text := fmt.Sprintf("%T", p)
			if runtimeErr, ok := p.(runtime.Error); ok {
				text = runtimeErr.Error()
			}
			err = fmt.Errorf("%s panicked: %s\n%s", what, text, debug.Stack())
		}
	}()
	do()
	return nil
}

func (t *tenure) encode(f *flight, ep *waypost.Endpoint, d dialect.Dialect) (hook dialect.Hook, err error) {
	panicked := safely("encode", func() { hook, err = d.Encode(t.item(f, ep)) })
	return hook, errors.Join(panicked, err)
}

// refused is a delivery that is given up without a request.
func refused(ep *waypost.Endpoint, j *job, reason waypost.Reason) try {
	return try{endpoint: ep, ruling: ruling{
		outcome: waypost.OutcomeExhausted, reason: reason, step: j.owed.Step, blameless: true,
	}}
}

func (t *tenure) item(f *flight, ep *waypost.Endpoint) dialect.Item {
	event := f.job.owed.Event
	item := dialect.Item{Event: event, Endpoint: ep, Now: f.started, Attempt: f.job.owed.Attempts + 1}
	// A notice to a whole business account names no number; the endpoint's own
	// is the one its receiver thinks of.
	if number := cmp.Or(event.NumberID, ep.NumberID); number != 0 {
		item.Number = t.config.Directory.Number(number)
	}
	if item.Number != nil && t.config.MediaURL != nil {
		item.MediaURL = t.config.MediaURL(event, item.Number)
	}
	if tenant := t.config.Directory.Tenant(ep.TenantID); tenant != nil {
		item.TenantSecret = tenant.Secrets[ep.Dialect]
	}
	return item
}

// defaultTimeout stands in for a policy without a time limit.
const defaultTimeout = 15 * time.Second

// policy is the endpoint's policy.
func policy(d dialect.Dialect, ep *waypost.Endpoint) (p waypost.Policy, err error) {
	err = safely("policy", func() { p = ep.Policy.Apply(d.Policy(ep)) })
	if p.Timeout <= 0 {
		p.Timeout = defaultTimeout
	}
	return p, err
}

// send makes the request and judges the answer.
func (t *tenure) send(f *flight, ep *waypost.Endpoint, p waypost.Policy, hook dialect.Hook) try {
	j := f.job
	started := t.config.Now()
	answer := t.exchange(ep, p, hook)
	now := t.config.Now()
	y := try{endpoint: ep}
	if answer.Err != nil && t.attempts.Err() != nil {
		answer = egress.Answer{Err: errCutShort, Reason: waypost.ReasonInternal, Address: answer.Address, Phases: answer.Phases}
		y.ruling = ruling{outcome: waypost.OutcomeRetry, reason: answer.Reason, at: dueAt(now), step: j.owed.Step, blameless: true}
	} else {
		y.ruling = rule(p, j.owed.Attempts, j.owed.Step, &answer, t.verdict(ep, &answer), now)
	}
	if y.ruling.outcome == waypost.OutcomeRetry && t.deleted(ep.ID) {
		y.ruling.outcome = waypost.OutcomeExhausted
		y.deleted = true
	}
	y.attempt = &waypost.Attempt{
		Delivery: j.id(),
		N:        j.owed.Attempts + 1,
		At:       started,
		Duration: now.Sub(started),
		Status:   answer.Status,
		Outcome:  y.ruling.outcome,
		Reason:   y.ruling.reason,
		Detail:   detail(&answer, y.ruling.outcome),
	}
	return y
}

func (t *tenure) exchange(ep *waypost.Endpoint, p waypost.Policy, hook dialect.Hook) (answer egress.Answer) {
	ctx, cancel := context.WithTimeout(t.attempts, p.Timeout)
	defer cancel()
	request := egress.Request{URL: ep.URL, Header: header(ep, hook), Body: hook.Body}
	if err := safely("send", func() { answer = t.config.Sender.Send(ctx, request) }); err != nil {
		t.config.Log.Error("request not made", "endpoint", ep.ID.String(), "error", err)
		return egress.Answer{Err: errPanicked, Reason: waypost.ReasonInternal}
	}
	return answer
}

func (t *tenure) deleted(id waypost.EndpointID) bool {
	ep := t.config.Directory.Endpoint(id)
	return ep != nil && !ep.DeletedAt.IsZero()
}

var (
	errCutShort = errors.New("cut short: the gateway is shutting down")
	errPanicked = errors.New("a fault of the gateway; see its log")
)

// verdict is what the dialect makes of the answer; nil: nothing.
func (t *tenure) verdict(ep *waypost.Endpoint, a *egress.Answer) *dialect.Verdict {
	judger, ok := t.config.Dialects(ep.Dialect).(dialect.Judger)
	if !ok || a.Err != nil {
		return nil
	}
	var v dialect.Verdict
	err := safely("judge", func() { v, ok = judger.Judge(ep, a.Status, a.Body) })
	if err != nil {
		t.config.Log.Error("answer not judged by its dialect", "endpoint", ep.ID.String(), "dialect", ep.Dialect, "error", err)
		return nil
	}
	if !ok {
		return nil
	}
	return &v
}

// header merges what is sent: our defaults, then the endpoint's own, then the
// hook's.
func header(ep *waypost.Endpoint, hook dialect.Hook) http.Header {
	h := make(http.Header, 2+len(ep.Headers)+len(hook.Header))
	h["User-Agent"] = []string{"Waypost"}
	h["Content-Type"] = []string{"application/json"}
	for name, value := range ep.Headers {
		h.Set(name, value.Reveal())
	}
	for name, values := range hook.Header {
		h.Del(name)
		h[name] = values
	}
	return h
}

const (
	maxResponse    = 1 << 10
	maxErrorText   = 512
	maxHeaderValue = 256
)

// keptHeaders are the headers of an answer that are worth a look.
var keptHeaders = []string{"Content-Type", "Retry-After", "Server"}

// detail is what is kept of an answer for people.
func detail(a *egress.Answer, outcome waypost.Outcome) waypost.AttemptDetail {
	d := waypost.AttemptDetail{
		Address:  a.Address,
		Reused:   a.Reused,
		Phases:   a.Phases,
		Response: text(string(a.Body[:min(len(a.Body), maxResponse)])),
	}
	if a.Err != nil {
		d.Error = text(a.Err.Error()[:min(len(a.Err.Error()), maxErrorText)])
	}
	if outcome == waypost.OutcomeDelivered {
		return d
	}
	for _, name := range keptHeaders {
		value := a.Header.Get(name)
		if value == "" {
			continue
		}
		if d.Headers == nil {
			d.Headers = map[string]string{}
		}
		d.Headers[strings.ToLower(name)] = text(value[:min(len(value), maxHeaderValue)])
	}
	return d
}

// text makes foreign bytes fit to be stored as text.
func text(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// tell logs and counts an attempt.
func (t *tenure) tell(y *try) {
	a := y.attempt
	t.config.Observer.Attempted(y.endpoint.Dialect, a.Outcome, a.Reason, a.Duration)
	if !t.config.Log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	attrs := make([]slog.Attr, 0, 11)
	attrs = append(attrs,
		slog.String("delivery", a.Delivery.String()),
		slog.String("event", a.Delivery.Event.String()),
		slog.String("endpoint", a.Delivery.Endpoint.String()),
		slog.String("dialect", y.endpoint.Dialect),
		slog.Int("attempt", a.N),
		slog.Int("status", a.Status),
		slog.String("outcome", string(a.Outcome)),
		slog.String("reason", string(a.Reason)),
		slog.Float64("duration_ms", float64(a.Duration.Microseconds())/1000),
	)
	if a.Outcome == waypost.OutcomeRetry {
		attrs = append(attrs, slog.Time("next_at", y.ruling.at.UTC()))
	}
	t.config.Log.LogAttrs(context.Background(), slog.LevelInfo, "delivery.attempted", attrs...)
}
