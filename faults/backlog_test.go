package faults_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// TestRestartWithBacklog kills a node that owes a great many deliveries, all of
// them due, and measures how soon the next one is ready and delivering, and how
// much memory it takes for that.
func TestRestartWithBacklog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		owed     int
		drain    bool
		database func(*testing.T) string
	}{
		{"SQLite", pick(50_000, 1_000_000), long, func(*testing.T) string { return "" }},
		{"PostgreSQL", pick(10_000, 1_000_000), true, func(t *testing.T) string { t.Helper(); return pgtest.URL(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, newGateway(t, gatewayOptions{Database: c.database(t)}))
			for _, id := range s.endpoints {
				s.call(t, http.MethodPost, "/api/v1/endpoints/"+id+"/pause", "")
			}
			s.pile(t, c.owed/len(allPaths))
			for _, id := range s.endpoints {
				s.call(t, http.MethodPost, "/api/v1/endpoints/"+id+"/resume", "")
			}
			mended := s.broken()
			s.nodes[0].kill(t)
			arrived, _ := s.totals()

			since, newest := time.Now(), s.newest()
			s.nodes[0].start(t)
			ready := time.Since(since)
			within(t, time.Minute, func() error {
				if now, _ := s.totals(); now == arrived {
					return fmt.Errorf("nothing is delivered")
				}
				return nil
			})
			s.noteAgain(t, since)
			mended()
			first := time.Since(since)
			goal := newest * len(allPaths)
			if !c.drain {
				goal = arrived + 5000
			}
			drained := s.awaitTotal(t, goal)
			rate := float64(goal-arrived) / drained.Seconds()
			peak := s.nodes[0].peakMemory(t)
			if peak > 1<<30 {
				t.Errorf("the node used %d MiB", peak>>20)
			}
			name := fmt.Sprintf("kill -9 with %d owed; %s", newest*len(allPaths), c.name)
			remark := fmt.Sprintf("ready after %s, first delivery after %s, then %.0f/s; peak memory %d MiB", brief(ready), brief(first), rate, peak>>20)
			if !c.drain {
				s.report(t, name, remark+"; not waited for all of it")
				return
			}
			s.close(t, name, remark)
		})
	}
}

// pile posts n events in batches of a thousand, from a few connections.
func (s *scene) pile(t *testing.T, n int) {
	t.Helper()
	batches := make(chan []int)
	var posts sync.WaitGroup
	for range 2 {
		posts.Go(func() {
			for fresh := range batches {
				body := request(fresh)
				if err := poll(t, time.Minute, func() error {
					if status := s.balanced().ingest(t.Context(), body); status != http.StatusOK {
						return fmt.Errorf("ingest answered %d", status)
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
				s.accept(fresh)
			}
		})
	}
	for ; n > 0; n -= 1000 {
		batches <- s.take(min(n, 1000))
	}
	close(batches)
	posts.Wait()
}

// awaitTotal waits until so many deliveries have arrived, as long as there is
// progress, and gives how long that took.
func (s *scene) awaitTotal(t *testing.T, goal int) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		before, _ := s.totals()
		if before >= goal {
			return time.Since(began)
		}
		within(t, 30*time.Second, func() error {
			if now, _ := s.totals(); now < min(before+1000, goal) {
				return fmt.Errorf("%d of %d deliveries arrived, and no more come", now, goal)
			}
			return nil
		})
	}
}
