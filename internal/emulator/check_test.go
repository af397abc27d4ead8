package emulator

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
)

func TestSameBytes(t *testing.T) {
	t.Parallel()
	if err := SameBytes([]byte(`{"a":1}`), []byte(`{"a":1}`)); err != nil {
		t.Error(err)
	}
	for _, got := range []string{`{"a":2}`, `{"a":1} `, `{"a"`, ``} {
		if SameBytes([]byte(`{"a":1}`), []byte(got)) == nil {
			t.Errorf("%q passed", got)
		}
	}
}

func TestCompareJSON(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		want, got   string
		same, holds string // what the error must say; "" for none
	}{
		"order and escapes don't matter":   {`{"a":1,"b":"ü/"}`, `{"b":"\u00fc\/", "a":1}`, "", ""},
		"digits matter beyond float64":     {`[9007199254740993]`, `[9007199254740992]`, "$[0]", "$[0]"},
		"a further member":                 {`{"a":{}}`, `{"a":{"b":1}}`, "$.a.b is not wanted", ""},
		"a missing member":                 {`{"a":{"b":1}}`, `{"a":{}}`, "$.a.b is missing", "$.a.b is missing"},
		"a further element":                {`[1]`, `[1,2]`, "1 elements", "1 elements"},
		"another type":                     {`{"a":"1"}`, `{"a":1}`, "$.a", "$.a"},
		"an object where a text should be": {`{"a":"1"}`, `{"a":{}}`, "$.a", "$.a"},
		"null where an object should be":   {`{"a":{}}`, `{"a":null}`, "$.a", "$.a"},
		"something after the value":        {`{}`, `{} {}`, "more than one", "more than one"},
		"not JSON":                         {`{}`, `{`, "read what arrived", "read what arrived"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectError(t, SameJSON([]byte(c.want), []byte(c.got)), c.same)
			expectError(t, HoldsJSON([]byte(c.want), []byte(c.got)), c.holds)
		})
	}
}

func expectError(t *testing.T, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
		t.Errorf("err = %v, want %q", err, want)
	}
}

func TestSignatureChecks(t *testing.T) {
	t.Parallel()
	const key = "k3y"
	body := []byte(`{"a":1}`)
	digest := sum(key, body)
	standard := "whsec_" + base64.StdEncoding.EncodeToString([]byte(key))
	signed := base64.StdEncoding.EncodeToString(sum(key, append([]byte("evt_1.1767571200."), body...)))
	right := Request{Body: body, Header: http.Header{
		"X-Hex":             {hex.EncodeToString(digest)},
		"X-Base64":          {base64.StdEncoding.EncodeToString(digest)},
		"Webhook-Id":        {"evt_1"},
		"Webhook-Timestamp": {"1767571200"},
		"Webhook-Signature": {"v1,bm9wZQ== v1," + signed},
	}}
	checks := map[string]func(Request) error{
		"hex":      func(r Request) error { return CheckHex("X-Hex", key, r) },
		"base64":   func(r Request) error { return CheckBase64("X-Base64", key, r) },
		"standard": func(r Request) error { return CheckStandard(standard, r) },
	}
	for name, check := range checks {
		if err := check(right); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if check(Request{Body: []byte(`{"a":2}`), Header: right.Header}) == nil {
			t.Errorf("%s: another body passed", name)
		}
		if check(Request{Body: body}) == nil {
			t.Errorf("%s: no signature passed", name)
		}
	}
}

func FuzzCompareJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,"x",null,true,{}]}`), []byte(`{"a":[]}`))
	f.Add([]byte(`1e400`), []byte(`"\ud800"`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		_, errA := decodeJSON(a)
		if err := SameJSON(a, a); (err == nil) != (errA == nil) {
			t.Errorf("a value and itself: %v, but reading it: %v", err, errA)
		}
		if SameJSON(a, b) == nil && HoldsJSON(a, b) != nil {
			t.Error("the same, but not held")
		}
	})
}
