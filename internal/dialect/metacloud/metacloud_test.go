package metacloud

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/dialecttest"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	dialecttest.Run(t, New(), "testdata")
}

var _ dialect.Challenger = Dialect{}

func TestChallenge(t *testing.T) {
	t.Parallel()
	const token = "s3cret &=?"
	challenge := New().Challenge(&waypost.Endpoint{
		URL: "https://hooks.acme.test/wa?tenant=a%20b&x", Options: map[string]any{"verify_token": token},
	}, "nonce_1")
	own, ok := strings.CutPrefix(challenge.URL, "https://hooks.acme.test/wa?tenant=a%20b&x&")
	if !ok {
		t.Fatalf("asks %s", challenge.URL)
	}
	query, err := url.ParseQuery(own)
	if err != nil || query.Get("hub.mode") != "subscribe" || query.Get("hub.challenge") != "nonce_1" || query.Get("hub.verify_token") != token {
		t.Errorf("asks %v, %v", query, err)
	}
	for answer, good := range map[string]bool{
		"nonce_1": true, "nonce_1\n": true, "nonce_1 \r\n": true,
		"": false, " nonce_1": false, `"nonce_1"`: false, "nonce_12": false, "s3cret": false,
	} {
		if err := challenge.Check(200, []byte(answer)); (err == nil) != good {
			t.Errorf("answer %q: %v", answer, err)
		}
	}
	for _, status := range []int{201, 204, 301, 403, 404, 500} {
		err := challenge.Check(status, []byte("nonce_1"))
		if err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

func TestChallengeIsNotAskedFor(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []*waypost.Endpoint{
		{URL: "https://hooks.acme.test/wa"},
		{URL: "https://hooks.acme.test/wa", Options: map[string]any{"verify_token": ""}},
		{Options: map[string]any{"verify_token": "t"}},
	} {
		if challenge := New().Challenge(endpoint, "n"); challenge != nil {
			t.Errorf("%v asks %s", endpoint.Options, challenge.URL)
		}
	}
}

func TestChallengeWithoutAQuery(t *testing.T) {
	t.Parallel()
	challenge := New().Challenge(&waypost.Endpoint{URL: "https://a.test/", Options: map[string]any{"verify_token": "t"}}, "n")
	if want := "https://a.test/?hub.mode=subscribe&hub.challenge=n&hub.verify_token=t"; challenge.URL != want {
		t.Errorf("asks %s, want %s", challenge.URL, want)
	}
}

// TestNewestLiveSecretSigns: over a rotation, and after the newest ran out.
func TestNewestLiveSecretSigns(t *testing.T) {
	t.Parallel()
	now := dialecttest.Now
	item := dialect.Item{
		Event: &waypost.Event{Form: waypost.FormCloud, Body: []byte(`{"object":"whatsapp_business_account","entry":[]}`)},
		Endpoint: &waypost.Endpoint{Secrets: []waypost.SigningSecret{
			{Value: "expired", ExpiresAt: now.Add(-time.Second)},
			{Value: "waypost_test_secret"},
			{Value: "other_secret", ExpiresAt: now.Add(time.Hour)},
		}},
		Now: now,
	}
	hook, err := New().Encode(item)
	const want = "sha256=6849977e5b5086012d3bab9d0f9c158559cd81889200beaa1e0f33f7559228ba"
	if got := hook.Header.Get("X-Hub-Signature-256"); err != nil || got != want {
		t.Errorf("signed %s, %v", got, err)
	}
}
