package delivery

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestEachAttemptHasALineOfItsOwn(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	untimed := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	teller := newTeller(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: untimed})).With("component", "delivery"))
	nextAt := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	var want strings.Builder
	for round := range 2 * maxHandlers { // more than are remembered, and most of them again
		n := round/2%(maxHandlers/2+10) + 1
		for _, outcome := range []waypost.Outcome{waypost.OutcomeDelivered, waypost.OutcomeRetry} {
			a := &waypost.Attempt{
				Delivery: waypost.DeliveryID{Event: waypost.EventID(round + 1), Endpoint: 7},
				N:        n, Status: 200 + n, Outcome: outcome, Reason: waypost.ReasonStatus, Duration: time.Duration(n) * time.Millisecond,
			}
			teller.attempted("meta", a, nextAt)
			fmt.Fprintf(&want, "level=INFO msg=delivery.attempted component=delivery dialect=meta attempt=%d status=%d outcome=%s reason=status "+
				"delivery=%s event=%s endpoint=%s duration_ms=%d", n, 200+n, outcome, a.Delivery, a.Delivery.Event, a.Delivery.Endpoint, n)
			if outcome == waypost.OutcomeRetry {
				want.WriteString(" next_at=2026-03-01T11:00:00.000Z")
			}
			want.WriteString("\n")
		}
	}
	if diff := cmp.Diff(want.String(), log.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(teller.handlers); n > maxHandlers {
		t.Errorf("%d are remembered", n)
	}
}

func TestNobodyIsToldWhatIsNotLogged(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	teller := newTeller(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	teller.attempted("meta", &waypost.Attempt{N: 1}, time.Time{})
	if log.Len() > 0 || len(teller.handlers) > 0 {
		t.Errorf("logged %q, remembers %d", log.String(), len(teller.handlers))
	}
}
