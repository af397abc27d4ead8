package faults_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// TestPostgresFails kills PostgreSQL, restarts it and cuts the network to it,
// under load. Ingest answers 503 meanwhile and everything resumes by itself.
func TestPostgresFails(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprintf("nodes %d", nodes), func(t *testing.T) {
			t.Parallel()
			if nodes == 1 && !long {
				t.Skip("one node without its PostgreSQL is part of the long form")
			}
			cluster := pgtest.Start(t, true)
			network := newValve(t, "unix", cluster.Socket())
			database := fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", network.address())
			s := newScene(t, newGateway(t, gatewayOptions{Database: database, Nodes: nodes}))
			s.receiver.at(pathMeta, moody())
			l := s.load(t)
			for range pick(1, 20) {
				s.outage(t, l, "kill -9", 0, func() { cluster.Kill(t) }, func() { cluster.Restart(t) })
				s.outage(t, l, "restart", 0, func() { cluster.Stop(t) }, func() { cluster.Restart(t) })
			}
			for _, cut := range pick([]time.Duration{5 * time.Second}, []time.Duration{time.Second, 5 * time.Second, 10 * time.Second, time.Minute}) {
				s.outage(t, l, "connections cut", cut, func() { network.set(broken) }, func() { network.set(flowing) })
				s.outage(t, l, silent, cut, func() { network.set(stalled) }, func() { network.set(flowing) })
			}
			l.stop(t)
			s.close(t, fmt.Sprintf("PostgreSQL killed, restarted, cut off (up to %v); nodes: %d", pick(5*time.Second, time.Minute), nodes),
				fmt.Sprintf("503 answered %d times, the slowest answer took %s", l.answered(http.StatusServiceUnavailable), brief(l.longest)))
		})
	}
}

// silent is when connections stand and nothing gets through.
const silent = "network silent"

// outage breaks the database at a random moment, sees that nothing is accepted
// meanwhile but refused with 503, mends it after least at the earliest, and sees
// that all goes on: both what was owed and what is new.
func (s *scene) outage(t *testing.T, l *load, name string, least time.Duration, breakIt, mend func()) {
	t.Helper()
	s.awaitAccepted(t, 1+rand.IntN(200))
	mended := s.broken()
	from := time.Now()
	breakIt()
	refused := l.answered(http.StatusServiceUnavailable)
	accepted, newest := s.acceptedTotal(), s.newest()
	if least > 0 {
		last(t, least-time.Since(from))
		// In a silent network a commit is waited for before it is given up.
		if l.answered(http.StatusServiceUnavailable) == refused && (name != silent || least >= 30*time.Second) {
			t.Errorf("%s: ingest did not answer 503 once in %v", name, least)
		}
		// What was committed just before may still have been on its way to the sender.
		if more := s.acceptedTotal() - accepted; more > 200 {
			t.Errorf("%s: %d events were accepted while the database was out of reach", name, more)
		}
	}
	since, after := time.Now(), s.newest()
	mend()
	s.awaitNew(t, since, after)
	s.awaitOwed(t, since, newest)
	mended()
	t.Logf("%s for %s: again after %s", name, brief(since.Sub(from)), brief(s.again[len(s.again)-1]))
}
