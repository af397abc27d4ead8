package app_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/app/apptest"
	"github.com/waypost-gateway/waypost/internal/config"
)

// TestOverloadAsksToComeAgain sends at once much more than there is memory for, as
// real clients do, who send all of a body whatever is answered: each is answered,
// with 200 or 503 and never a reset; whoever comes again is taken in, in the end;
// and nothing is doubled.
func TestOverloadAsksToComeAgain(t *testing.T) {
	t.Parallel()
	c := newCustomer(t, apptest.Start(t, "", func(c *config.Config) { c.IngestMemory = 16 << 20 }))
	const senders = 12
	var refused atomic.Int64
	var sending sync.WaitGroup
	for i := range senders {
		sending.Go(func() {
			body := bytes.Replace(backlogBody(i, 0), []byte("The parcel"), []byte(strings.Repeat("The parcel ", 3<<20/11)), 1)
			again := time.NewTicker(20 * time.Millisecond)
			defer again.Stop()
			for c.sendLarge(t, body, i%2 == 0) == http.StatusServiceUnavailable {
				refused.Add(1)
				<-again.C
			}
		})
	}
	sending.Wait()
	if events := c.list(t, "/api/v1/events?limit=100"); len(events) != senders {
		t.Errorf("%d events are stored, want %d", len(events), senders)
	}
	_, figures := c.Do(t, http.MethodGet, "/metrics", nil, "")
	if want := fmt.Sprintf("waypost_ingest_refused_total{reason=\"memory\"} %d\n", refused.Load()); refused.Load() > 0 && !strings.Contains(figures, want) {
		t.Errorf("the figures do not say %q", want)
	}
}

// sendLarge posts a signed body, with or without its length, and gives the status.
func (c customer) sendLarge(t *testing.T, body []byte, length bool) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL+"/ingest/meta/default", io.MultiReader(bytes.NewReader(body)))
	if err != nil {
		t.Error(err)
		return 0
	}
	if length {
		request.ContentLength = int64(len(body))
	}
	request.Header.Set("X-Hub-Signature-256", apptest.Sign(apptest.AppSecret, body))
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
	retryAfter := response.Header.Get("Retry-After")
	if status := response.StatusCode; status != http.StatusOK && (status != http.StatusServiceUnavailable || retryAfter != "1") {
		t.Errorf("answered %d, Retry-After %q", status, retryAfter)
	}
	return response.StatusCode
}
