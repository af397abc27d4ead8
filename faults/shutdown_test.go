package faults_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// TestShutdown ends a node in order with work in every state: in flight, waiting
// for a retry, waiting for the main webhook, held by a paused endpoint, in the
// table because there is too much of it, and accepted a moment ago. Started
// again, it delivers all of it, and nothing twice: whatever was in flight was
// answered within the time that a shutdown has.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		database func(*testing.T) string
	}{
		{"SQLite", func(*testing.T) string { return "" }},
		{"PostgreSQL", func(t *testing.T) string { t.Helper(); return pgtest.URL(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, newGateway(t, gatewayOptions{Database: c.database(t)}))
			for range pick(1, 30) {
				s.shutdownRound(t)
			}
			s.expectOnce(t)
			s.close(t, "SIGTERM with work in every state; "+c.name, "")
		})
	}
}

func (s *scene) shutdownRound(t *testing.T) {
	t.Helper()
	slow := newHeldHooks()
	s.receiver.at(pathStandard, slow.behaviour) // in flight, and 2000 behind it in the table
	s.receiver.at(pathMain, answering(http.StatusServiceUnavailable))
	s.call(t, http.MethodPost, "/api/v1/endpoints/"+s.endpoints[pathWhizard]+"/pause", "")
	for range 2 {
		s.post(t, 1000)
	}
	slow.await(t, 4)
	l := s.load(t) // accepted a moment ago
	s.awaitAccepted(t, 50)

	mended := s.broken()
	since := time.Now()
	s.nodes[0].terminate(t)
	// In flight until the gateway takes nothing in any more: it is surely on its way down.
	within(t, 20*time.Second, func() error {
		if s.nodes[0].ready() == nil {
			return fmt.Errorf("the node still says that it is ready")
		}
		return nil
	})
	slow.release()
	s.nodes[0].awaitEnd(t)
	if took := time.Since(since); took > 25*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
	s.receiver.at(pathStandard, nil)
	s.receiver.at(pathMain, nil)

	restart, newest := time.Now(), s.newest()
	s.nodes[0].start(t)
	mended()
	within(t, againWithin, func() error {
		if !s.hasArrived(pathStandard, newest) {
			return fmt.Errorf("nothing new arrives")
		}
		return nil
	})
	s.noteAgain(t, restart)
	l.stop(t)
	s.call(t, http.MethodPost, "/api/v1/endpoints/"+s.endpoints[pathWhizard]+"/resume", "")
	s.awaitEverything(t)
}

// heldHooks keeps the hooks that come in waiting for their answer.
type heldHooks struct {
	let chan struct{} // closed: they are answered

	mu   sync.Mutex
	now  int // held at present
	most int
}

func newHeldHooks() *heldHooks { return &heldHooks{let: make(chan struct{})} }

func (h *heldHooks) behaviour(_ http.ResponseWriter, r *http.Request, _ []int) int {
	h.count(1)
	defer h.count(-1)
	select {
	case <-h.let:
		return http.StatusOK
	case <-r.Context().Done(): // the sender has gone
		return 0
	}
}

func (h *heldHooks) count(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now += n
	h.most = max(h.most, h.now)
}

func (h *heldHooks) held() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *heldHooks) await(t *testing.T, n int) {
	t.Helper()
	within(t, 30*time.Second, func() error {
		if have := h.held(); have < n {
			return fmt.Errorf("%d hooks are in flight, want %d", have, n)
		}
		return nil
	})
}

func (h *heldHooks) release() { close(h.let) }
