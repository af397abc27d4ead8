package settings_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// published is an event that was published, with its data decoded.
type published struct {
	Number waypost.NumberID
	Key    string
	Data   map[string]any
}

// publish is a Publisher that remembers, and heeds idempotency keys.
func (w *world) publish(_ context.Context, _ waypost.TenantID, number waypost.NumberID, eventType string, data json.RawMessage, key string) (waypost.EventID, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refusals > 0 {
		w.refusals--
		return 0, waypost.Errorf(waypost.KindUnavailable, "not now")
	}
	for _, p := range w.published {
		if key != "" && p.Key == key {
			return 1, nil
		}
	}
	p := published{Number: number, Key: key}
	if err := json.Unmarshal(data, &p.Data); err != nil || eventType != waypost.TypePlatformWhatsApp {
		w.t.Errorf("published %s %s: %v", eventType, data, err)
	}
	w.published = append(w.published, p)
	return 1, nil
}

// told gives and forgets what was published, without the keys.
func (w *world) told() []published {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := w.published
	w.published = nil
	for i := range told {
		told[i].Key = ""
	}
	return told
}

func (w *world) refuse(times int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusals = times
}

func (w *world) move(n waypost.NumberID, state waypost.Lifecycle, limit *int64) {
	w.t.Helper()
	moved, err := w.SetLifecycle(w.t.Context(), n, state, limit)
	if err != nil || moved.Lifecycle != state {
		w.t.Fatalf("set lifecycle: %v, %v", moved.Lifecycle, err)
	}
}

// theKey is the key that was told, and fails the test unless it opens the
// number's door.
func (w *world) theKey(told []published, phone string) string {
	w.t.Helper()
	if len(told) != 1 {
		w.t.Fatalf("%d events were told, want 1: %v", len(told), told)
	}
	key, _ := told[0].Data["whatsapp_apiKey"].(string)
	if err := w.show(byPhone, key, phone, "192.0.2.9"); err != nil {
		w.t.Errorf("the key that was told: %v", err)
	}
	delete(told[0].Data, "whatsapp_apiKey")
	return key
}

func TestLifecycleIsToldWithTheKey(t *testing.T) {
	t.Parallel()
	w := start(t)
	reference := "cust-77"
	if _, err := w.UpdateNumber(t.Context(), w.number.ID, settings.NumberChange{Reference: &reference}); err != nil {
		t.Fatal(err)
	}
	w.move(w.number.ID, waypost.LifecycleOnboarded, nil)
	told := w.told()
	minted := w.theKey(told, w.number.Phone)
	want := map[string]any{"whatsapp": w.number.Phone, "whatsapp_reference": "cust-77", "whatsapp_extra_info": 1.0}
	if diff := cmp.Diff(want, told[0].Data); diff != "" || told[0].Number != w.number.ID {
		t.Errorf("onboarded (-want +got):\n%s", diff)
	}

	none, limit := int64(0), int64(2000)
	w.move(w.number.ID, waypost.LifecycleReceiving, &none)
	told = w.told()
	if again := w.theKey(told, w.number.Phone); again != minted {
		t.Error("the next step tells another key")
	}
	want["whatsapp_extra_info"], want["daily_limit"] = 2.0, 0.0
	if diff := cmp.Diff(want, told[0].Data); diff != "" {
		t.Errorf("receiving (-want +got):\n%s", diff)
	}
	w.move(w.number.ID, waypost.LifecycleReady, &limit)
	w.move(w.number.ID, waypost.LifecycleDeleted, nil)
	w.move(w.number.ID, waypost.LifecycleFailed, nil)
	told = w.told()
	w.theKey(told[:1], w.number.Phone)
	want["whatsapp_extra_info"], want["daily_limit"] = 3.0, 2000.0
	if diff := cmp.Diff(want, told[0].Data); diff != "" {
		t.Errorf("ready (-want +got):\n%s", diff)
	}
	delete(want, "daily_limit")
	for i, code := range []float64{4, 5} {
		want["whatsapp_extra_info"] = code
		if diff := cmp.Diff(want, told[i+1].Data); diff != "" {
			t.Errorf("code %v (-want +got):\n%s", code, diff)
		}
	}
	_, err := w.SetLifecycle(t.Context(), w.number.ID, waypost.LifecycleUnknown, nil)
	wantKind(t, "no state", err, waypost.KindInvalid)
	_, err = w.SetLifecycle(t.Context(), 4711, waypost.LifecycleReady, nil)
	wantKind(t, "no number", err, waypost.KindNotFound)
}

func TestWhichKeyIsTold(t *testing.T) {
	t.Parallel()
	w := start(t)
	ready := func() (key string, told bool) {
		w.move(w.number.ID, waypost.LifecycleReady, nil)
		key, told = w.told()[0].Data["whatsapp_apiKey"].(string)
		return key, told
	}
	byHand := w.key(byPhone, 0, w.number.ID)
	if key, _ := ready(); key != byHand.Text.Reveal() {
		t.Error("not the key that was made by hand")
	}
	next := w.key(byPhone, 0, w.number.ID)
	if key, _ := ready(); key != next.Text.Reveal() {
		t.Error("not the key that replaced it")
	}
	former := settings.New(settings.Options{ // as it was before a secret was put in front
		Store: w.store, Directory: w.directory, Dialects: dialects(), IDs: w.ids.Next, KeySecrets: [][]byte{[]byte("former secret")},
	})
	old, err := former.CreateKey(t.Context(), byPhone, 0, w.number.ID)
	if err != nil {
		t.Fatal(err)
	}
	if key, _ := ready(); key != old.Text.Reveal() {
		t.Error("not the key that was made under the former secret")
	}
	gone := settings.New(settings.Options{
		Store: w.store, Directory: w.directory, Dialects: dialects(), IDs: w.ids.Next, KeySecrets: [][]byte{[]byte("lost secret")},
	})
	lost, err := gone.CreateKey(t.Context(), byPhone, 0, w.number.ID)
	if err != nil {
		t.Fatal(err)
	}
	if key, told := ready(); told {
		t.Errorf("a key is told whose text can't be known: %q", key)
	}
	if err := w.show(byPhone, lost.Text.Reveal(), w.number.Phone, "x"); err != nil {
		t.Errorf("a key that can't be told does not work: %v", err)
	}
	if err := w.RevokeKey(t.Context(), lost.ID); err != nil {
		t.Fatal(err)
	}
	if _, told := ready(); told {
		t.Error("a revoked key came back by itself")
	}
}

// notice is one of Meta's, as ingest hands it over.
func (w *world) notice(number waypost.NumberID, waba, field, value string) *waypost.Event {
	return &waypost.Event{
		ID: waypost.EventID(w.ids.Next()), Type: "whatsapp." + field, Form: waypost.FormCloud, State: waypost.EventRouted,
		TenantID: w.acme.ID, NumberID: number, WABAID: waba,
		Body: fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":%q,"changes":[{"value":%s,"field":%q}]}]}`, waba, value, field),
	}
}

func (w *world) follow(event *waypost.Event) {
	w.t.Helper()
	if err := w.Follow(w.t.Context(), event); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stands(id waypost.NumberID, state waypost.Lifecycle, limit int64) {
	w.t.Helper()
	if n := w.directory.Number(id); n.Lifecycle != state || n.DailyLimit != limit {
		w.t.Errorf("the number is %q with limit %d, want %q with %d", n.Lifecycle, n.DailyLimit, state, limit)
	}
}

func TestNoticesMoveTheLifecycle(t *testing.T) {
	t.Parallel()
	w := start(t)
	onboarding := w.notice(w.number.ID, "w1", "phone_number_quality_update", `{"event":"ONBOARDING","current_limit":"TIER_NOT_SET"}`)
	w.follow(onboarding)
	w.stands(w.number.ID, waypost.LifecycleReceiving, 0)
	told := w.told()
	w.theKey(told, w.number.Phone)
	if diff := cmp.Diff(map[string]any{"whatsapp": w.number.Phone, "whatsapp_extra_info": 2.0, "daily_limit": 0.0}, told[0].Data); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	third := w.newNumber(w.acme.ID, "15550000009", "p4", "w1")
	w.move(third.ID, waypost.LifecycleReady, nil)
	w.told()
	capability := w.notice(0, "w1", "business_capability_update", `{"max_daily_conversations_per_business":"TIER_2K"}`)
	w.follow(capability)
	w.stands(w.number.ID, waypost.LifecycleReceiving, 2000)
	w.stands(third.ID, waypost.LifecycleReady, 2000)
	w.stands(w.second.ID, waypost.LifecycleUnknown, 0) // in no business account
	if told := w.told(); len(told) != 2 || told[0].Data["daily_limit"] != 2000.0 || told[1].Data["whatsapp_extra_info"] != 3.0 {
		t.Errorf("told %v, want both numbers of the account", told)
	}

	// A repeat, or one that was overtaken, moves nothing and tells nothing.
	w.follow(w.notice(w.number.ID, "w1", "phone_number_quality_update", `{"event":"ONBOARDING","current_limit":"TIER_10K"}`))
	if told := w.told(); len(told) != 1 || told[0].Data["whatsapp_extra_info"] != 3.0 || told[0].Data["daily_limit"] != 10000.0 {
		t.Errorf("told %v", told)
	}
	w.follow(onboarding)
	w.follow(capability)
	w.stands(w.number.ID, waypost.LifecycleReady, 10000)
	w.follow(w.notice(0, "w1", "account_update", `{"event":"ACCOUNT_DELETED"}`))
	w.stands(third.ID, waypost.LifecycleDeleted, 2000)
	told = w.told()
	if len(told) != 2 || told[0].Data["whatsapp_extra_info"] != 4.0 || told[0].Data["whatsapp_apiKey"] != nil {
		t.Errorf("told %v, want both numbers deleted, without a key", told)
	}
	w.follow(w.notice(0, "w1", "business_capability_update", `{"max_daily_conversations_per_business":250}`))
	w.follow(w.notice(0, "w2", "account_update", `{"event":"ACCOUNT_DELETED"}`)) // another tenant's account
	if told := w.told(); len(told) != 0 {
		t.Errorf("told of a limit of deleted numbers: %v", told)
	}
	if w.directory.Number(w.foreign.ID).Lifecycle != waypost.LifecycleUnknown {
		t.Error("a notice reached another tenant's number")
	}
}

// Whatever step fails, the repeat completes it, and nothing is told twice.
func TestNoticeIsFollowedAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	w := start(t)
	third := w.newNumber(w.acme.ID, "15550000009", "p4", "w1")
	w.move(w.number.ID, waypost.LifecycleReady, nil)
	w.move(third.ID, waypost.LifecycleReady, nil)
	w.told()
	notice := w.notice(0, "w1", "business_capability_update", `{"max_daily_conversations_per_business":250}`)
	w.refuse(1)
	wantKind(t, "publishing fails", w.Follow(t.Context(), notice), waypost.KindUnavailable)
	w.stands(w.number.ID, waypost.LifecycleReady, 0)
	w.follow(notice)
	// A crash right after the event was told, before the number was changed:
	if _, err := w.UpdateNumber(t.Context(), w.number.ID, settings.NumberChange{DailyLimit: new(int64)}); err != nil {
		t.Fatal(err)
	}
	if err := w.store.SetValue(t.Context(), "lifecycle:"+w.number.ID.String(), ""); err != nil {
		t.Fatal(err)
	}
	w.follow(notice)
	w.stands(w.number.ID, waypost.LifecycleReady, 250)
	if told := w.told(); len(told) != 2 {
		t.Errorf("%d events were told, want one for each number: %v", len(told), told)
	}
	w.follow(w.notice(w.number.ID, "w1", "message_template_status_update", `{"event":"APPROVED"}`))
	w.follow(&waypost.Event{Type: "whatsapp.account_update", Form: waypost.FormCloud, Body: []byte("no JSON"), TenantID: w.acme.ID})
	unrouted := w.notice(0, "w1", "account_update", `{"event":"ACCOUNT_DELETED"}`)
	unrouted.TenantID = 0
	w.follow(unrouted)
	if told := w.told(); len(told) != 0 {
		t.Errorf("told of what says nothing: %v", told)
	}
}
