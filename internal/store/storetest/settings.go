package storetest

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var settingsTests = []test{
	{"tenants", settingsTenant},
	{"numbers", settingsNumber},
	{"sources", settingsSource},
	{"endpoints", settingsEndpoint},
	{"a slot holds one endpoint", settingsSlot},
	{"changes since a revision", settingsChanges},
	{"deleted endpoints that are still owed", settingsDeletedOwed},
	{"edits do not overwrite each other", settingsConcurrentEdits},
	{"a refused edit changes nothing", settingsRefusedEdit},
	{"a new key revokes the old one", settingsKeys},
	{"short-lived keys live side by side", settingsTokens},
	{"one key per account", settingsAccount},
	{"values", settingsValues},
	{"ping", settingsPing},
	{"notices", settingsNotices},
}

func (f *fixture) changes(since int64) store.Changes {
	f.tb.Helper()
	changes, err := f.store.Changes(f.ctx(), since)
	f.must(err)
	return changes
}

func (f *fixture) revision() int64 {
	f.tb.Helper()
	revision, err := f.store.Revision(f.ctx())
	f.must(err)
	return revision
}

func settingsTenant(f *fixture) {
	want := waypost.Tenant{
		ID: waypost.TenantID(f.ids.Next()), Name: "Café", Reference: "ref-1", CreatedAt: f.now,
		Secrets: map[string]waypost.Secret{"360dialog": "platform secret"},
	}
	since := f.revision()
	f.must(f.store.CreateTenant(f.ctx(), want))
	f.equal("created", f.changes(since).Tenants, []waypost.Tenant{want})
	f.kind(f.store.CreateTenant(f.ctx(), want), waypost.KindConflict)

	since = f.revision()
	got, err := f.store.UpdateTenant(f.ctx(), want.ID, func(tenant *waypost.Tenant) error {
		tenant.Name = "Bar"
		tenant.Secrets["connectly"] = "another"
		return nil
	})
	f.must(err)
	want.Name, want.Secrets["connectly"] = "Bar", "another"
	f.equal("updated", got, want)
	f.equal("changed", f.changes(since).Tenants, []waypost.Tenant{want})
	_, err = f.store.UpdateTenant(f.ctx(), want.ID+1, func(*waypost.Tenant) error { return nil })
	f.kind(err, waypost.KindNotFound)
}

func settingsNumber(f *fixture) {
	want := waypost.Number{
		ID: waypost.NumberID(f.ids.Next()), TenantID: f.tenant, Phone: "972501234567", PhoneNumberID: "106540352242922",
		WABAID: "102290129340398", Reference: "r", AccessToken: "graph token", Lifecycle: waypost.LifecycleReady,
		DailyLimit: 1 << 40, CreatedAt: f.now,
	}
	since := f.revision()
	f.must(f.store.CreateNumber(f.ctx(), want))
	f.equal("created", f.changes(since).Numbers, []waypost.Number{want})

	twin := want
	twin.ID = waypost.NumberID(f.ids.Next())
	f.kind(f.store.CreateNumber(f.ctx(), twin), waypost.KindConflict)
	for range 2 { // numbers without one do not clash
		twin.ID, twin.PhoneNumberID = waypost.NumberID(f.ids.Next()), ""
		f.must(f.store.CreateNumber(f.ctx(), twin))
	}
	_, err := f.store.UpdateNumber(f.ctx(), twin.ID, func(n *waypost.Number) error {
		n.PhoneNumberID = want.PhoneNumberID
		return nil
	})
	f.kind(err, waypost.KindConflict)

	since = f.revision()
	want.AccessToken, want.Lifecycle, want.DailyLimit, want.WABAID = "", waypost.LifecycleDeleted, 0, "7"
	got, err := f.store.UpdateNumber(f.ctx(), want.ID, func(n *waypost.Number) error {
		n.AccessToken, n.Lifecycle, n.DailyLimit, n.WABAID = "", waypost.LifecycleDeleted, 0, "7"
		return nil
	})
	f.must(err)
	f.equal("updated", got, want)
	f.equal("changed", f.changes(since).Numbers, []waypost.Number{want})
	_, err = f.store.UpdateNumber(f.ctx(), twin.ID+1, func(*waypost.Number) error { return nil })
	f.kind(err, waypost.KindNotFound)
}

func settingsSource(f *fixture) {
	want := waypost.Source{
		ID: waypost.SourceID(f.ids.Next()), Name: "default", Kind: waypost.SourceMeta, TenantID: f.tenant, NumberID: 3,
		Secrets: []waypost.Secret{"new", "old"}, VerifyToken: "verify", CreatedAt: f.now,
	}
	since := f.revision()
	f.must(f.store.PutSource(f.ctx(), want))
	f.equal("created", f.changes(since).Sources, []waypost.Source{want})

	since = f.revision()
	replaced := waypost.Source{
		ID: waypost.SourceID(f.ids.Next()), Name: "default", Kind: waypost.SourceMeta,
		Secrets: []waypost.Secret{"token"}, CreatedAt: f.now.Add(time.Hour),
	}
	f.must(f.store.PutSource(f.ctx(), replaced))
	replaced.ID, replaced.CreatedAt = want.ID, want.CreatedAt // what events refer to stays
	f.equal("replaced", f.changes(since).Sources, []waypost.Source{replaced})

	since = f.revision()
	namesake := replaced // a name belongs to its kind
	namesake.ID, namesake.Kind = waypost.SourceID(f.ids.Next()), waypost.SourceOnPrem
	f.must(f.store.PutSource(f.ctx(), namesake))
	f.equal("namesake", f.changes(since).Sources, []waypost.Source{namesake})
	f.equal("sources", len(f.changes(0).Sources), 2)
}

func settingsEndpoint(f *fixture) {
	timeout, success := 7*time.Second, waypost.Success2xx
	want := waypost.Endpoint{
		ID: waypost.EndpointID(f.ids.Next()), TenantID: f.tenant, NumberID: 5, WABAID: "w", Dialect: "360dialog", Slot: "number",
		URL:     "https://receiver.example/x?y=1",
		Headers: map[string]waypost.Secret{"Authorization": "Bearer abc"},
		Events:  []string{"whatsapp.message.*", "whatsapp.status.read"},
		Options: map[string]any{"payload": "cloud", "retry": true, "limit": 2.5},
		Policy:  waypost.PolicyChange{Success: &success, Timeout: &timeout, Schedule: &[]time.Duration{0, time.Minute}},
		Secrets: []waypost.SigningSecret{
			{Value: "whsec_new"},
			{Value: "whsec_old", ExpiresAt: f.now.Add(time.Hour)},
		},
		State: waypost.EndpointTripped, StateReason: "ten failures in a row",
		CreatedAt: f.now, UpdatedAt: f.now.Add(time.Second),
	}
	since := f.revision()
	f.must(f.store.CreateEndpoint(f.ctx(), want))
	f.equal("created", f.changes(since).Endpoints, []waypost.Endpoint{want})
	f.kind(f.store.CreateEndpoint(f.ctx(), want), waypost.KindConflict)

	since = f.revision()
	edit := func(e *waypost.Endpoint) error {
		e.URL, e.Headers, e.Events, e.Options, e.Secrets = "", nil, nil, nil, nil
		e.Policy = waypost.PolicyChange{Schedule: &[]time.Duration{}} // no retries, unlike the default
		e.State, e.StateReason, e.UpdatedAt = waypost.EndpointActive, "", f.now.Add(time.Minute)
		return nil
	}
	f.must(edit(&want))
	got, err := f.store.UpdateEndpoint(f.ctx(), want.ID, edit)
	f.must(err)
	f.equal("updated", got, want)
	changed := f.changes(since).Endpoints
	f.equal("changed", changed, []waypost.Endpoint{want})
	if schedule := changed[0].Policy.Schedule; schedule == nil || *schedule == nil {
		f.tb.Fatal("an empty schedule became an absent one")
	}
	_, err = f.store.UpdateEndpoint(f.ctx(), want.ID+1, edit)
	f.kind(err, waypost.KindNotFound)
}

func settingsSlot(f *fixture) {
	place := func(e *waypost.Endpoint) { e.Dialect, e.Slot, e.NumberID = "whizard", "number", 8 }
	create := func(change func(*waypost.Endpoint)) error {
		e := waypost.Endpoint{ID: waypost.EndpointID(f.ids.Next()), TenantID: f.tenant, State: waypost.EndpointActive}
		place(&e)
		change(&e)
		return f.store.CreateEndpoint(f.ctx(), e)
	}
	first := f.endpoint(place)
	f.kind(create(func(*waypost.Endpoint) {}), waypost.KindConflict)
	for name, elsewhere := range map[string]func(*waypost.Endpoint){
		"tenant":  func(e *waypost.Endpoint) { e.TenantID++ },
		"number":  func(e *waypost.Endpoint) { e.NumberID++ },
		"account": func(e *waypost.Endpoint) { e.WABAID = "other" },
		"dialect": func(e *waypost.Endpoint) { e.Dialect = "360dialog" },
		"slot":    func(e *waypost.Endpoint) { e.Slot = "waba" },
		"none":    func(e *waypost.Endpoint) { e.Slot = "" },
	} {
		if err := create(elsewhere); err != nil {
			f.tb.Fatalf("another %s: %v", name, err)
		}
	}
	other := f.endpoint(func(e *waypost.Endpoint) { place(e); e.Slot = "multi:x" })
	_, err := f.store.UpdateEndpoint(f.ctx(), other, func(e *waypost.Endpoint) error {
		e.Slot = "number"
		return nil
	})
	f.kind(err, waypost.KindConflict)

	f.editEndpoint(first, func(e *waypost.Endpoint) { e.DeletedAt = f.now })
	if err := create(func(*waypost.Endpoint) {}); err != nil {
		f.tb.Fatalf("the slot of a deleted endpoint: %v", err)
	}
	_, err = f.store.UpdateEndpoint(f.ctx(), first, func(*waypost.Endpoint) error { return nil })
	f.kind(err, waypost.KindNotFound)
}

func settingsChanges(f *fixture) {
	start := f.revision()
	f.equal("nothing new", f.changes(start), store.Changes{Revision: start})

	f.editEndpoint(f.endpoints[1], func(e *waypost.Endpoint) { e.URL = "https://other.example" })
	middle := f.revision()
	f.editEndpoint(f.endpoints[2], func(e *waypost.Endpoint) { e.DeletedAt = f.now })
	end := f.revision()
	if start >= middle || middle >= end {
		f.tb.Fatalf("revisions %d, %d, %d do not ascend", start, middle, end)
	}
	for _, c := range []struct {
		since int64
		want  []waypost.EndpointID
	}{
		{start, f.endpoints[1:]},
		{middle, f.endpoints[2:]}, // deleted, and said so
		{end, nil},
		{0, f.endpoints[:2]}, // deleted before, and owed nothing
	} {
		changes := f.changes(c.since)
		f.equal("revision", changes.Revision, end)
		var ids []waypost.EndpointID
		for _, e := range changes.Endpoints {
			ids = append(ids, e.ID)
			if e.ID == f.endpoints[2] && !e.DeletedAt.Equal(f.now) {
				f.tb.Fatalf("deleted at %s, want %s", e.DeletedAt, f.now)
			}
		}
		f.equal("changed endpoints", ids, c.want)
	}
	f.equal("tenants from the start", len(f.changes(0).Tenants), 1)
}

func settingsDeletedOwed(f *fixture) {
	a, b := f.endpoints[0], f.endpoints[1] // the third is owed nothing
	f.accepted(store.Owing{Endpoint: a, Place: store.InHand}, store.Owing{Endpoint: b, After: a})
	for _, id := range f.endpoints {
		f.editEndpoint(id, func(e *waypost.Endpoint) { e.DeletedAt = f.now })
	}
	var ids []waypost.EndpointID
	for _, e := range f.changes(0).Endpoints {
		ids = append(ids, e.ID)
	}
	f.equal("endpoints", ids, []waypost.EndpointID{a, b})
}

func settingsConcurrentEdits(f *fixture) {
	start := f.revision()
	number := waypost.Number{ID: waypost.NumberID(f.ids.Next()), TenantID: f.tenant}
	f.must(f.store.CreateNumber(f.ctx(), number))
	const workers, edits = 4, 5
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range edits {
				_, err := f.store.UpdateNumber(f.ctx(), number.ID, func(n *waypost.Number) error {
					n.DailyLimit++
					return nil
				})
				if err != nil {
					f.tb.Error(err)
				}
			}
		})
	}
	group.Wait()
	f.equal("limit", f.changes(start).Numbers[0].DailyLimit, int64(workers*edits))
	f.equal("revision", f.revision(), start+1+workers*edits)
}

func settingsRefusedEdit(f *fixture) {
	start := f.revision()
	refusal := errors.New("no")
	_, err := f.store.UpdateEndpoint(f.ctx(), f.endpoints[0], func(e *waypost.Endpoint) error {
		e.URL = "https://elsewhere.example"
		return refusal
	})
	if !errors.Is(err, refusal) {
		f.tb.Fatalf("error is %v, want the refusal", err)
	}
	f.equal("changes", f.changes(start), store.Changes{Revision: start})
	_, err = f.store.UpdateEndpoint(f.ctx(), f.endpoints[0], func(*waypost.Endpoint) error {
		return waypost.Errorf(waypost.KindInvalid, "refused")
	})
	f.kind(err, waypost.KindInvalid)
}

func (f *fixture) key(text string, change func(*waypost.Key)) waypost.Key {
	k := waypost.Key{
		ID: waypost.KeyID(f.ids.Next()), Dialect: "360dialog", TenantID: f.tenant,
		Digest: sha256.Sum256([]byte(text)), CreatedAt: f.now,
	}
	change(&k)
	return k
}

func (f *fixture) living(want ...waypost.Key) {
	f.tb.Helper()
	keys, err := f.store.KeysOf(f.ctx(), f.tenant)
	f.must(err)
	f.equal("living keys", keys, want)
	for _, k := range want {
		got, err := f.store.KeyByDigest(f.ctx(), k.Dialect, k.Digest)
		f.must(err)
		f.equal("key by digest", got, k)
	}
}

func settingsKeys(f *fixture) {
	start := f.revision()
	whole := f.key("whole", func(*waypost.Key) {})
	one := f.key("one", func(k *waypost.Key) { k.NumberID = 1 })
	two := f.key("two", func(k *waypost.Key) { k.NumberID = 2 })
	foreign := f.key("one", func(k *waypost.Key) { k.NumberID, k.Dialect = 1, "whizard" })
	for _, k := range []waypost.Key{whole, one, two, foreign} {
		f.must(f.store.CreateKey(f.ctx(), k))
	}
	f.living(whole, one, two, foreign)

	oneAgain := f.key("one again", func(k *waypost.Key) { k.NumberID = 1 })
	f.must(f.store.CreateKey(f.ctx(), oneAgain))
	f.living(whole, two, foreign, oneAgain)
	_, err := f.store.KeyByDigest(f.ctx(), one.Dialect, one.Digest)
	f.kind(err, waypost.KindNotFound)

	wholeAgain := f.key("whole again", func(*waypost.Key) {})
	f.must(f.store.CreateKey(f.ctx(), wholeAgain))
	f.living(two, foreign, oneAgain, wholeAgain)
	f.kind(f.store.CreateKey(f.ctx(), f.key("two", func(k *waypost.Key) { k.NumberID = 9 })), waypost.KindConflict)
	f.equal("revision", f.revision(), start+6)
}

func settingsTokens(f *fixture) {
	token := func(text string, created, expires time.Duration) waypost.Key {
		k := f.key(text, func(k *waypost.Key) {
			k.CreatedAt, k.ExpiresAt = f.now.Add(created), f.now.Add(expires)
		})
		f.must(f.store.CreateKey(f.ctx(), k))
		return k
	}
	lasting := f.key("lasting", func(*waypost.Key) {})
	f.must(f.store.CreateKey(f.ctx(), lasting))
	token("first", 0, time.Hour)
	second := token("second", time.Minute, 2*time.Hour)
	third := token("third", 90*time.Minute, 3*time.Hour) // the first has expired by now
	f.living(lasting, second, third)

	next := f.key("next", func(*waypost.Key) {})
	f.must(f.store.CreateKey(f.ctx(), next))
	f.living(next)
}

func settingsAccount(f *fixture) {
	account := func(text string, number waypost.NumberID) waypost.Key {
		return f.key(text, func(k *waypost.Key) { k.Account, k.NumberID = "client-1", number })
	}
	f.must(f.store.CreateKey(f.ctx(), account("a", 1)))
	f.kind(f.store.CreateKey(f.ctx(), account("b", 2)), waypost.KindConflict)
	replaced := account("c", 1)
	f.must(f.store.CreateKey(f.ctx(), replaced))
	f.living(replaced)
}

func settingsValues(f *fixture) {
	value := func(want string) {
		f.tb.Helper()
		got, err := f.store.Value(f.ctx(), "admin_token")
		f.must(err)
		f.equal("value", got, want)
	}
	value("")
	for _, text := range []string{"one", "two", ""} {
		start := f.revision()
		f.must(f.store.SetValue(f.ctx(), "admin_token", text))
		value(text)
		f.equal("revision", f.revision(), start+1)
	}
}

func settingsPing(f *fixture) {
	start := f.revision()
	f.must(f.store.Ping(f.ctx()))
	f.must(f.store.Ping(f.ctx()))
	f.equal("revision", f.revision(), start)
	f.must(f.store.Close())
	if err := f.store.Ping(f.ctx()); err == nil {
		f.tb.Fatal("a closed store answers")
	}
	f.must(f.store.Close())
}

func settingsNotices(f *fixture) {
	notices := f.store.Notices()
	if notices == nil {
		f.tb.Skip("this store has one node at most")
	}
	id := f.handed(f.endpoints[0])
	for name, act := range map[string]func() error{
		"settings": func() error { return f.store.SetValue(f.ctx(), "x", "y") },
		"a retry": func() error {
			f.settle(f.exhausted(id, 1))
			return f.store.Retry(f.ctx(), id, f.now)
		},
	} {
		drain(notices)
		f.must(act())
		select {
		case <-notices:
		case <-time.After(10 * time.Second):
			f.tb.Fatalf("no notice of %s", name)
		}
	}
}

// drain waits until the notices on their way have come in: one at least comes
// when listening begins.
func drain(notices <-chan store.Notice) {
	for {
		select {
		case <-notices:
		case <-time.After(300 * time.Millisecond):
			return
		}
	}
}
