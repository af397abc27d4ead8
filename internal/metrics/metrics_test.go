package metrics

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/ingest"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// TestEachCombinationOfLabelsIsCounted by many at a time.
func TestEachCombinationOfLabelsIsCounted(t *testing.T) {
	t.Parallel()
	m := New()
	var counting sync.WaitGroup
	for range 8 {
		counting.Go(func() {
			for range 100 {
				m.Ingested(waypost.SourceMeta, ingest.ResultAccepted)
				m.Ingested(waypost.SourceMeta, ingest.ResultOverload)
				m.Accepted(waypost.EventRouted, false)
				m.Accepted(waypost.EventUnrouted, false)
				m.Accepted(waypost.EventRouted, true)
				m.Attempted("meta", waypost.OutcomeDelivered, waypost.ReasonOK, time.Millisecond)
				m.Attempted("meta", waypost.OutcomeRetry, waypost.ReasonTimeout, time.Second)
			}
		})
	}
	counting.Wait()
	recorder := httptest.NewRecorder()
	m.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`waypost_ingest_requests_total{result="accepted",source="meta"} 800`,
		`waypost_ingest_requests_total{result="overload",source="meta"} 800`,
		`waypost_events_total{state="routed"} 800`,
		`waypost_events_total{state="unrouted"} 800`,
		`waypost_event_duplicates_total 800`,
		`waypost_delivery_attempts_total{dialect="meta",outcome="delivered",reason="ok"} 800`,
		`waypost_delivery_attempts_total{dialect="meta",outcome="retry",reason="timeout"} 800`,
		`waypost_delivery_attempt_seconds_count{dialect="meta"} 1600`,
	} {
		if !strings.Contains(recorder.Body.String(), want+"\n") {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func BenchmarkCounting(b *testing.B) {
	m := New()
	b.ReportAllocs()
	for b.Loop() {
		m.Ingested(waypost.SourceMeta, ingest.ResultAccepted)
		m.Accepted(waypost.EventRouted, false)
		m.Attempted("meta", waypost.OutcomeDelivered, waypost.ReasonOK, time.Millisecond)
	}
}
