//go:build unix

package faults_test

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// TestFrozenNode stops a node in its tracks for longer than its lease, as a
// suspended machine or a long page-in would, and lets it go on: what it then
// writes must not count, and it must find its way back by itself.
func TestFrozenNode(t *testing.T) {
	t.Parallel()
	s := newScene(t, newGateway(t, gatewayOptions{Database: pgtest.URL(t), Nodes: 3}))
	s.receiver.at(pathMeta, moody())
	s.receiver.at(pathStandard, takesAWhile) // slower than the load: there is always some in hand
	l := s.load(t)
	for range pick(1, 20) {
		s.awaitAccepted(t, 1+rand.IntN(200))
		victim := s.nodes[rand.IntN(len(s.nodes))]
		mended := s.broken()
		since, newest := time.Now(), s.newest()
		victim.frozen.Store(true)
		victim.signal(t, syscall.SIGSTOP)
		s.awaitOwed(t, since, newest) // the others take over what it had in hand
		last(t, 8*time.Second-time.Since(since))
		victim.signal(t, syscall.SIGCONT)
		victim.frozen.Store(false)
		since, newest = time.Now(), s.newest()
		victim.awaitReady(t)
		s.awaitAgain(t, since)
		s.awaitOwed(t, since, newest)
		mended()
	}
	l.stop(t)
	s.receiver.at(pathStandard, nil)
	s.close(t, "a node frozen for longer than its lease; PostgreSQL, three nodes", "")
}
