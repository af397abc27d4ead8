package waypost

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSecretsStayHidden(t *testing.T) {
	t.Parallel()
	secret := Secret("hunter2-hunter2")
	encoded, err := json.Marshal(map[string]any{"s": secret})
	if err != nil {
		t.Fatal(err)
	}
	for how, text := range map[string]string{
		"%v": fmt.Sprintf("%v", secret), "String": secret.String(), "%q": fmt.Sprintf("%q", secret),
		"%#v": fmt.Sprintf("%#v", secret), "%+v": fmt.Sprintf("%+v", struct{ S Secret }{secret}),
		"json": string(encoded), "slog": secret.LogValue().String(),
	} {
		if containsSecret(text) {
			t.Errorf("%s shows %s", how, text)
		}
	}
	if secret.Reveal() != "hunter2-hunter2" {
		t.Error("Reveal does not give the text")
	}
}

func containsSecret(text string) bool {
	for i := 0; i+7 <= len(text); i++ {
		if text[i:i+7] == "hunter2" {
			return true
		}
	}
	return false
}

func TestMatchType(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		globs []string
		event string
		want  bool
	}{
		{nil, "whatsapp.message.text", true},
		{[]string{"*"}, "whatsapp.message.text", true},
		{[]string{"whatsapp.message.*"}, "whatsapp.message.text", true},
		{[]string{"whatsapp.message.*"}, "whatsapp.status.read", false},
		{[]string{"whatsapp.*"}, "whatsapp.status.read", true},
		{[]string{"*.read"}, "whatsapp.status.read", true},
		{[]string{"whatsapp.status.read"}, "whatsapp.status.read", true},
		{[]string{"whatsapp.status.rea"}, "whatsapp.status.read", false},
		{[]string{"platform.*", "whatsapp.status.{x"}, "whatsapp.status.read", false},
		{[]string{"platform.*", "whatsapp.?tatus.*"}, "whatsapp.status.read", true},
	} {
		if got := MatchType(c.globs, c.event); got != c.want {
			t.Errorf("MatchType(%q, %q) = %v, want %v", c.globs, c.event, got, c.want)
		}
	}
}

func TestCheckGlob(t *testing.T) {
	t.Parallel()
	for _, glob := range []string{"*", "whatsapp.*", "whatsapp.status.read", "a[bc]*"} {
		if err := CheckGlob(glob); err != nil {
			t.Errorf("CheckGlob(%q) = %v", glob, err)
		}
	}
	for _, glob := range []string{"", "a/b", "a b", "a[b"} {
		if err := CheckGlob(glob); KindOf(err) != KindInvalid {
			t.Errorf("CheckGlob(%q) = %v, want a KindInvalid error", glob, err)
		}
	}
}

func TestDoubling(t *testing.T) {
	t.Parallel()
	got := Doubling(3*time.Second, 10*time.Second, 40*time.Second)
	want := []time.Duration{3 * time.Second, 6 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if window := (Policy{Schedule: got}).Window(); window != 39*time.Second {
		t.Errorf("Window() = %v", window)
	}
}

func TestPolicyChangeApply(t *testing.T) {
	t.Parallel()
	base := Policy{Success: Success200, Timeout: 5 * time.Second, Schedule: []time.Duration{time.Second}, GoneDisables: true}
	if diff := cmp.Diff(base, PolicyChange{}.Apply(base)); diff != "" {
		t.Errorf("an empty change changed something: %s", diff)
	}
	success, timeout, schedule := Success2xx, time.Minute, []time.Duration{}
	got := PolicyChange{Success: &success, Timeout: &timeout, Schedule: &schedule}.Apply(base)
	want := Policy{Success: Success2xx, Timeout: time.Minute, Schedule: []time.Duration{}, GoneDisables: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLiveSecrets(t *testing.T) {
	t.Parallel()
	now := time.Now()
	endpoint := Endpoint{Secrets: []SigningSecret{
		{Value: "new"},
		{Value: "old", ExpiresAt: now.Add(time.Minute)},
		{Value: "gone", ExpiresAt: now},
	}}
	if diff := cmp.Diff([]Secret{"new", "old"}, endpoint.LiveSecrets(now)); diff != "" {
		t.Error(diff)
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	wrapped := fmt.Errorf("put endpoint: %w", Errorf(KindConflict, "taken"))
	if got := KindOf(wrapped); got != KindConflict {
		t.Errorf("KindOf(wrapped) = %v", got)
	}
	if got := KindOf(errors.New("other")); got != KindInternal {
		t.Errorf("KindOf(other) = %v", got)
	}
	if got := Invalid(FieldError{"url", "must be https"}).Error(); got != "url: must be https" {
		t.Errorf("Invalid reads %q", got)
	}
}
