package faults_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// TestInFlightLimit counts at the receiver how many requests are under way to an
// endpoint, over three nodes that come, go and are killed under more load than
// the limits let through: never more than the limit.
func TestInFlightLimit(t *testing.T) {
	t.Parallel()
	s := newScene(t, newGateway(t, gatewayOptions{Database: pgtest.URL(t), Nodes: 3}))
	limits := map[string]int{pathMain: 4, pathWhizard: 2, pathMeta: 1, pathStandard: 7}
	counters := map[string]*counter{}
	for path, limit := range limits {
		s.patch(t, path, fmt.Sprintf(`{"in_flight":%d}`, limit))
		counters[path] = &counter{limit: limit, full: make(chan struct{})}
	}
	s.awaitSettings(t)
	for path, c := range counters {
		s.receiver.at(path, c.behaviour)
	}
	l := s.load(t)
	for range pick(2, 20) {
		s.awaitAccepted(t, 1+rand.IntN(200))
		victim := s.nodes[rand.IntN(len(s.nodes))]
		mended := s.broken()
		if rand.IntN(2) == 0 {
			victim.kill(t)
		} else {
			victim.stop(t)
		}
		mended()
		s.awaitAccepted(t, 1+rand.IntN(200))
		victim.start(t)
	}
	s.awaitAccepted(t, 200)
	for path, c := range counters {
		within(t, 30*time.Second, func() error {
			if most := c.highest(); most < c.limit {
				return fmt.Errorf("%s never had more than %d requests under way, its limit is %d", path, most, c.limit)
			}
			return nil
		})
	}
	l.stop(t)
	for path := range counters {
		s.receiver.at(path, nil) // all of it may go now
	}
	s.awaitEverything(t)
	for path, c := range counters {
		if most := c.highest(); most > c.limit {
			t.Errorf("%s had %d requests under way, its limit is %d", path, most, c.limit)
		}
	}
	s.close(t, "in-flight limits of 1, 2, 4 and 7 over three nodes that join, leave and are killed", "never exceeded, all used")
}

// counter counts the requests under way to an endpoint. Each takes until there
// have once been as many as the limit lets through, and then a little while.
type counter struct {
	limit int
	full  chan struct{} // closed when there are

	mu   sync.Mutex
	now  int
	most int
}

func (c *counter) behaviour(w http.ResponseWriter, r *http.Request, items []int) int {
	c.add(1)
	defer c.add(-1)
	select {
	case <-c.full:
		return takesAWhile(w, r, items)
	case <-r.Context().Done(): // the node was killed
		return 0
	}
}

// takesAWhile is how a receiver behaves that has work to do first.
func takesAWhile(_ http.ResponseWriter, r *http.Request, _ []int) int {
	work := time.NewTimer(time.Duration(2+rand.IntN(18)) * time.Millisecond)
	defer work.Stop()
	select {
	case <-work.C:
		return http.StatusOK
	case <-r.Context().Done(): // the node was killed
		return 0
	}
}

func (c *counter) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += n
	if c.now > c.most {
		if c.most = c.now; c.most == c.limit {
			close(c.full)
		}
	}
}

func (c *counter) highest() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most
}
