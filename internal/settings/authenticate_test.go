package settings_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// show shows a credential and gives the kind of the refusal; 0 is no refusal.
func (w *world) show(dialectID, key, account, remote string) error {
	w.t.Helper()
	_, err := w.Authenticate(w.t.Context(), dialect.Credential{Dialect: dialectID, Key: key, Account: account, Remote: remote})
	return err
}

func TestKeyIsShownWithItsPhone(t *testing.T) {
	t.Parallel()
	w := start(t)
	key := w.key(byPhone, 0, w.number.ID).Text.Reveal()
	second := w.key(byPhone, 0, w.second.ID).Text.Reveal()
	if err := w.show(byPhone, key, w.number.Phone, "192.0.2.1"); err != nil {
		t.Errorf("a number's own key is refused: %v", err)
	}
	for name, c := range map[string]struct {
		key, phone string
		kind       waypost.Kind
	}{
		"unknown phone":                       {key, "15559999999", waypost.KindNotFound},
		"unknown phone, no key":               {"", "15559999999", waypost.KindNotFound},
		"unknown phone, wrong key":            {"wp_guess", "15559999999", waypost.KindNotFound},
		"no phone":                            {key, "", waypost.KindNotFound},
		"no key":                              {"", w.number.Phone, waypost.KindUnauthorized},
		"wrong key":                           {"wp_guess", w.number.Phone, waypost.KindUnauthorized},
		"another number's key":                {second, w.number.Phone, waypost.KindUnauthorized},
		"phone of a number without any key":   {key, w.foreign.Phone, waypost.KindUnauthorized},
		"the phone with a plus is not digits": {key, "+" + w.number.Phone, waypost.KindNotFound},
	} {
		wantKind(t, name, w.show(byPhone, c.key, c.phone, name), c.kind)
	}
	// Two businesses may have known one phone; each key still opens its own.
	twin := w.newNumber(w.rival.ID, w.number.Phone, "p9", "w2")
	twinKey := w.key(byPhone, 0, twin.ID).Text.Reveal()
	for text, id := range map[string]waypost.NumberID{key: w.number.ID, twinKey: twin.ID} {
		a, err := w.Authenticate(t.Context(), dialect.Credential{Dialect: byPhone, Key: text, Account: twin.Phone})
		if err != nil || a.Number().ID != id {
			t.Errorf("a phone that two numbers have: %v, %v", a, err)
		}
	}
}

// token trades the key of a tenant for a token.
func (w *world) token(key settings.NewKey, ttl time.Duration) string {
	w.t.Helper()
	a, err := w.Authenticate(w.t.Context(), dialect.Credential{Dialect: tokens, Key: key.Text.Reveal(), Account: key.Account, Remote: "192.0.2.1"})
	if err != nil {
		w.t.Fatal(err)
	}
	token, expires, err := w.IssueToken(w.t.Context(), a, ttl)
	if err != nil {
		w.t.Fatal(err)
	}
	if want := w.clock().Add(ttl); !expires.Equal(want) {
		w.t.Errorf("a token expires at %v, want %v", expires, want)
	}
	return token
}

func TestTokensAndTheirKey(t *testing.T) {
	t.Parallel()
	w := start(t)
	key, rival := w.key(tokens, w.acme.ID, 0), w.key(tokens, w.rival.ID, 0)
	first := w.token(key, time.Hour)
	w.pass(30 * time.Minute)
	second := w.token(key, time.Hour)
	for name, token := range map[string]string{"first": first, "second": second} {
		a, err := w.Authenticate(t.Context(), dialect.Credential{Dialect: tokens, Key: token, Remote: "192.0.2.1"})
		if err != nil || a.Tenant().ID != w.acme.ID || a.Number() != nil {
			t.Errorf("%s token: %v", name, err)
		}
	}
	for name, c := range map[string]struct{ key, account string }{
		"a key is no token":                 {key.Text.Reveal(), ""},
		"a token is no key":                 {first, key.Account},
		"a key with another's account name": {key.Text.Reveal(), rival.Account},
		"a token with a cut end":            {first[:len(first)-1], ""},
		"a token of no time":                {"wpt_x_" + strings.Repeat("a", 52), ""},
	} {
		wantKind(t, name, w.show(tokens, c.key, c.account, name), waypost.KindUnauthorized)
	}
	if keys, err := w.Keys(t.Context(), w.acme.ID); err != nil || len(keys) != 1 || keys[0].ID != key.ID {
		t.Errorf("listed keys: %v, %v; want the one key and no token", keys, err)
	}

	w.pass(30 * time.Minute)
	wantKind(t, "token after its hour", w.show(tokens, first, "", "192.0.2.1"), waypost.KindUnauthorized)
	if err := w.show(tokens, second, "", "192.0.2.1"); err != nil {
		t.Errorf("the other token went with it: %v", err)
	}
	if err := w.RevokeKey(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "token of a revoked key", w.show(tokens, second, "", "192.0.2.1"), waypost.KindUnauthorized)
	if again := w.key(tokens, w.acme.ID, 0); again.Account != key.Account {
		t.Errorf("the account name is %q after revoking, was %q", again.Account, key.Account)
	}
	if err := w.show(tokens, rival.Text.Reveal(), rival.Account, "192.0.2.1"); err != nil {
		t.Errorf("another tenant's key is gone: %v", err)
	}
}

func TestTokenIsOnlyForDialectsThatHaveThem(t *testing.T) {
	t.Parallel()
	w := start(t)
	if _, _, err := w.IssueToken(t.Context(), w.account(perNumber, w.key(perNumber, 0, w.number.ID).Text), time.Hour); err == nil {
		t.Error("a dialect without tokens gave one")
	}
}

func TestGuessersAreBlocked(t *testing.T) {
	t.Parallel()
	w := start(t)
	key := w.key(tokens, w.acme.ID, 0)
	good := func(remote string) error { return w.show(tokens, key.Text.Reveal(), key.Account, remote) }
	bad := func(remote string) error { return w.show(tokens, "guess", key.Account, remote) }
	expired := w.token(key, time.Minute)
	w.pass(time.Minute)
	for range 30 { // also once its row is gone
		wantKind(t, "expired token", w.show(tokens, expired, "", "198.51.100.1"), waypost.KindUnauthorized)
	}
	w.token(key, time.Minute) // clears away the expired one
	for range 30 {
		wantKind(t, "forgotten token", w.show(tokens, expired, "", "198.51.100.1"), waypost.KindUnauthorized)
	}
	if err := good("198.51.100.1"); err != nil {
		t.Fatalf("an expired token counts as a guess: %v", err)
	}

	// Nine in a window are no block, whenever they come.
	for range 4 {
		for i := range 9 {
			wantKind(t, fmt.Sprintf("guess %d", i+1), bad("198.51.100.2"), waypost.KindUnauthorized)
		}
		w.pass(10 * time.Minute)
	}
	// Ten are, though they lie across what would be two windows of a clock.
	for i := range 10 {
		wantKind(t, fmt.Sprintf("guess %d", i+1), bad("198.51.100.3"), waypost.KindUnauthorized)
		w.pass(time.Minute - time.Second)
	}
	wantKind(t, "guess 11", bad("198.51.100.3"), waypost.KindRateLimited)
	wantKind(t, "right key", good("198.51.100.3:4711"), waypost.KindRateLimited)
	wantKind(t, "right token", w.show(tokens, w.token(key, time.Hour), "", "198.51.100.3"), waypost.KindRateLimited)
	if err := good("198.51.100.4"); err != nil {
		t.Errorf("another address is blocked too: %v", err)
	}
	wantKind(t, "other dialect from there", w.show(perNumber, "guess", "", "198.51.100.3"), waypost.KindUnauthorized)
	w.pass(15*time.Minute - 59*time.Second - time.Millisecond)
	wantKind(t, "just before the end", good("198.51.100.3"), waypost.KindRateLimited)
	w.pass(time.Millisecond)
	if err := good("198.51.100.3"); err != nil {
		t.Errorf("after a quarter of an hour: %v", err)
	}
	wantKind(t, "guessing again", bad("198.51.100.3"), waypost.KindUnauthorized)
}

// However many addresses guess, those that are blocked stay so as long as there
// is room for them.
func TestLimiterForgetsTheHarmlessFirst(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	l := settings.NewLimiter(settings.Limits{Tries: 2, Window: time.Minute, Block: time.Hour}, func() time.Time { return now })
	for range 2 {
		l.Failed("192.0.2.1")
	}
	for i := range 25_000 {
		l.Failed(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255))
	}
	if !l.Closed("192.0.2.1") {
		t.Error("a flood of other addresses opens a blocked one")
	}
	if l.Closed("10.0.0.1") {
		t.Error("one bad try closes an address out")
	}
}

// A key whose text can be made again is as hard to guess as another.
func TestDerivedKeysDiffer(t *testing.T) {
	t.Parallel()
	w := start(t)
	seen := map[string]bool{}
	for range 3 {
		for _, n := range []waypost.NumberID{w.number.ID, w.second.ID} {
			text := w.key(byPhone, 0, n).Text.Reveal()
			if seen[text] || len(text) < 52 {
				t.Errorf("key %q", text)
			}
			seen[text] = true
		}
	}
}

// Who asks for a token with each call can't fill the store with them.
func TestTokensAreLimited(t *testing.T) {
	t.Parallel()
	w := start(t)
	key, rival := w.key(tokens, w.acme.ID, 0), w.key(tokens, w.rival.ID, 0)
	issue := func(key settings.NewKey) error {
		a, err := w.Authenticate(t.Context(), dialect.Credential{Dialect: tokens, Key: key.Text.Reveal(), Account: key.Account})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = w.IssueToken(t.Context(), a, time.Hour)
		return err
	}
	live := 0
	for ; live < 20; live++ {
		if err := issue(key); err != nil {
			wantKind(t, "one token too many", err, waypost.KindRateLimited)
			break
		}
	}
	if live != 10 {
		t.Errorf("%d tokens live at a time, want 10", live)
	}
	if err := issue(rival); err != nil {
		t.Errorf("another tenant's token: %v", err)
	}
	w.pass(time.Hour)
	if err := issue(key); err != nil {
		t.Errorf("a token after the others expired: %v", err)
	}
	keys, err := w.store.KeysOf(t.Context(), w.acme.ID)
	if err != nil || len(keys) != 2 {
		t.Errorf("%d keys are kept, want the key and one token (%v)", len(keys), err)
	}
}
