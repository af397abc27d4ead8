package partner99_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/dialect/dialecttest"
	"github.com/waypost-gateway/waypost/internal/dialect/partner99"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	dialecttest.Run(t, partner99.New(), "testdata")
}

func FuzzSettings(f *testing.F) { dialecttest.Fuzz(f, partner99.New(), "testdata") }

func TestPolicy(t *testing.T) {
	t.Parallel()
	want := waypost.Policy{
		Success: waypost.Success200, Timeout: 5 * time.Second,
		Schedule: []time.Duration{0, 5 * time.Minute, 20 * time.Minute, time.Hour, 4 * time.Hour, 24 * time.Hour},
	}
	if diff := cmp.Diff(want, partner99.New().Policy(&waypost.Endpoint{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

var types = []string{waypost.TypePlatformWhatsApp, waypost.TypePlatformBuilder, waypost.TypePlatformOnline}

func encode(eventType string, data []byte) (dialect.Hook, error) {
	return partner99.New().Encode(dialect.Item{
		Event:    &waypost.Event{ID: 1, Type: eventType, Form: waypost.FormData, Body: data},
		Endpoint: &waypost.Endpoint{ID: 1, Slot: "partner", URL: "https://hooks.acme.test/partner"},
		Attempt:  1,
	})
}

// TestErrorsHideValues: what went wrong with the data is told without it.
func TestErrorsHideValues(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		`{"whatsapp_apiKey":["planted-key"],"whatsapp_extra_info":1}`,
		`{"whatsapp_extra_info":"planted-key"}`,
		`{"whatsapp_apiKey":"planted-key"}`,
		`"planted-key"`, `planted-key`, `{"whatsapp_apiKey":{"planted-key":1},"whatsapp_extra_info":1}`,
	} {
		_, err := encode(waypost.TypePlatformWhatsApp, []byte(data))
		if err == nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v", data, err)
		}
	}
}

// FuzzEncode: a hook is a JSON object in UTF-8 that says OK, whatever it is made of.
func FuzzEncode(f *testing.F) {
	vector, err := os.ReadFile("testdata/events.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for i, part := range strings.Split(string(vector), "-- event --\n")[1:] {
		data, _, _ := strings.Cut(part, "\n-- ")
		f.Add(uint8(i), []byte(data))
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		hook, err := encode(types[int(kind)%len(types)], data)
		if err != nil {
			return
		}
		var got struct{ Status, Event string }
		if !utf8.Valid(hook.Body) || json.Unmarshal(hook.Body, &got) != nil || got.Status != "OK" || got.Event == "" {
			t.Errorf("hook %q", hook.Body)
		}
	})
}
