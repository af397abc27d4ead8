package faults_test

import (
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// released is the last commit of the first released version.
const released = "a1e06ac"

// buildReleased builds it from the repository's history.
var buildReleased = sync.OnceValues(func() (string, error) {
	dir, err := exec.Command("mktemp", "-d").Output()
	if err != nil {
		return "", err
	}
	source := strings.TrimSpace(string(dir))
	built.Store(source, source)
	archive := filepath.Join(source, "source.tar")
	for _, step := range [][]string{
		{"git", "-C", "..", "archive", "-o", archive, released},
		{"tar", "-x", "-f", archive, "-C", source},
	} {
		if err := exec.Command(step[0], step[1:]...).Run(); err != nil {
			return "", err
		}
	}
	return build(source)
})

func releasedProgram(t *testing.T) string {
	t.Helper()
	if !long {
		t.Skip("building the released version takes a while: part of the long form")
	}
	if exec.Command("git", "rev-parse", "--verify", "--quiet", released+"^{commit}").Run() != nil {
		t.Skipf("the released version, %s, is not in the history of this checkout", released)
	}
	binary, err := buildReleased()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// TestRollingUpgrade replaces the nodes of the released version by nodes of this
// one, one at a time under load, by shutdown and by kill -9, on one PostgreSQL;
// both versions work side by side meanwhile.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	before, after := releasedProgram(t), program(t)
	for _, end := range []struct {
		name string
		of   func(*node, *testing.T)
	}{{"SIGTERM", (*node).stop}, {"kill -9", (*node).kill}} {
		t.Run(end.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, newGateway(t, gatewayOptions{Database: pgtest.URL(t), Nodes: 3, Program: before}))
			s.receiver.at(pathMeta, moody())
			l := s.load(t)
			for _, n := range s.nodes {
				s.awaitAccepted(t, 100+rand.IntN(300))
				mended := s.broken()
				since, newest := time.Now(), s.newest()
				end.of(n, t)
				mended()
				n.program = []string{after, "serve"}
				n.start(t)
				s.awaitAgain(t, since)
				s.awaitOwed(t, since, newest)
				s.awaitAccepted(t, 1000) // side by side
			}
			l.stop(t)
			s.close(t, "rolling upgrade from the released version by "+end.name+"; PostgreSQL, three nodes", "")
		})
	}
}

// TestUpgradeInPlace starts this version on what the released one left behind
// when it was killed with work in hand.
func TestUpgradeInPlace(t *testing.T) {
	t.Parallel()
	before := releasedProgram(t)
	for _, c := range []struct {
		name     string
		database func(*testing.T) string
	}{
		{"SQLite", func(*testing.T) string { return "" }},
		{"PostgreSQL", func(t *testing.T) string { t.Helper(); return pgtest.URL(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, newGateway(t, gatewayOptions{Database: c.database(t), Program: before}))
			l := s.load(t)
			s.queue(t, pathWhizard, 1000)
			mended := s.broken()
			newest := s.newest()
			s.nodes[0].kill(t)
			s.receiver.at(pathWhizard, nil)
			since := time.Now()
			s.nodes[0].program = []string{program(t), "serve"}
			s.nodes[0].start(t)
			s.awaitOwed(t, since, newest)
			mended()
			l.stop(t)
			s.close(t, "upgrade of the released version's data in place, killed with 1000 owed; "+c.name, "")
		})
	}
}
