package whizard

import (
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect/d360"
	"github.com/waypost-gateway/waypost/internal/dialect/dialecttest"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	dialecttest.Run(t, New(), "testdata")
}

func FuzzSettings(f *testing.F) { dialecttest.Fuzz(f, New(), "testdata") }

func TestRoute(t *testing.T) {
	t.Parallel()
	onPrem := &waypost.Endpoint{Slot: d360.SlotNumber, URL: "https://a.test"}
	cloud := &waypost.Endpoint{URL: "https://b.test", Options: map[string]any{d360.OptionPayload: d360.PayloadCloud}}
	noURL := &waypost.Endpoint{Slot: d360.SlotNumber}
	for eventType, want := range map[string][]*waypost.Endpoint{
		"whatsapp.message.text":   {onPrem, cloud},
		"whatsapp.status.read":    {onPrem, cloud},
		"whatsapp.error":          {onPrem, cloud},
		"whatsapp.account_update": {cloud},
	} {
		targets := New().Route(&waypost.Event{Type: eventType}, []*waypost.Endpoint{onPrem, noURL, cloud})
		if len(targets) != len(want) {
			t.Errorf("%s: %d targets, want %d", eventType, len(targets), len(want))
			continue
		}
		for i, target := range targets {
			if target.Endpoint != want[i] || target.After != nil {
				t.Errorf("%s: target %d is %+v", eventType, i, target)
			}
		}
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	for _, options := range []map[string]any{nil, {d360.OptionPayload: d360.PayloadCloud}} {
		policy := New().Policy(&waypost.Endpoint{Options: options})
		first, last := policy.Schedule[0], policy.Schedule[len(policy.Schedule)-1]
		if first != 3*time.Second || last != 15*time.Minute || policy.Window() > 24*time.Hour {
			t.Errorf("waits from %v to %v for %v", first, last, policy.Window())
		}
	}
}
