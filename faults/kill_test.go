package faults_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// TestKilledNode is the promise itself: a node under load is killed with SIGKILL
// at random moments, again and again on the same data.
func TestKilledNode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		nodes    int
		postgres bool
		rounds   int
		settle   int // after so many rounds it is waited for all that was owed
	}{
		{"SQLite, one node", 1, false, pick(8, 300), 8},
		{"PostgreSQL, one node", 1, true, pick(2, 60), 1}, // nothing is delivered while the dead node's lease lasts
		{"PostgreSQL, three nodes", 3, true, pick(6, 200), 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := gatewayOptions{Nodes: c.nodes}
			if c.postgres {
				o.Database = pgtest.URL(t)
			}
			s := newScene(t, newGateway(t, o))
			killRounds(t, s, c.rounds, c.settle)
			s.close(t, "kill -9 of a node; "+c.name, "")
		})
	}
}

// killRounds kills a node in each round. In some, the last among them, it also
// waits until all that was accepted before has arrived: what the dead node had
// in hand must be taken over.
func killRounds(t *testing.T, s *scene, rounds, settle int) {
	t.Helper()
	s.receiver.at(pathMeta, moody())
	l := s.loadEvery(t, 80*time.Millisecond)
	for round := range rounds {
		s.awaitAccepted(t, 1+rand.IntN(50))
		victim := s.nodes[rand.IntN(len(s.nodes))]
		mended := s.broken()
		since, newest := time.Now(), s.newest()
		victim.kill(t)
		mended()
		if len(s.nodes) > 1 { // the others go on
			s.awaitAccepted(t, 1+rand.IntN(50))
		}
		restart := time.Now()
		victim.start(t)
		if len(s.nodes) == 1 {
			since = restart
		}
		s.awaitAgain(t, since)
		if (round+1)%settle == 0 || round == rounds-1 {
			s.awaitOwed(t, since, newest)
		}
	}
	l.stop(t)
	if s.acceptedTotal() < rounds {
		t.Fatalf("only %d events were accepted in %d rounds: the load was no load", s.acceptedTotal(), rounds)
	}
}
