package settings_test

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestShownURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"":                              "",
		"https://a.test/in?x=1":         "https://a.test/in?x=1",
		"https://u:p@a.test/in?x=1":     "https://u:xxxxx@a.test/in?x=1",
		"https://u:p:q@a.test":          "https://u:xxxxx@a.test",
		"https://u:@a.test/":            "https://u:xxxxx@a.test/",
		"https://:p@a.test/":            "https://:xxxxx@a.test/",
		"https://u@a.test:8443/x:y@z":   "https://u@a.test:8443/x:y@z",
		"https://u:p%40q@a.test/a%2Fb":  "https://u:xxxxx@a.test/a%2Fb",
		"https://a.test:443/?to=u:p@b":  "https://a.test:443/?to=u:p@b",
		"https://u:p@v:q@a.test/#u:p@b": "https://u:xxxxx@a.test/#u:p@b",
	} {
		if got := settings.ShownURL(raw); got != want {
			t.Errorf("ShownURL(%q) = %q, want %q", raw, got, want)
		}
	}
}

// Whatever the standard library finds as a password is not shown, and the rest is
// left as it was.
func TestShownURLAgreesWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := "https://" + rapid.StringMatching(`[a-c:@/?#%2]{0,12}`).Draw(t, "authority") + "@host.test/" + rapid.StringMatching(`[a-c:@/?#]{0,6}`).Draw(t, "rest")
		before, err := url.Parse(raw)
		if err != nil {
			return
		}
		after, err := url.Parse(settings.ShownURL(raw))
		if err != nil {
			t.Fatalf("%q is shown as %q: %v", raw, settings.ShownURL(raw), err)
		}
		if _, ok := before.User.Password(); ok {
			if password, _ := after.User.Password(); password != "xxxxx" {
				t.Fatalf("%q is shown as %q", raw, after)
			}
			before.User = url.UserPassword(before.User.Username(), "xxxxx")
		}
		if before.String() != after.String() {
			t.Fatalf("%q is shown as %q", raw, after)
		}
	})
}

func TestPasswordInURL(t *testing.T) {
	t.Parallel()
	w := start(t)
	const full, shown = "https://user:word@hooks.acme.test/in", "https://user:xxxxx@hooks.acme.test/in"
	update := func(e *waypost.Endpoint, url string) error {
		updated, err := w.UpdateEndpoint(t.Context(), e.ID, settings.EndpointChange{URL: &url})
		*e = updated
		return err
	}
	url := full
	made, err := w.CreateEndpoint(t.Context(), w.acme.ID, signed, settings.EndpointChange{URL: &url})
	if err != nil {
		t.Fatal(err)
	}
	e := made
	if err := update(&e, shown); err != nil || e.URL != full {
		t.Errorf("what is shown was sent back: %v, the password is kept: %t", err, e.URL == full)
	}
	if err := update(&e, "https://user:other@hooks.acme.test/in"); err != nil || e.URL != "https://user:other@hooks.acme.test/in" {
		t.Errorf("another password: %v", err)
	}
	for _, url := range []string{"https://user:xxxxx@else.test/in", "https://user:xxxxx@hooks.acme.test/other"} {
		err := update(&made, url)
		made = e
		wantKind(t, "the filler for a password at another URL", err, waypost.KindInvalid)
		if diff := cmp.Diff([]string{"url"}, fields(err)); diff != "" {
			t.Errorf("refused members (-want +got):\n%s", diff)
		}
	}
	url = shown
	_, err = w.CreateEndpoint(t.Context(), w.acme.ID, signed, settings.EndpointChange{URL: &url})
	wantKind(t, "the filler for a new password", err, waypost.KindInvalid)

	// The customer who set it sees it.
	account := w.account(perNumber, w.key(perNumber, 0, w.number.ID).Text)
	w.change(account, dialect.Place{NumberID: w.number.ID, Slot: "number"}, full)
	endpoints, err := account.Endpoints(t.Context())
	if err != nil || len(endpoints) != 1 || endpoints[0].URL != full {
		t.Errorf("the customer's own endpoints: %v", err)
	}
}
