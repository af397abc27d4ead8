package settings_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/directory"
	"github.com/waypost-gateway/waypost/internal/secret"
	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/store/sqlite"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// plain is a dialect without quirks.
type plain struct{ info dialect.Info }

func (d plain) Info() dialect.Info                        { return d.info }
func (d plain) Handler(dialect.Admin) http.Handler        { return nil }
func (d plain) Encode(dialect.Item) (dialect.Hook, error) { return dialect.Hook{}, nil }
func (d plain) Policy(*waypost.Endpoint) waypost.Policy {
	return waypost.Policy{Success: waypost.Success200, Timeout: 5 * time.Second}
}

const (
	perNumber = "per-number" // a key per number, which takes the webhook along
	perTenant = "per-tenant" // a key per tenant, with account name and signing secret
	signed    = "signed"     // no settings API, a secret per endpoint
	byPhone   = "99digital"  // a key per number, shown with its phone and told again
	tokens    = "tokens"     // a key per tenant, traded for tokens; guessers are blocked
)

func dialects() []dialect.Dialect {
	prefix := ""
	return []dialect.Dialect{
		plain{dialect.Info{
			ID: perNumber, Events: []string{"*"}, Keys: &dialect.KeySpec{PerNumber: true, ClearsWebhook: true},
			Options: []dialect.Option{
				{Name: "payload", Type: dialect.OptionText, Enum: []string{"cloud", "onprem"}},
				{Name: "kept", Type: dialect.OptionText, Internal: true},
			},
		}},
		plain{dialect.Info{
			ID: perTenant, Events: []string{"*"},
			Keys: &dialect.KeySpec{AccountMember: "account", SecretMember: "signing_secret"},
		}},
		plain{dialect.Info{ID: signed, Events: []string{"*"}, SecretPrefix: &prefix}},
		plain{dialect.Info{ID: byPhone, Events: []string{"*"}, Keys: &dialect.KeySpec{PerNumber: true, AccountIsPhone: true}}},
		plain{dialect.Info{ID: tokens, Events: []string{"*"}, Keys: &dialect.KeySpec{
			AccountMember: "client_id", Tokens: true, BadTries: 10, BadTriesWindow: 10 * time.Minute, Block: 15 * time.Minute,
		}}},
	}
}

// world is one node over a real store, with two tenants.
type world struct {
	*settings.Service
	t         *testing.T
	store     store.Store
	directory *directory.Directory
	ids       *waypost.IDs
	acme      waypost.Tenant
	rival     waypost.Tenant
	number    waypost.Number // of acme, in business account w1
	second    waypost.Number // of acme, in no business account
	foreign   waypost.Number // of rival, in business account w2
	node      waypost.NodeID // what accepts events; 0: none yet
	audited   int64          // the entry of the audit trail that was looked at last

	mu        sync.Mutex
	now       time.Time
	woken     []waypost.EndpointID
	published []published
	refusals  int // how many times publishing fails from now on
}

func TestMain(m *testing.M) { pgtest.Main(m) }

func start(t *testing.T) *world {
	t.Helper()
	return startOn(t, openSQLite(t))
}

// onBoth runs a test on each database.
func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, startOn(t, openSQLite(t)))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		s, err := postgres.Open(t.Context(), postgres.Options{URL: pgtest.URL(t), Sealer: box(t)})
		if err != nil {
			t.Fatal(err)
		}
		test(t, startOn(t, s))
	})
}

func box(t *testing.T) *secret.Box {
	t.Helper()
	box, err := secret.NewBox(secret.Key(bytes.Repeat([]byte{7}, secret.KeySize)))
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func openSQLite(t *testing.T) store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir(), Sealer: box(t)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func startOn(t *testing.T, s store.Store) *world {
	t.Helper()
	w := &world{t: t, store: s, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	var err error
	if w.ids, err = waypost.NewIDs(1, 0, w.clock); err != nil {
		t.Fatal(err)
	}
	w.Service, w.directory = w.process()
	w.acme, w.rival = w.tenant("Acme"), w.tenant("Rival")
	w.number = w.newNumber(w.acme.ID, "15550000001", "p1", "w1")
	w.second = w.newNumber(w.acme.ID, "15550000002", "", "")
	w.foreign = w.newNumber(w.rival.ID, "15550000003", "p3", "w2")
	return w
}

// process is one more on the same store.
func (w *world) process() (*settings.Service, *directory.Directory) {
	w.t.Helper()
	d := directory.New(w.store, nil)
	if err := d.CatchUp(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return settings.New(settings.Options{
		Store: w.store, Directory: d, Dialects: dialects(), IDs: w.ids.Next,
		Trusted:   func(host string) bool { return host == "127.0.0.1" },
		Forbidden: forbidden,
		Now:       w.clock,
		MaxTokens: 10, InFlight: 6,
		Publish: w.publish, KeySecrets: [][]byte{[]byte("present secret"), []byte("former secret")},
		OnWork: func(id waypost.EndpointID) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.woken = append(w.woken, id)
		},
	}), d
}

// forbidden is an egress guard that knows names and what is trusted.
func forbidden(host string) error {
	_, notAnAddress := netip.ParseAddr(host)
	if literal := notAnAddress == nil || host == "localhost"; literal && host != "127.0.0.1" {
		return errors.New("private address")
	}
	return nil
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// wakes gives and forgets whom the engine was woken for.
func (w *world) wakes() []waypost.EndpointID {
	w.mu.Lock()
	defer w.mu.Unlock()
	woken := w.woken
	w.woken = nil
	return woken
}

func (w *world) tenant(name string) waypost.Tenant {
	w.t.Helper()
	tenant, err := w.CreateTenant(w.t.Context(), settings.TenantChange{Name: &name})
	if err != nil {
		w.t.Fatal(err)
	}
	return tenant
}

func (w *world) newNumber(tenant waypost.TenantID, phone, metaID, waba string) waypost.Number {
	w.t.Helper()
	n, err := w.CreateNumber(w.t.Context(), tenant, settings.NumberChange{Phone: &phone, PhoneNumberID: &metaID, WABAID: &waba})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) key(dialectID string, tenant waypost.TenantID, number waypost.NumberID) settings.NewKey {
	w.t.Helper()
	key, err := w.CreateKey(w.t.Context(), dialectID, tenant, number)
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

func (w *world) account(dialectID string, text waypost.Secret) dialect.Account {
	w.t.Helper()
	account, err := w.Authenticate(w.t.Context(), dialect.Credential{Dialect: dialectID, Key: text.Reveal(), Remote: "192.0.2.1"})
	if err != nil {
		w.t.Fatal(err)
	}
	return account
}

func (w *world) change(a dialect.Account, place dialect.Place, url string) waypost.Endpoint {
	w.t.Helper()
	e, err := a.Change(w.t.Context(), place, func(e *waypost.Endpoint) error { e.URL = url; return nil })
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func wantKind(t *testing.T, what string, err error, kind waypost.Kind) {
	t.Helper()
	if err == nil || waypost.KindOf(err) != kind {
		t.Errorf("%s: got %v, want an error of kind %d", what, err, kind)
	}
}

func fields(err error) []string {
	var e *waypost.Error
	if !errors.As(err, &e) {
		return nil
	}
	var names []string
	for _, field := range e.Fields {
		names = append(names, field.Field)
	}
	return names
}

const hook = "https://hooks.acme.test/in"

func TestKeyOpensOnlyItsOwnDoor(t *testing.T) {
	t.Parallel()
	w := start(t)
	key := w.key(perNumber, 0, w.number.ID)
	account := w.account(perNumber, key.Text)
	if account.Tenant().ID != w.acme.ID || account.Number().ID != w.number.ID {
		t.Errorf("the key speaks for %v, %v", account.Tenant().ID, account.Number())
	}
	for name, c := range map[string]dialect.Credential{
		"no key":         {Dialect: perNumber},
		"unknown key":    {Dialect: perNumber, Key: "wp_guess"},
		"other dialect":  {Dialect: perTenant, Key: key.Text.Reveal()},
		"no dialect":     {Dialect: "none", Key: key.Text.Reveal()},
		"wrong account":  {Dialect: perNumber, Key: key.Text.Reveal(), Account: "somebody"},
		"digest as text": {Dialect: perNumber, Key: string(key.Digest[:])},
	} {
		c.Remote = name
		_, err := w.Authenticate(t.Context(), c)
		wantKind(t, name, err, waypost.KindUnauthorized)
	}

	tenantKey := w.key(perTenant, w.acme.ID, 0)
	credential := dialect.Credential{Dialect: perTenant, Key: tenantKey.Text.Reveal(), Account: tenantKey.Account}
	account, err := w.Authenticate(t.Context(), credential)
	if err != nil {
		t.Fatal(err)
	}
	if account.Number() != nil {
		t.Error("a key of a tenant has a number")
	}
	if got := account.Tenant().Secrets[perTenant]; got != tenantKey.TenantSecret || got == "" {
		t.Error("the account does not see its signing secret")
	}
	numbers, err := account.Numbers(t.Context())
	if err != nil || len(numbers) != 2 {
		t.Errorf("numbers of the account: %v, %v", numbers, err)
	}
}

func TestNewKeyRevokesTheOldOne(t *testing.T) {
	t.Parallel()
	w := start(t)
	old := w.key(perNumber, 0, w.number.ID)
	other := w.key(perNumber, 0, w.second.ID)
	otherTenant := w.key(perTenant, w.rival.ID, 0)
	fresh := w.key(perNumber, 0, w.number.ID)
	_, err := w.Authenticate(t.Context(), dialect.Credential{Dialect: perNumber, Key: old.Text.Reveal()})
	wantKind(t, "revoked key", err, waypost.KindUnauthorized)
	w.account(perNumber, fresh.Text)
	w.account(perNumber, other.Text) // another number's key stays
	w.account(perTenant, otherTenant.Text)

	if err := w.RevokeKey(t.Context(), fresh.ID); err != nil {
		t.Fatal(err)
	}
	_, err = w.Authenticate(t.Context(), dialect.Credential{Dialect: perNumber, Key: fresh.Text.Reveal()})
	wantKind(t, "key revoked by hand", err, waypost.KindUnauthorized)
	wantKind(t, "revoking again", w.RevokeKey(t.Context(), fresh.ID), waypost.KindNotFound)
	first, second := w.key(perTenant, w.acme.ID, 0), settings.NewKey{}
	for range 2 { // what is left of a revoked key is no obstacle to another
		if err := w.RevokeKey(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		second = w.key(perTenant, w.acme.ID, 0)
		if second.Account != first.Account || second.TenantSecret != first.TenantSecret || second.Text == first.Text {
			t.Errorf("account name and secret must outlive the key, its text must not: %v, %v", first.Account, second.Account)
		}
		first = second
	}
	if keys, err := w.Keys(t.Context(), w.acme.ID); err != nil || len(keys) != 2 {
		t.Errorf("living keys: %d, %v, want that of the second number and that of the tenant", len(keys), err)
	}
}

func TestExpiredKeyOpensNothing(t *testing.T) {
	t.Parallel()
	w := start(t)
	key := w.key(perNumber, 0, w.number.ID)
	key.ID, key.Digest, key.ExpiresAt = waypost.KeyID(w.ids.Next()), [32]byte{1}, w.clock().Add(time.Hour)
	if err := w.store.CreateKey(t.Context(), key.Key); err != nil {
		t.Fatal(err)
	}
	before, err := w.Keys(t.Context(), w.acme.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.pass(time.Hour)
	after, err := w.Keys(t.Context(), w.acme.ID)
	if err != nil || len(after) != len(before)-1 {
		t.Errorf("%d living keys after one expired, %d before (%v)", len(after), len(before), err)
	}
}

func TestGuessesAreLimitedByAddress(t *testing.T) {
	t.Parallel()
	w := start(t)
	key := w.key(perNumber, 0, w.number.ID)
	try := func(text, remote string) error {
		_, err := w.Authenticate(t.Context(), dialect.Credential{Dialect: perNumber, Key: text, Remote: remote})
		return err
	}
	for i := range 30 {
		if err := try("guess", "198.51.100.7"); waypost.KindOf(err) != waypost.KindUnauthorized {
			t.Fatalf("guess %d: %v", i+1, err)
		}
	}
	wantKind(t, "guess 31", try("guess", "198.51.100.7:4711"), waypost.KindRateLimited)
	wantKind(t, "other address", try("guess", "198.51.100.8"), waypost.KindUnauthorized)
	if err := try(key.Text.Reveal(), "198.51.100.7"); err != nil {
		t.Errorf("a good key is held up: %v", err)
	}
	w.pass(time.Minute)
	wantKind(t, "a minute later", try("guess", "198.51.100.7"), waypost.KindUnauthorized)
	for range 31 {
		_ = try("guess", "2001:db8::1") // the outcome is looked at below
	}
	wantKind(t, "same IPv6 network", try("guess", "[2001:db8::2]:443"), waypost.KindRateLimited)
	wantKind(t, "other IPv6 network", try("guess", "2001:db8:0:1::2"), waypost.KindUnauthorized)
}

func TestTenantsAreKeptApart(t *testing.T) {
	t.Parallel()
	w := start(t)
	mine := w.account(perTenant, w.key(perTenant, w.acme.ID, 0).Text)
	theirs := w.account(perTenant, w.key(perTenant, w.rival.ID, 0).Text)
	otherDialect := w.account(perNumber, w.key(perNumber, 0, w.number.ID).Text)
	place := dialect.Place{Slot: "topic:messages"}
	made := w.change(mine, place, hook)
	if made.TenantID != w.acme.ID || made.Dialect != perTenant || made.Slot != place.Slot || made.State != waypost.EndpointActive {
		t.Errorf("new endpoint: %+v", made)
	}
	for name, account := range map[string]dialect.Account{"another tenant": theirs, "another dialect": otherDialect} {
		if seen, err := account.Endpoints(t.Context()); err != nil || len(seen) != 0 {
			t.Errorf("%s sees %d endpoints, %v", name, len(seen), err)
		}
		wantKind(t, name+" removes", account.Remove(t.Context(), place), waypost.KindNotFound)
		if e := w.change(account, place, "https://else.test/"); e.ID == made.ID {
			t.Errorf("%s changed the endpoint", name)
		}
	}
	if got := w.directory.Endpoint(made.ID); got.URL != hook || !got.DeletedAt.IsZero() {
		t.Errorf("the endpoint is now %+v", got)
	}
	edit := func(e *waypost.Endpoint) error { e.URL = hook; return nil }
	for name, place := range map[string]dialect.Place{
		"number of another tenant":           {NumberID: w.foreign.ID, Slot: "number"},
		"unknown number":                     {NumberID: 4711, Slot: "number"},
		"business account of another tenant": {WABAID: "w2", Slot: "waba"},
		"unknown business account":           {WABAID: "w9", Slot: "waba"},
	} {
		_, err := mine.Change(t.Context(), place, edit)
		wantKind(t, "change "+name, err, waypost.KindForbidden)
		wantKind(t, "remove "+name, mine.Remove(t.Context(), place), waypost.KindForbidden)
	}
	w.change(mine, dialect.Place{WABAID: "w1", Slot: "waba"}, hook)
	w.change(mine, dialect.Place{NumberID: w.second.ID, Slot: "number"}, hook)
	numbers, err := theirs.Numbers(t.Context())
	if err != nil || len(numbers) != 1 || numbers[0].ID != w.foreign.ID {
		t.Errorf("the other tenant's numbers: %v, %v", numbers, err)
	}
}

func TestAccountChange(t *testing.T) {
	t.Parallel()
	w := start(t)
	account := w.account(perNumber, w.key(perNumber, 0, w.number.ID).Text)
	place := dialect.Place{NumberID: w.number.ID, Slot: "number"}
	made := w.change(account, place, hook)

	refused := errors.New("no")
	_, err := account.Change(t.Context(), place, func(e *waypost.Endpoint) error { e.URL = ""; return refused })
	if !errors.Is(err, refused) {
		t.Errorf("the edit's own error is lost: %v", err)
	}
	for name, c := range map[string]struct {
		edit  func(*waypost.Endpoint)
		field string
	}{
		"scheme":      {func(e *waypost.Endpoint) { e.URL = "http://hooks.acme.test/" }, "url"},
		"private":     {func(e *waypost.Endpoint) { e.URL = "https://10.1.2.3/" }, "url"},
		"header":      {func(e *waypost.Endpoint) { e.Headers = map[string]waypost.Secret{"Host": "x"} }, "headers.Host"},
		"option":      {func(e *waypost.Endpoint) { e.Options = map[string]any{"payload": "paper"} }, "options.payload"},
		"no option":   {func(e *waypost.Endpoint) { e.Options = map[string]any{"nothing": "x"} }, "options.nothing"},
		"event globs": {func(e *waypost.Endpoint) { e.Events = []string{"["} }, "events"},
	} {
		_, err := account.Change(t.Context(), place, func(e *waypost.Endpoint) error { c.edit(e); return nil })
		wantKind(t, name, err, waypost.KindInvalid)
		if diff := cmp.Diff([]string{c.field}, fields(err)); diff != "" {
			t.Errorf("%s: refused members (-want +got):\n%s", name, diff)
		}
	}
	if got := w.directory.Endpoint(made.ID).URL; got != hook {
		t.Errorf("a refused change was made: %q", got)
	}

	changed, err := account.Change(t.Context(), place, func(e *waypost.Endpoint) error {
		e.URL = "http://127.0.0.1:9000/in" // trusted
		e.Options = map[string]any{"payload": "onprem", "kept": "x"}
		e.Headers = map[string]waypost.Secret{"X-A": "1"}
		e.TenantID, e.Slot, e.State, e.ID = w.rival.ID, "other", waypost.EndpointPaused, 1 // not the settings API's to set
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if changed.ID != made.ID || changed.TenantID != w.acme.ID || changed.Slot != "number" || changed.State != waypost.EndpointActive {
		t.Errorf("the edit reached what it must not: %+v", changed)
	}
	seen, err := account.Endpoints(t.Context())
	if err != nil || len(seen) != 1 || seen[0].URL != "http://127.0.0.1:9000/in" || seen[0].Options["kept"] != "x" {
		t.Errorf("endpoints: %+v, %v", seen, err)
	}
	seen[0].Options["kept"] = "scribbled"
	if w.directory.Endpoint(made.ID).Options["kept"] != "x" {
		t.Error("what Endpoints returned is the directory's own")
	}
	if err := account.Remove(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	if e := w.change(account, place, hook); e.ID == made.ID {
		t.Error("a removed endpoint came back")
	}
	if _, err := account.Change(t.Context(), dialect.Place{}, func(*waypost.Endpoint) error { return nil }); err == nil {
		t.Error("a place without a slot was taken")
	}
}

// Two nodes that do not know of each other's last write yet must still agree.
func TestTwoNodesFillOnePlace(t *testing.T) {
	t.Parallel()
	w := start(t)
	key := w.key(perNumber, 0, w.number.ID)
	node, _ := w.process()
	here := w.account(perNumber, key.Text)
	there, err := node.Authenticate(t.Context(), dialect.Credential{Dialect: perNumber, Key: key.Text.Reveal()})
	if err != nil {
		t.Fatal(err)
	}
	place := dialect.Place{NumberID: w.number.ID, Slot: "number"}
	first := w.change(here, place, hook)
	second := w.change(there, place, "https://else.test/")
	if first.ID != second.ID {
		t.Error("one place holds two endpoints")
	}
	if err := here.Remove(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	if third := w.change(there, place, hook); third.ID == first.ID {
		t.Error("the removed endpoint was changed")
	}
	if err := here.Remove(t.Context(), place); err != nil {
		t.Errorf("remove what another node made: %v", err)
	}
}

func TestNewKeyClearsTheWebhook(t *testing.T) {
	t.Parallel()
	w := start(t)
	account := w.account(perNumber, w.key(perNumber, 0, w.number.ID).Text)
	place := dialect.Place{NumberID: w.number.ID, Slot: "number"}
	e := w.change(account, place, hook)
	multi := w.change(account, dialect.Place{NumberID: w.number.ID, Slot: "multi:crm"}, hook)
	other := w.change(account, dialect.Place{NumberID: w.second.ID, Slot: "number"}, hook)
	w.wakes()

	again := w.account(perNumber, w.key(perNumber, 0, w.number.ID).Text)
	if got := w.directory.Endpoint(e.ID); got.URL != "" || !got.DeletedAt.IsZero() || got.Open() {
		t.Errorf("after a new key the webhook is %+v", got)
	}
	for name, id := range map[string]waypost.EndpointID{"another slot": multi.ID, "another number": other.ID} {
		if got := w.directory.Endpoint(id).URL; got != hook {
			t.Errorf("the new key cleared %s too", name)
		}
	}
	if woken := w.wakes(); len(woken) > 0 {
		t.Errorf("nothing is due, but the engine was woken for %v", woken)
	}
	if back := w.change(again, place, hook); back.ID != e.ID {
		t.Error("the webhook came back as another endpoint: what was queued for the first is lost")
	}
	if diff := cmp.Diff([]waypost.EndpointID{e.ID}, w.wakes()); diff != "" {
		t.Errorf("woken when the URL is back (-want +got):\n%s", diff)
	}
}

func (w *world) endpoint(dialectID string) waypost.Endpoint {
	w.t.Helper()
	url := hook
	e, err := w.CreateEndpoint(w.t.Context(), w.acme.ID, dialectID, settings.EndpointChange{URL: &url})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// TestALateVerdictIsVoid: a node that could not write for a while that the receiver
// had answered 410 once disabled an endpoint that had been resumed meanwhile.
func TestALateVerdictIsVoid(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.endpoint(signed)
	seen := w.directory.Endpoint(e.ID).UpdatedAt
	w.pass(time.Minute)
	if _, err := w.Pause(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resume(t.Context(), e.ID, settings.Resumption{}); err != nil {
		t.Fatal(err)
	}
	if err := w.SetState(t.Context(), e.ID, waypost.EndpointDisabled, "410", seen); err != nil {
		t.Fatal(err)
	}
	if got := w.directory.Endpoint(e.ID).State; got != waypost.EndpointActive {
		t.Errorf("it is %s", got)
	}
}

func TestStateGivesWayToWhatWasDoneByHand(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.endpoint(signed)
	engine := func(state waypost.EndpointState) {
		if err := w.SetState(t.Context(), e.ID, state, "because", w.directory.Endpoint(e.ID).UpdatedAt); err != nil {
			t.Fatal(err)
		}
	}
	resume := func(ctx context.Context, id waypost.EndpointID) (waypost.Endpoint, error) {
		return w.Resume(ctx, id, settings.Resumption{})
	}
	hand := func(verb func(context.Context, waypost.EndpointID) (waypost.Endpoint, error)) {
		if _, err := verb(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
	}
	want := func(step string, state waypost.EndpointState) {
		t.Helper()
		if got := w.directory.Endpoint(e.ID); got.State != state || (got.StateReason == "") != (state == waypost.EndpointActive) {
			t.Errorf("%s: %s (%s), want %s", step, got.State, got.StateReason, state)
		}
	}
	engine(waypost.EndpointTripped)
	want("tripped", waypost.EndpointTripped)
	hand(w.Pause)
	want("paused", waypost.EndpointPaused)
	engine(waypost.EndpointActive)
	want("probe of a paused one", waypost.EndpointPaused)
	hand(resume)
	want("resumed", waypost.EndpointActive)
	engine(waypost.EndpointDisabled)
	want("gone", waypost.EndpointDisabled)
	engine(waypost.EndpointTripped)
	want("trip of a disabled one", waypost.EndpointDisabled)
	hand(resume)
	engine(waypost.EndpointTripped)
	w.wakes()
	url := "https://other.test/"
	if _, err := w.UpdateEndpoint(t.Context(), e.ID, settings.EndpointChange{URL: &url}); err != nil {
		t.Fatal(err)
	}
	want("another receiver", waypost.EndpointActive)
	if diff := cmp.Diff([]waypost.EndpointID{e.ID}, w.wakes()); diff != "" {
		t.Errorf("woken for another receiver (-want +got):\n%s", diff)
	}
}

func TestDeletedEndpointIsHandedToTheEngine(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.endpoint(signed)
	w.wakes()
	if err := w.DeleteEndpoint(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]waypost.EndpointID{e.ID}, w.wakes()); diff != "" {
		t.Errorf("woken for the deleted endpoint (-want +got):\n%s", diff)
	}
	left := w.directory.Endpoint(e.ID)
	if left == nil || left.DeletedAt.IsZero() || left.URL != "" || len(left.Secrets) > 0 {
		t.Errorf("what is left of it: %+v", left)
	}
	wantKind(t, "delete again", w.DeleteEndpoint(t.Context(), e.ID), waypost.KindNotFound)
	wantKind(t, "breaker", w.SetState(t.Context(), e.ID, waypost.EndpointTripped, "x", w.directory.Endpoint(e.ID).UpdatedAt), waypost.KindNotFound)
}

// What one node wrote, another finds when asked by id, without waiting for its poll.
func TestOtherNodeIsLookedUp(t *testing.T) {
	t.Parallel()
	w := start(t)
	node, _ := w.process()
	tenant := w.tenant("New")
	if _, err := node.Tenant(t.Context(), tenant.ID); err != nil {
		t.Error(err)
	}
	e := w.endpoint(signed)
	if _, err := node.Endpoint(t.Context(), e.ID); err != nil {
		t.Error(err)
	}
	_, err := node.Number(t.Context(), 4711)
	wantKind(t, "unknown number", err, waypost.KindNotFound)
}

func TestErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	w := start(t)
	const planted = "planted-value-4711"
	value, url := waypost.Secret(planted+"\n"), "https://user:"+planted+"@hooks.acme.test:99999/"+planted
	_, err := w.CreateEndpoint(t.Context(), w.acme.ID, signed, settings.EndpointChange{
		URL: &url, Secret: &value, Headers: map[string]*waypost.Secret{"X-A": &value},
	})
	wantKind(t, "bad endpoint", err, waypost.KindInvalid)
	if bytes.Contains([]byte(err.Error()), []byte(planted)) {
		t.Errorf("the error holds a value: %v", err)
	}
	if diff := cmp.Diff([]string{"url", "headers.X-A", "secret"}, fields(err)); diff != "" {
		t.Errorf("refused members (-want +got):\n%s", diff)
	}
}
