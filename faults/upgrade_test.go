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

// TestRollingUpgrade replaces nodes of the released version by nodes of this one
// and back, one at a time under load, by shutdown and by kill -9, on one
// PostgreSQL; both versions work side by side most of the time. In the end all
// are of this version.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	versions := [2]string{releasedProgram(t), program(t)}
	s := newScene(t, newGateway(t, gatewayOptions{Database: pgtest.URL(t), Nodes: 3, Program: versions[0]}))
	s.receiver.at(pathMeta, moody())
	l := s.load(t)
	const cycles = 5 // up, down, up, down, up
	for cycle := range cycles {
		for _, n := range s.nodes {
			s.awaitAccepted(t, 100+rand.IntN(300))
			mended := s.broken()
			since, newest := time.Now(), s.newest()
			if rand.IntN(2) == 0 {
				n.stop(t)
			} else {
				n.kill(t)
			}
			mended()
			n.program = []string{versions[(cycle+1)%2], "serve"}
			n.start(t)
			s.awaitAgain(t, since)
			s.awaitOwed(t, since, newest)
			s.awaitAccepted(t, 200) // side by side
		}
	}
	l.stop(t)
	s.close(t, "rolling upgrade from the released version, and back; PostgreSQL, three nodes", "")
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
