package sqlstore

import (
	"testing"

	"pgregory.net/rapid"
)

func TestUserInfoApart(t *testing.T) {
	t.Parallel()
	for url, want := range map[string][2]string{
		"":                             {"", ""},
		"https://a.test/in":            {"https://a.test/in", ""},
		"https://u:p@a.test/in?x=1":    {"https://a.test/in?x=1", "u:p@"},
		"https://u@a.test":             {"https://a.test", "u@"},
		"https://u:p@q@a.test#x@y":     {"https://a.test#x@y", "u:p@q@"},
		"https://a.test/?to=me@b.test": {"https://a.test/?to=me@b.test", ""},
		"https://a.test?to=u:p@b.test": {"https://a.test?to=u:p@b.test", ""},
	} {
		if bare, userInfo := apart(url); bare != want[0] || userInfo != want[1] {
			t.Errorf("%q apart: %q, %q", url, bare, userInfo)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		url := rapid.StringMatching(`[a-c:@/?#]{0,20}`).Draw(t, "url")
		if got := together(apart(url)); got != url {
			t.Fatalf("%q became %q", url, got)
		}
	})
}
