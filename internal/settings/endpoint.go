package settings

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Bounds of what an endpoint may set as its policy and secrets.
const (
	maxTimeout    = 2 * time.Minute
	maxWaits      = 1000
	maxWait       = 7 * 24 * time.Hour
	maxWindow     = 31 * 24 * time.Hour
	maxEvents     = 100
	maxOverlap    = 30 * 24 * time.Hour
	maxSecrets    = 10
	maxInFlight   = 1000
	askReceiverIn = 10 * time.Second
)

// EndpointChange is what a caller sets on an endpoint; nil members are left alone.
type EndpointChange struct {
	NumberID *waypost.NumberID
	WABAID   *string
	URL      *string // empty: what is owed is held until there is one again
	// Headers are merged by name; a nil value takes the header away.
	Headers map[string]*waypost.Secret
	Events  *[]string
	// Options are merged by name; a nil value takes the option back to its default.
	Options map[string]any
	Policy  waypost.PolicyChange
	Secret  *waypost.Secret
	// InFlight is how many requests may be under way at a time; 0: as many as
	// the installation's default says.
	InFlight *int
}

// CreateEndpoint makes an endpoint outside any slot. Where the dialect signs
// per endpoint a secret is made unless one is given. Where it proves receivers,
// the receiver is asked first.
func (s *Service) CreateEndpoint(ctx context.Context, tenant waypost.TenantID, dialectID string, change EndpointChange) (waypost.Endpoint, error) {
	d, e, err := s.plan(ctx, tenant, dialectID, change)
	if err != nil {
		return waypost.Endpoint{}, err
	}
	if err := s.ask(ctx, d, nil, &e); err != nil {
		return waypost.Endpoint{}, err
	}
	return e, s.create(ctx, &e)
}

// CheckNewEndpoint is the error that CreateEndpoint would give before it asks the
// receiver.
func (s *Service) CheckNewEndpoint(ctx context.Context, tenant waypost.TenantID, dialectID string, change EndpointChange) error {
	_, _, err := s.plan(ctx, tenant, dialectID, change)
	return err
}

// plan is the endpoint that is to be made, or all that speaks against it.
func (s *Service) plan(ctx context.Context, tenant waypost.TenantID, dialectID string, change EndpointChange) (registered, waypost.Endpoint, error) {
	_, err := s.Tenant(ctx, tenant)
	d, ok := s.dialects[dialectID]
	if !ok {
		return d, waypost.Endpoint{}, together(err, waypost.Invalid(waypost.FieldError{
			Field: "dialect", Message: "is not a dialect; there are " + strings.Join(s.order, ", "),
		}))
	}
	e := s.newEndpoint(d.info, tenant)
	faults := s.change(d, &e, change)
	if e.URL == "" {
		faults = together(faults, waypost.Invalid(waypost.FieldError{Field: "url", Message: "must not be empty"}))
	}
	if err == nil {
		err = s.owns(ctx, tenant, e.NumberID)
	}
	return d, e, together(err, faults)
}

// create is the one way in which an endpoint is stored first.
func (s *Service) create(ctx context.Context, e *waypost.Endpoint) error {
	told := endpointDetail(&waypost.Endpoint{}, e)
	told["dialect"], told["slot"] = e.Dialect, e.Slot
	err := s.do(ctx, act{"endpoint.create", e.TenantID, e.ID, told}, func() error { return s.store.CreateEndpoint(ctx, *e) })
	if err != nil {
		return err
	}
	s.written(ctx)
	return nil
}

func (s *Service) newEndpoint(info dialect.Info, tenant waypost.TenantID) waypost.Endpoint {
	now := s.now()
	e := waypost.Endpoint{
		ID:        waypost.EndpointID(s.newID()),
		TenantID:  tenant,
		Dialect:   info.ID,
		State:     waypost.EndpointActive,
		CreatedAt: now,
		UpdatedAt: now,
	}
	if info.SecretPrefix != nil {
		e.Secrets = []waypost.SigningSecret{{Value: newSigningSecret(*info.SecretPrefix)}}
	}
	return e
}

// UpdateEndpoint changes an endpoint, one in a slot as well. The receiver is
// asked again when the change makes it another receiver.
func (s *Service) UpdateEndpoint(ctx context.Context, id waypost.EndpointID, change EndpointChange) (waypost.Endpoint, error) {
	// First on a copy: asking the receiver takes a while, which a transaction
	// must not.
	d, before, after, err := s.replan(ctx, id, change)
	if err != nil {
		return waypost.Endpoint{}, err
	}
	if err := s.ask(ctx, d, before, &after); err != nil {
		return waypost.Endpoint{}, err
	}
	return s.actOn(ctx, "endpoint.update", id, detail{}, func(e *waypost.Endpoint) error { return s.change(d, e, change) })
}

// CheckEndpointChange is the error that UpdateEndpoint would give before it asks
// the receiver.
func (s *Service) CheckEndpointChange(ctx context.Context, id waypost.EndpointID, change EndpointChange) error {
	_, _, _, err := s.replan(ctx, id, change)
	return err
}

// replan is an endpoint before and after a change, or all that speaks against it.
func (s *Service) replan(ctx context.Context, id waypost.EndpointID, change EndpointChange) (d registered, before *waypost.Endpoint, after waypost.Endpoint, err error) {
	if before, err = s.Endpoint(ctx, id); err != nil {
		return d, nil, after, err
	}
	d, ok := s.dialects[before.Dialect]
	if !ok {
		return d, nil, after, waypost.Errorf(waypost.KindConflict, "this gateway no longer speaks the dialect %s", before.Dialect)
	}
	after = clone(before)
	return d, before, after, together(s.change(d, &after, change), s.owns(ctx, after.TenantID, after.NumberID))
}

// actOn edits a stored endpoint and tells of it in the audit trail. The edit is
// first made on a copy, so that one that is refused leaves no entry.
func (s *Service) actOn(ctx context.Context, action string, id waypost.EndpointID, told detail, edit func(*waypost.Endpoint) error) (waypost.Endpoint, error) {
	before, err := s.Endpoint(ctx, id)
	if err != nil {
		return waypost.Endpoint{}, err
	}
	after := clone(before)
	if err := edit(&after); err != nil {
		return waypost.Endpoint{}, err
	}
	maps.Copy(told, endpointDetail(before, &after))
	var e waypost.Endpoint
	err = s.do(ctx, act{action, before.TenantID, id, told}, func() error {
		e, err = s.edit(ctx, id, edit)
		return err
	})
	return e, err
}

// edit is the one way in which a stored endpoint is changed.
func (s *Service) edit(ctx context.Context, id waypost.EndpointID, edit func(*waypost.Endpoint) error) (waypost.Endpoint, error) {
	var work bool
	e, err := s.store.UpdateEndpoint(ctx, id, func(e *waypost.Endpoint) error {
		before := clone(e)
		if err := edit(e); err != nil {
			return err
		}
		if e.URL != before.URL && e.State == waypost.EndpointTripped {
			e.State, e.StateReason = waypost.EndpointActive, "" // another receiver starts with a clean record
		}
		e.UpdatedAt = s.now()
		opened := e.Open() && (!before.Open() || before.URL != e.URL)
		work = opened || !e.DeletedAt.IsZero()
		return nil
	})
	if err != nil {
		return waypost.Endpoint{}, err
	}
	s.written(ctx)
	if work {
		s.onWork(id)
	}
	return e, nil
}

// change applies what the caller set and checks it.
func (s *Service) change(d registered, e *waypost.Endpoint, change EndpointChange) error {
	set(&e.NumberID, change.NumberID)
	set(&e.WABAID, change.WABAID)
	set(&e.InFlight, change.InFlight)
	urlChanges := false
	if change.URL != nil {
		given := givenURL(e.URL, *change.URL)
		urlChanges = given != e.URL
		e.URL = given
	}
	e.Headers = mergeHeaders(e.Headers, change.Headers)
	e.Options = mergeOptions(e.Options, change.Options)
	if change.Events != nil {
		e.Events = allEvents(*change.Events)
	}
	e.Policy = mergePolicy(e.Policy, change.Policy)
	if change.Secret != nil {
		e.Secrets = []waypost.SigningSecret{{Value: *change.Secret}}
	}
	faults := placeholders(change)
	if urlChanges && e.URL != "" {
		faults = append(faults, s.urlFaults(d.info, e.URL)...)
		if isFilled(e.URL) {
			faults = append(faults, waypost.FieldError{Field: "url", Message: "has " + passwordFiller + " in place of its password; write the password out"})
		}
	}
	faults = append(faults, fieldsOf(dialect.CheckHeaders(e.Headers))...)
	faults = append(faults, dialect.CheckPublicOptions(d.info, given(change.Options))...)
	faults = append(faults, eventFaults(e.Events)...)
	faults = append(faults, policyFaults(change.Policy)...)
	faults = append(faults, secretFaults(d.info, change.Secret)...)
	if change.InFlight != nil && (e.InFlight < 0 || e.InFlight > maxInFlight) {
		faults = append(faults, waypost.FieldError{Field: "in_flight", Message: fmt.Sprintf("must be between 1 and %d", maxInFlight)})
	}
	if change.WABAID != nil && e.WABAID != "" && !metaID.MatchString(e.WABAID) {
		faults = append(faults, waypost.FieldError{Field: "waba_id", Message: wabaFault})
	}
	if e.NumberID != 0 && e.WABAID != "" {
		faults = append(faults, waypost.FieldError{Field: "waba_id", Message: "give either number_id or waba_id"})
	}
	if e.Slot != "" && (change.NumberID != nil || change.WABAID != nil) {
		faults = append(faults, waypost.FieldError{Field: "number_id", Message: "an endpoint made through a provider's API stays in its place"})
	}
	return invalid(faults)
}

// urlFaults checks a receiver's URL by the dialect's rules and against the
// addresses that nothing is ever sent to.
func (s *Service) urlFaults(info dialect.Info, raw string) []waypost.FieldError {
	if err := dialect.CheckURL(info.URL, raw, s.trusted); err != nil {
		return fieldsOf(err)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil // CheckURL has read it
	}
	if err := s.forbidden(u.Hostname()); err != nil {
		return []waypost.FieldError{{Field: "url", Message: "this address is never sent to (" + dialect.MessageOf(shown(err)) + ")"}}
	}
	return nil
}

// shown makes the guard's reason one that may be shown: it speaks of the
// address that the caller gave.
func shown(err error) error {
	return &waypost.Error{Kind: waypost.KindInvalid, Message: err.Error()}
}

// ask puts the dialect's question to the receiver, if there is one and it is
// not the one that was answered before.
func (s *Service) ask(ctx context.Context, d registered, before, after *waypost.Endpoint) error {
	challenger, ok := d.Dialect.(dialect.Challenger)
	if !ok || after.URL == "" {
		return nil
	}
	nonce := newNonce()
	challenge := challenger.Challenge(after, nonce)
	if challenge == nil {
		return nil
	}
	if before != nil {
		if old := challenger.Challenge(before, nonce); old != nil && old.URL == challenge.URL {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askReceiverIn)
	defer cancel()
	status, body, err := s.fetch(ctx, challenge.URL)
	if err != nil {
		s.log.WarnContext(ctx, "receiver not reached for its challenge", "dialect", after.Dialect, "error", err)
		return waypost.Invalid(waypost.FieldError{Field: "url", Message: "the receiver could not be asked to prove itself: no answer came"})
	}
	if err := challenge.Check(status, body); err != nil {
		return waypost.Invalid(waypost.FieldError{Field: "url", Message: fmt.Sprintf("the receiver did not prove itself: %v", err)})
	}
	return nil
}

// Pause stops deliveries to an endpoint; what is owed is held.
func (s *Service) Pause(ctx context.Context, id waypost.EndpointID) (waypost.Endpoint, error) {
	return s.actOn(ctx, "endpoint.pause", id, detail{}, func(e *waypost.Endpoint) error {
		e.State, e.StateReason = waypost.EndpointPaused, "paused by hand"
		return nil
	})
}

// SetState is the engine's verdict on a receiver: tripped, active again after
// a probe, or disabled by the receiver's own word. It gives way to what was
// done by hand: a paused endpoint stays paused, only Resume ends disabled, and a
// verdict on the endpoint as it was last changed at seen is void once it was
// changed again.
func (s *Service) SetState(ctx context.Context, id waypost.EndpointID, state waypost.EndpointState, reason string, seen time.Time) error {
	e, err := s.edit(ctx, id, func(e *waypost.Endpoint) error {
		if !e.UpdatedAt.Equal(seen) || e.State == state || e.State == waypost.EndpointPaused || e.State == waypost.EndpointDisabled {
			return errUnchanged
		}
		e.State, e.StateReason = state, reason
		return nil
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	if err == nil {
		s.note(ctx, act{"endpoint.state", e.TenantID, id, detail{"state": state, "reason": reason}})
	}
	return err
}

var errUnchanged = errors.New("nothing to change")

// DeleteEndpoint takes an endpoint away. What it was still owed is given up by
// the engine and stays visible.
func (s *Service) DeleteEndpoint(ctx context.Context, id waypost.EndpointID) error {
	_, err := s.actOn(ctx, "endpoint.delete", id, detail{}, func(e *waypost.Endpoint) error {
		e.DeletedAt = s.now()
		return nil
	})
	return err
}

// RotateSecret puts a new signing secret in front. Hooks are signed with the
// old ones as well until overlap has passed.
func (s *Service) RotateSecret(ctx context.Context, id waypost.EndpointID, overlap time.Duration) (waypost.Secret, error) {
	if overlap < 0 || overlap > maxOverlap {
		return "", waypost.Invalid(waypost.FieldError{Field: "overlap", Message: "must be between 0s and 720h"})
	}
	var made waypost.Secret
	_, err := s.actOn(ctx, "endpoint.rotate_secret", id, detail{"overlap": overlap.String()}, func(e *waypost.Endpoint) error {
		d, ok := s.dialects[e.Dialect]
		if !ok || d.info.SecretPrefix == nil {
			return waypost.Errorf(waypost.KindConflict, "endpoints of the dialect %s have no secret of their own", e.Dialect)
		}
		made = newSigningSecret(*d.info.SecretPrefix)
		e.Secrets = rotate(e.Secrets, made, s.now(), overlap)
		return nil
	})
	return made, err
}

func rotate(old []waypost.SigningSecret, made waypost.Secret, now time.Time, overlap time.Duration) []waypost.SigningSecret {
	secrets := []waypost.SigningSecret{{Value: made}}
	end := now.Add(overlap)
	for _, secret := range old {
		if secret.ExpiresAt.IsZero() || secret.ExpiresAt.After(end) {
			secret.ExpiresAt = end
		}
		if secret.ExpiresAt.After(now) && len(secrets) < maxSecrets {
			secrets = append(secrets, secret)
		}
	}
	return secrets
}

func mergeHeaders(headers map[string]waypost.Secret, change map[string]*waypost.Secret) map[string]waypost.Secret {
	if len(change) == 0 {
		return headers
	}
	merged := maps.Clone(headers)
	if merged == nil {
		merged = map[string]waypost.Secret{}
	}
	// Names are removed before any is set, so that one can be spelt anew.
	for name := range change {
		maps.DeleteFunc(merged, func(old string, _ waypost.Secret) bool { return strings.EqualFold(old, name) })
	}
	for name, value := range change {
		if value != nil {
			merged[name] = *value
		}
	}
	return merged
}

func mergeOptions(options, change map[string]any) map[string]any {
	if len(change) == 0 {
		return options
	}
	merged := maps.Clone(options)
	if merged == nil {
		merged = map[string]any{}
	}
	for name, value := range change {
		if value == nil {
			delete(merged, name)
		} else {
			merged[name] = value
		}
	}
	return merged
}

// given leaves out the options that are only taken away.
func given(options map[string]any) map[string]any {
	set := maps.Clone(options)
	maps.DeleteFunc(set, func(_ string, value any) bool { return value == nil })
	return set
}

func mergePolicy(policy, change waypost.PolicyChange) waypost.PolicyChange {
	if change.Success != nil {
		policy.Success = change.Success
	}
	if change.Timeout != nil {
		policy.Timeout = change.Timeout
	}
	if change.Schedule != nil {
		policy.Schedule = change.Schedule
	}
	return policy
}

// allEvents gives the filter that lets everything through its one form.
func allEvents(events []string) []string {
	if slices.Contains(events, "*") {
		return nil
	}
	return events
}

func placeholders(change EndpointChange) []waypost.FieldError {
	var faults []waypost.FieldError
	for _, name := range slices.Sorted(maps.Keys(change.Headers)) {
		if value := change.Headers[name]; value != nil && isPlaceholder(value.Reveal()) {
			faults = append(faults, waypost.FieldError{Field: "headers." + name, Message: placeholderFault})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(change.Options)) {
		if text, ok := change.Options[name].(string); ok && isPlaceholder(text) {
			faults = append(faults, waypost.FieldError{Field: "options." + name, Message: placeholderFault})
		}
	}
	return faults
}

func eventFaults(events []string) []waypost.FieldError {
	var faults []waypost.FieldError
	if len(events) > maxEvents {
		faults = append(faults, waypost.FieldError{Field: "events", Message: fmt.Sprintf("there may be at most %d", maxEvents)})
	}
	for i, glob := range events {
		if err := waypost.CheckGlob(glob); err != nil {
			faults = append(faults, waypost.FieldError{Field: fmt.Sprintf("events[%d]", i), Message: dialect.MessageOf(err)})
		}
	}
	return faults
}

func policyFaults(p waypost.PolicyChange) []waypost.FieldError {
	var faults []waypost.FieldError
	refuse := func(wrong bool, field, message string) {
		if wrong {
			faults = append(faults, waypost.FieldError{Field: "policy." + field, Message: message})
		}
	}
	if p.Success != nil {
		refuse(*p.Success != waypost.Success200 && *p.Success != waypost.Success2xx, "success", `must be "200" or "2xx"`)
	}
	if p.Timeout != nil {
		refuse(*p.Timeout <= 0 || *p.Timeout > maxTimeout, "timeout", "must be more than 0s and at most 2m")
	}
	if p.Schedule != nil {
		waits := *p.Schedule
		refuse(len(waits) > maxWaits, "schedule", fmt.Sprintf("may have at most %d waits", maxWaits))
		refuse(waypost.Policy{Schedule: waits}.Window() > maxWindow, "schedule", "must end within 744h")
		for i, wait := range waits {
			refuse(wait < 0 || wait > maxWait, fmt.Sprintf("schedule[%d]", i), "must be between 0s and 168h")
		}
	}
	return faults
}

func secretFaults(info dialect.Info, secret *waypost.Secret) []waypost.FieldError {
	if secret == nil {
		return nil
	}
	fault := placeholderFault
	switch {
	case info.SecretPrefix == nil:
		fault = "endpoints of the dialect " + info.ID + " have no secret of their own"
	case !isPlaceholder(secret.Reveal()):
		fault = signingSecretFault(*info.SecretPrefix, secret.Reveal())
	}
	if fault == "" {
		return nil
	}
	return []waypost.FieldError{{Field: "secret", Message: fault}}
}

// fieldsOf are the members an error names.
func fieldsOf(err error) []waypost.FieldError {
	var e *waypost.Error
	if errors.As(err, &e) {
		return e.Fields
	}
	return nil
}

// clone is a copy that can be edited without touching a snapshot.
func clone(e *waypost.Endpoint) waypost.Endpoint {
	c := *e
	c.Headers = maps.Clone(e.Headers)
	c.Options = maps.Clone(e.Options)
	c.Events = slices.Clone(e.Events)
	c.Secrets = slices.Clone(e.Secrets)
	return c
}
