package settings_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// entry is an entry of the audit trail without what differs from run to run.
type entry struct {
	Tenant waypost.TenantID
	Actor  string
	Action string
	Target string
	Detail map[string]any
}

// trail gives the entries since the last call, oldest first.
func (w *world) trail() []entry {
	w.t.Helper()
	rows, err := w.AuditTrail(w.t.Context(), store.AuditFilter{})
	if err != nil {
		w.t.Fatal(err)
	}
	var entries []entry
	for _, row := range rows {
		if row.ID <= w.audited {
			break
		}
		e := entry{Tenant: row.TenantID, Actor: row.Actor, Action: row.Action, Target: row.Target}
		if err := json.Unmarshal(row.Detail, &e.Detail); err != nil {
			w.t.Fatalf("detail %s of %s: %v", row.Detail, row.Action, err)
		}
		entries = append(entries, e)
	}
	if len(rows) > 0 {
		w.audited = rows[0].ID
	}
	slices.Reverse(entries)
	return entries
}

// wantTrail compares what was written since the last look.
func (w *world) wantTrail(want ...entry) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.trail()); diff != "" {
		w.t.Errorf("audit trail (-want +got):\n%s", diff)
	}
}

type members = map[string]any

func names(of ...any) []any { return of }

func TestAuditTrail(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		by := settings.By(t.Context(), "admin")
		w.trail()
		acme := w.acme.ID

		name, secret := "Acme Ltd", waypost.Secret("platform-secret")
		if _, err := w.UpdateTenant(by, acme, settings.TenantChange{Name: &name, Secrets: map[string]*waypost.Secret{perNumber: &secret}}); err != nil {
			t.Fatal(err)
		}
		reference := "shop"
		if _, err := w.UpdateNumber(by, w.number.ID, settings.NumberChange{Reference: &reference, AccessToken: &secret}); err != nil {
			t.Fatal(err)
		}
		source, _, err := w.PutSource(by, waypost.Source{Kind: waypost.SourceOnPrem, Name: "shop", NumberID: w.number.ID, Secrets: []waypost.Secret{secret}})
		if err != nil {
			t.Fatal(err)
		}
		w.wantTrail(
			entry{acme, "admin", "tenant.update", acme.String(), members{"changed": names("name", "secrets.per-number")}},
			entry{acme, "admin", "number.update", w.number.ID.String(), members{"changed": names("reference", "access_token")}},
			entry{acme, "admin", "source.put", source.ID.String(), members{"kind": "onprem", "name": "shop", "replaced": false}},
		)

		url := "https://user:word@hooks.acme.test/in?token=planted"
		e, err := w.CreateEndpoint(by, acme, signed, settings.EndpointChange{URL: &url, Headers: map[string]*waypost.Secret{"X-A": &secret}})
		if err != nil {
			t.Fatal(err)
		}
		two, timeout := 2, time.Second
		if _, err := w.UpdateEndpoint(by, e.ID, settings.EndpointChange{
			InFlight: &two, Policy: waypost.PolicyChange{Timeout: &timeout}, Headers: map[string]*waypost.Secret{"X-A": nil, "X-B": &secret},
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.RotateSecret(by, e.ID, time.Hour); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Pause(by, e.ID); err != nil {
			t.Fatal(err)
		}
		hour := time.Hour
		if _, err := w.Resume(by, e.ID, settings.Resumption{Order: waypost.DrainNewest, SkipOlderThan: &hour}); err != nil {
			t.Fatal(err)
		}
		if err := w.SetState(t.Context(), e.ID, waypost.EndpointTripped, "20 failures", w.directory.Endpoint(e.ID).UpdatedAt); err != nil {
			t.Fatal(err)
		}
		if err := w.SetState(t.Context(), e.ID, waypost.EndpointTripped, "again", w.directory.Endpoint(e.ID).UpdatedAt); err != nil {
			t.Fatal(err)
		}
		if err := w.DeleteEndpoint(by, e.ID); err != nil {
			t.Fatal(err)
		}
		id := e.ID.String()
		w.wantTrail(
			entry{acme, "admin", "endpoint.create", id, members{
				"changed": names("url", "headers.X-A", "secret"), "url": "https://hooks.acme.test/in", "dialect": signed, "slot": "",
			}},
			entry{acme, "admin", "endpoint.update", id, members{"changed": names("headers.X-A", "headers.X-B", "policy.timeout", "in_flight")}},
			entry{acme, "admin", "endpoint.rotate_secret", id, members{"changed": names("secret"), "overlap": "1h0m0s"}},
			entry{acme, "admin", "endpoint.pause", id, members{}},
			entry{acme, "admin", "endpoint.resume", id, members{"order": "newest", "skip_before": "2026-03-01T11:00:00.000Z"}},
			entry{acme, "engine", "endpoint.state", id, members{"state": "tripped", "reason": "20 failures"}},
			entry{acme, "admin", "endpoint.delete", id, members{}},
		)
	})
}

// What customers do through a provider's settings API names their key, also where
// they show a token.
func TestAuditTrailOfSettingsAPIs(t *testing.T) {
	t.Parallel()
	w := start(t)
	by := settings.By(t.Context(), "admin")
	w.trail()
	acme := w.acme.ID
	place := dialect.Place{NumberID: w.number.ID, Slot: "number"}
	first := w.key(perNumber, 0, w.number.ID)
	account := w.account(perNumber, first.Text)
	made := w.change(account, place, hook)
	w.change(account, place, "https://else.test/in?x=1")
	if _, err := w.CreateKey(by, perNumber, 0, w.number.ID); err != nil {
		t.Fatal(err)
	}
	if err := account.Remove(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	told := w.trail()
	actor, target := perNumber+":"+first.ID.String(), made.ID.String()
	number := members{"dialect": perNumber, "number_id": w.number.ID.String()}
	if len(told) != 6 {
		t.Fatalf("%d entries: %v", len(told), told)
	}
	want := []entry{
		{acme, "engine", "key.create", first.ID.String(), number},
		{acme, actor, "endpoint.create", target, members{"changed": names("number_id", "url"), "url": hook, "dialect": perNumber, "slot": "number"}},
		{acme, actor, "endpoint.update", target, members{"changed": names("url"), "url": "https://else.test/in"}},
		{acme, "admin", "key.create", told[3].Target, number},
		{acme, "admin", "endpoint.update", target, members{"changed": names("url"), "url": ""}},
		{acme, actor, "endpoint.delete", target, members{}},
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("audit trail (-want +got):\n%s", diff)
	}

	key := w.key(tokens, acme, 0)
	token := w.token(key, time.Hour)
	w.trail()
	e := w.change(w.account(tokens, waypost.Secret(token)), dialect.Place{Slot: "partner"}, hook)
	w.wantTrail(entry{acme, tokens + ":" + key.ID.String(), "endpoint.create", e.ID.String(), members{
		"changed": names("url"), "url": hook, "dialect": tokens, "slot": "partner",
	}})
}

// silent is a store whose audit trail can't be written.
type silent struct{ store.Store }

func (silent) Record(context.Context, store.AuditEntry) error { return errors.New("no room") }

// Nothing is done that the trail does not tell.
func TestNothingIsDoneUnaudited(t *testing.T) {
	t.Parallel()
	w := start(t)
	account := w.account(perNumber, w.key(perNumber, 0, w.number.ID).Text)
	e := w.change(account, dialect.Place{NumberID: w.number.ID, Slot: "number"}, hook)
	key := w.key(byPhone, 0, w.number.ID)
	event := w.owe(e.ID, store.InTable, 1)[0]
	audited := w.store
	w.store = silent{audited}
	mute, _ := w.process()
	name, url, five := "x", "https://else.test/", 5
	acts := map[string]func(context.Context) error{
		"create tenant": func(ctx context.Context) error {
			_, err := mute.CreateTenant(ctx, settings.TenantChange{Name: &name})
			return err
		},
		"update tenant": func(ctx context.Context) error {
			_, err := mute.UpdateTenant(ctx, w.acme.ID, settings.TenantChange{Name: &name})
			return err
		},
		"create number": func(ctx context.Context) error {
			phone := "15551112222"
			_, err := mute.CreateNumber(ctx, w.acme.ID, settings.NumberChange{Phone: &phone})
			return err
		},
		"update number": func(ctx context.Context) error {
			_, err := mute.UpdateNumber(ctx, w.number.ID, settings.NumberChange{Reference: &name})
			return err
		},
		"lifecycle": func(ctx context.Context) error {
			_, err := mute.SetLifecycle(ctx, w.number.ID, waypost.LifecycleReady, nil)
			return err
		},
		"source": func(ctx context.Context) error {
			_, _, err := mute.PutSource(ctx, waypost.Source{Kind: waypost.SourceOnPrem, Name: "x", Secrets: []waypost.Secret{"x"}})
			return err
		},
		"create key": func(ctx context.Context) error {
			_, err := mute.CreateKey(ctx, perTenant, w.acme.ID, 0)
			return err
		},
		"revoke key": func(ctx context.Context) error { return mute.RevokeKey(ctx, key.ID) },
		"create endpoint": func(ctx context.Context) error {
			_, err := mute.CreateEndpoint(ctx, w.acme.ID, signed, settings.EndpointChange{URL: &url})
			return err
		},
		"update endpoint": func(ctx context.Context) error {
			_, err := mute.UpdateEndpoint(ctx, e.ID, settings.EndpointChange{InFlight: &five})
			return err
		},
		"pause":  func(ctx context.Context) error { _, err := mute.Pause(ctx, e.ID); return err },
		"resume": func(ctx context.Context) error { _, err := mute.Resume(ctx, e.ID, settings.Resumption{}); return err },
		"delete": func(ctx context.Context) error { return mute.DeleteEndpoint(ctx, e.ID) },
		"purge":  func(ctx context.Context) error { _, err := mute.Purge(ctx, e.ID, w.clock(), 1); return err },
		"retry": func(ctx context.Context) error {
			return mute.RetryDelivery(ctx, waypost.DeliveryID{Event: event, Endpoint: e.ID})
		},
		"replay": func(ctx context.Context) error { _, err := mute.ReplayEvent(ctx, event, 0); return err },
		"settings API": func(ctx context.Context) error {
			account, err := mute.Authenticate(ctx, dialect.Credential{Dialect: byPhone, Key: key.Text.Reveal(), Account: w.number.Phone})
			if err != nil {
				t.Fatal(err)
			}
			_, err = account.Change(ctx, dialect.Place{Slot: "x"}, func(e *waypost.Endpoint) error { e.URL = hook; return nil })
			return err
		},
	}
	before, err := audited.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	for name, act := range acts {
		wantKind(t, name, act(t.Context()), waypost.KindUnavailable)
		if after, err := audited.Revision(t.Context()); err != nil || after != before {
			t.Errorf("%s changed something unaudited (%v)", name, err)
			before = after
		}
	}
	if backlog, err := mute.Backlog(t.Context(), e.ID, time.Time{}); err != nil || backlog.Count != 1 {
		t.Errorf("the backlog is %+v, %v", backlog, err)
	}
	// The engine's own verdict must not wait for anything.
	if err := mute.SetState(t.Context(), e.ID, waypost.EndpointTripped, "because", w.directory.Endpoint(e.ID).UpdatedAt); err != nil {
		t.Errorf("the breaker was kept from its work: %v", err)
	}
}

// What failed after its entry was written says so in another.
func TestFailureIsAudited(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.trail()
	phone, taken := "15551112222", w.foreign.PhoneNumberID
	_, err := w.CreateNumber(t.Context(), w.acme.ID, settings.NumberChange{Phone: &phone, PhoneNumberID: &taken})
	wantKind(t, "a phone_number_id that is taken", err, waypost.KindConflict)
	told := w.trail()
	if len(told) != 2 || told[0].Detail["failed"] != nil || told[1].Detail["failed"] == nil ||
		told[0].Target != told[1].Target || told[1].Action != "number.create" {
		t.Errorf("audit trail: %v", told)
	}
	// What is refused at the door is no act at all.
	empty := ""
	_, err = w.CreateTenant(t.Context(), settings.TenantChange{Name: &empty})
	wantKind(t, "no name", err, waypost.KindInvalid)
	wantKind(t, "no such endpoint", w.DeleteEndpoint(t.Context(), 4711), waypost.KindNotFound)
	wantKind(t, "no such delivery", w.RetryDelivery(t.Context(), waypost.DeliveryID{Event: 1, Endpoint: 1}), waypost.KindNotFound)
	w.wantTrail()
}

func TestAuditTrailHoldsNoSecret(t *testing.T) {
	t.Parallel()
	w := start(t)
	const planted = "planted-value-4711"
	value, url := waypost.Secret(planted), "https://"+planted+":"+planted+"@hooks.acme.test/in?"+planted
	if _, err := w.UpdateTenant(t.Context(), w.acme.ID, settings.TenantChange{Secrets: map[string]*waypost.Secret{perTenant: &value}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.UpdateNumber(t.Context(), w.number.ID, settings.NumberChange{AccessToken: &value}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.PutSource(t.Context(), waypost.Source{Kind: waypost.SourceMeta, Name: "a", Secrets: []waypost.Secret{value}, VerifyToken: value}); err != nil {
		t.Fatal(err)
	}
	e, err := w.CreateEndpoint(t.Context(), w.acme.ID, signed, settings.EndpointChange{
		URL: &url, Secret: &value, Headers: map[string]*waypost.Secret{"X-A": &value},
	})
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := w.RotateSecret(t.Context(), e.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key := w.key(perTenant, w.acme.ID, 0)
	rows, err := w.AuditTrail(t.Context(), store.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		for _, secret := range []string{planted, rotated.Reveal(), key.Text.Reveal(), w.number.Phone} {
			if strings.Contains(string(row.Detail)+row.Target+row.Actor, secret) {
				t.Errorf("the entry of %s holds what it must not: %s", row.Action, row.Detail)
			}
		}
	}
}
