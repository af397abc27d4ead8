package settings

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

type actorKey struct{}

// By says who asks for what is done under the context: "admin", or a dialect and
// the id of one of its keys. What nobody asked for is the gateway's own doing.
func By(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// itself is the actor where nobody asked.
const itself = "engine"

// act is something that is done to settings or deliveries, as the audit trail
// tells it.
type act struct {
	action string
	tenant waypost.TenantID
	target fmt.Stringer
	detail detail
}

// detail are the figures of an act and the names of the members it changes;
// never a secret.
type detail map[string]any

// do writes the act in the audit trail and then does it. An act that failed
// after all, or may have, gets another entry that says so.
func (s *Service) do(ctx context.Context, a act, change func() error) error {
	if err := s.announce(ctx, a); err != nil {
		return err
	}
	err := change()
	if err != nil {
		a.detail = detail{"failed": dialect.MessageOf(err)}
		s.note(ctx, a)
	}
	return err
}

// announce writes the entry of what is about to be done, which must not be done
// when that fails.
func (s *Service) announce(ctx context.Context, a act) error {
	if err := s.record(ctx, a); err != nil {
		return &waypost.Error{
			Kind:    waypost.KindUnavailable,
			Message: "the audit trail can't be written just now, so this was not done; try again",
			Err:     err,
		}
	}
	return nil
}

// note writes the entry of what has happened already, whoever is still waiting.
func (s *Service) note(ctx context.Context, a act) {
	if err := s.record(context.WithoutCancel(ctx), a); err != nil {
		s.log.ErrorContext(ctx, "audit entry not written", "action", a.action, "target", a.target.String(), "error", err)
	}
}

func (s *Service) record(ctx context.Context, a act) error {
	if a.detail == nil {
		a.detail = detail{}
	}
	text, err := json.Marshal(a.detail)
	if err != nil {
		return fmt.Errorf("write detail of %s: %w", a.action, err)
	}
	actor, _ := ctx.Value(actorKey{}).(string)
	return s.store.Record(ctx, store.AuditEntry{
		ID:       s.newID(),
		TenantID: a.tenant,
		Actor:    cmp.Or(actor, itself),
		Action:   a.action,
		Target:   a.target.String(),
		Detail:   text,
	})
}

// AuditTrail lists what was done, newest first.
func (s *Service) AuditTrail(ctx context.Context, filter store.AuditFilter) ([]store.AuditEntry, error) {
	return s.store.AuditTrail(ctx, filter)
}

// changed collects the names of members that differ.
type changed []string

func (c *changed) note(differs bool, name string) {
	if differs {
		*c = append(*c, name)
	}
}

// detail is what an act tells of them.
func (c changed) detail() detail {
	if len(c) == 0 {
		return detail{}
	}
	return detail{"changed": c}
}

// noteKeys compares two maps; prefix goes before the names of their keys.
func noteKeys[V any](c *changed, prefix string, before, after map[string]V) {
	names := slices.Sorted(maps.Keys(before))
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if _, was := before[name]; !was {
			names = append(names, name)
		}
	}
	for _, name := range names {
		old, was := before[name]
		value, is := after[name]
		c.note(was != is || !reflect.DeepEqual(old, value), prefix+name)
	}
}

// endpointDetail tells what differs between two states of an endpoint.
func endpointDetail(before, after *waypost.Endpoint) detail {
	var c changed
	c.note(before.NumberID != after.NumberID, "number_id")
	c.note(before.WABAID != after.WABAID, "waba_id")
	c.note(before.URL != after.URL, "url")
	noteKeys(&c, "headers.", before.Headers, after.Headers)
	c.note(!slices.Equal(before.Events, after.Events), "events")
	noteKeys(&c, "options.", before.Options, after.Options)
	c.note(!reflect.DeepEqual(before.Policy.Success, after.Policy.Success), "policy.success")
	c.note(!reflect.DeepEqual(before.Policy.Timeout, after.Policy.Timeout), "policy.timeout")
	c.note(!reflect.DeepEqual(before.Policy.Schedule, after.Policy.Schedule), "policy.schedule")
	c.note(!slices.Equal(before.Secrets, after.Secrets), "secret")
	c.note(before.InFlight != after.InFlight, "in_flight")
	told := c.detail()
	if before.URL != after.URL {
		told["url"] = bareURL(after.URL)
	}
	return told
}

func tenantDetail(before, after *waypost.Tenant) detail {
	var c changed
	c.note(before.Name != after.Name, "name")
	c.note(before.Reference != after.Reference, "reference")
	noteKeys(&c, "secrets.", before.Secrets, after.Secrets)
	return c.detail()
}

func numberDetail(before, after *waypost.Number) detail {
	var c changed
	c.note(before.Phone != after.Phone, "phone")
	c.note(before.PhoneNumberID != after.PhoneNumberID, "phone_number_id")
	c.note(before.WABAID != after.WABAID, "waba_id")
	c.note(before.Reference != after.Reference, "reference")
	c.note(before.AccessToken != after.AccessToken, "access_token")
	c.note(before.Lifecycle != after.Lifecycle, "lifecycle")
	c.note(before.DailyLimit != after.DailyLimit, "daily_limit")
	return c.detail()
}

// bareURL leaves out of a receiver's URL what may be secret by its nature: user,
// password and query.
func bareURL(raw string) string {
	bare, _, _ := strings.Cut(raw, "?")
	start, end := userInfo(bare)
	if start == end {
		return bare
	}
	return bare[:start] + bare[end+len("@"):]
}
