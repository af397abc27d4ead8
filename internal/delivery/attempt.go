package delivery

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// try is what came of a flight.
type try struct {
	endpoint *waypost.Endpoint // as it was; nil if it is unknown
	attempt  *waypost.Attempt  // nil: no request was made
	ruling   ruling
	deleted  bool // the endpoint was, meanwhile
	held     bool // the endpoint is not to be sent to; nothing was decided
}

// try makes one request, without the lock.
func (t *tenure) try(f *flight) try {
	ep := t.config.Directory.Endpoint(f.job.owed.Endpoint)
	if !t.sendable(ep) || ep.State != waypost.EndpointActive && ep.State != waypost.EndpointTripped {
		return try{held: true}
	}
	d := t.config.Dialects(ep.Dialect)
	at := t.config.Now()
	hook, err := t.encode(f.job, ep, d, at)
	if errors.Is(err, dialect.ErrNotWanted) {
		return refused(ep, f.job, waypost.ReasonNotWanted)
	}
	policy, policyErr := policy(d, ep)
	if err = errors.Join(err, policyErr); err != nil {
		t.config.Log.Error("delivery not encoded", "delivery", f.job.id().String(),
			"endpoint", ep.ID.String(), "dialect", ep.Dialect, "error", err)
		return refused(ep, f.job, waypost.ReasonEncode)
	}
	y := t.send(f.job, ep, policy, hook)
	y.attempt.At = at
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

func (t *tenure) encode(j *job, ep *waypost.Endpoint, d dialect.Dialect, at time.Time) (hook dialect.Hook, err error) {
	panicked := safely("encode", func() {
		item := t.item(j, ep, at)
		if t.config.Open != nil {
			if item.Event, err = t.config.Open(item.Event); err != nil {
				return
			}
		}
		hook, err = d.Encode(item)
	})
	return hook, errors.Join(panicked, err)
}

// refused is a delivery that is given up without a request.
func refused(ep *waypost.Endpoint, j *job, reason waypost.Reason) try {
	return try{endpoint: ep, ruling: ruling{
		outcome: waypost.OutcomeExhausted, reason: reason, step: j.owed.Step, blameless: true,
	}}
}

func (t *tenure) item(j *job, ep *waypost.Endpoint, at time.Time) dialect.Item {
	event := j.owed.Event
	item := dialect.Item{Event: event, Endpoint: ep, Now: at, Attempt: j.owed.Attempts + 1}
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
func (t *tenure) send(j *job, ep *waypost.Endpoint, p waypost.Policy, hook dialect.Hook) try {
	answer := t.exchange(ep, p, hook)
	took, now := answer.Duration, t.now()
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
		Duration: took,
		Status:   answer.Status,
		Outcome:  y.ruling.outcome,
		Reason:   y.ruling.reason,
		Detail:   detail(&answer, y.ruling.outcome),
	}
	return y
}

func (t *tenure) exchange(ep *waypost.Endpoint, p waypost.Policy, hook dialect.Hook) (answer egress.Answer) {
	request := egress.Request{URL: cmp.Or(hook.URL, ep.URL), Header: header(ep, hook), Body: hook.Body, Timeout: p.Timeout}
	if err := safely("send", func() { answer = t.config.Sender.Send(t.attempts, request) }); err != nil {
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
	errCutShort = errors.New("cut short: this node had to let go of the delivery")
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

// header merges what is sent: the hook's, what the endpoint has besides, and our
// defaults for what neither has.
func header(ep *waypost.Endpoint, hook dialect.Hook) []egress.Field {
	h := make([]egress.Field, 0, len(hook.Header)+len(ep.Headers)+len(defaultHeader))
	for name, values := range hook.Header {
		for _, value := range values {
			h = append(h, egress.Field{Name: name, Value: value})
		}
	}
	for name, value := range ep.Headers {
		h = addMissing(h, http.CanonicalHeaderKey(name), value.Reveal())
	}
	for _, f := range defaultHeader {
		h = addMissing(h, f.Name, f.Value)
	}
	return h
}

var defaultHeader = []egress.Field{
	{Name: "User-Agent", Value: "Waypost"},
	{Name: "Content-Type", Value: "application/json"},
}

func addMissing(h []egress.Field, name, value string) []egress.Field {
	if slices.ContainsFunc(h, func(f egress.Field) bool { return strings.EqualFold(f.Name, name) }) {
		return h
	}
	return append(h, egress.Field{Name: name, Value: value})
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
	t.teller.attempted(y.endpoint.Dialect, a, y.ruling.at)
}
