package dialecttest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func signIn(t *testing.T, admin *Admin, key string) dialect.Account {
	t.Helper()
	account, err := admin.Authenticate(t.Context(), dialect.Credential{Dialect: "x", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return account
}

func perNumber() *Admin {
	return NewAdmin(dialect.Info{ID: "x", Keys: &dialect.KeySpec{PerNumber: true}})
}

func TestAdminAuthenticates(t *testing.T) {
	t.Parallel()
	admin := perNumber()
	if account := signIn(t, admin, SecondKey); account.Tenant().ID != 1 || account.Number().ID != 2 {
		t.Errorf("the second key speaks for %v, %v", account.Tenant().ID, account.Number())
	}
	if account := signIn(t, NewAdmin(dialect.Info{ID: "x"}), OtherKey); account.Tenant().ID != 2 || account.Number() != nil {
		t.Errorf("the other tenant's key speaks for %v, %v", account.Tenant().ID, account.Number())
	}
	for _, c := range []dialect.Credential{
		{Dialect: "x"}, {Dialect: "x", Key: "wrong"}, {Dialect: "y", Key: Key}, {Dialect: "x", Key: Key, Account: OtherName},
	} {
		if _, err := admin.Authenticate(t.Context(), c); waypost.KindOf(err) != waypost.KindUnauthorized {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestAdminChange(t *testing.T) {
	t.Parallel()
	admin := perNumber()
	account := signIn(t, admin, Key)
	place := dialect.Place{NumberID: 1, Slot: "number"}
	set := func(place dialect.Place, url string) error {
		_, err := account.Change(t.Context(), place, func(e *waypost.Endpoint) error { e.URL = url; return nil })
		return err
	}
	if err := set(place, "https://a.test"); err != nil {
		t.Fatal(err)
	}
	before := admin.Endpoints()
	for what, err := range map[string]error{
		"a bad URL":       set(place, "ftp://a.test"),
		"another tenant":  set(dialect.Place{NumberID: 4, Slot: "number"}, "https://a.test"),
		"no slot":         set(dialect.Place{NumberID: 1}, "https://a.test"),
		"a failing edit":  changeErr(account.Change(t.Context(), place, func(e *waypost.Endpoint) error { e.URL = "https://b.test"; return errors.New("no") })),
		"too much edited": changeErr(account.Change(t.Context(), place, func(e *waypost.Endpoint) error { e.State = waypost.EndpointPaused; return nil })),
	} {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if diff := cmp.Diff(before, admin.Endpoints()); diff != "" {
		t.Errorf("refused changes were saved (-before +after)\n%s", diff)
	}
	if seen, err := signIn(t, admin, OtherKey).Endpoints(t.Context()); err != nil || len(seen) != 0 {
		t.Errorf("another tenant sees %v, %v", seen, err)
	}
	if err := account.Remove(t.Context(), place); err != nil {
		t.Error(err)
	}
	if err := account.Remove(t.Context(), place); waypost.KindOf(err) != waypost.KindNotFound {
		t.Errorf("removed twice: %v", err)
	}
}

func changeErr(_ waypost.Endpoint, err error) error { return err }

func TestArchive(t *testing.T) {
	t.Parallel()
	const text = "about\n\n-- one --\na\n-- two --\n-- three --\nb\n"
	a := parseArchive(text)
	want := archive{comment: "about\n\n", parts: []part{{"one", "a\n"}, {"two", ""}, {"three", "b\n"}}}
	if diff := cmp.Diff(want, a, cmp.AllowUnexported(archive{}, part{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := string(a.format()); got != text {
		t.Errorf("written as %q", got)
	}
}

func TestRequestWithoutCredential(t *testing.T) {
	t.Parallel()
	got := withoutCredential("POST /x/${ACCOUNT}\nX-Key: ${KEY}\nAccept: */*\n\n{\"apiKey\":\"${SECOND_KEY}\",\"a\":1}\n")
	if want := "POST /x/${ACCOUNT}\nAccept: */*\n\n{\"apiKey\":\"\",\"a\":1}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
