package faults_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// TestClockJumps sets the clock of a node forward and back by an hour, again and
// again, while leases live and retries wait. On PostgreSQL the other node's clock
// stays right, so that the two are an hour apart; in the end the one with the
// wrong clock is started with it, and killed with retries waiting.
//
// The program is built with a package time whose Now adds what a file says.
// What measures durations is left alone, as it is when a clock is set.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	if !long {
		t.Skip("building the program with another clock takes a while: part of the long form")
	}
	skewed, err := buildSkewed()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		nodes    int
		database func(*testing.T) string
	}{
		{"SQLite", 1, func(*testing.T) string { return "" }},
		{"PostgreSQL, one of two nodes", 2, func(t *testing.T) string { t.Helper(); return pgtest.URL(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, gatewayOptions{Database: c.database(t), Nodes: c.nodes, Program: skewed})
			clock := newClock(t, g.nodes[0])
			s := newScene(t, g)
			for _, path := range allPaths { // some waits outlast what is kept in memory
				s.patch(t, path, fmt.Sprintf(`{"policy":{"schedule":%s}}`, schedule(1500*time.Millisecond, 200)))
			}
			s.receiver.at(pathMeta, moody())
			l := s.load(t)
			for _, offset := range []time.Duration{time.Hour, 0, -time.Hour, 0, time.Hour, -time.Hour} {
				s.awaitAccepted(t, 300)
				mended := s.broken()
				since, newest := time.Now(), s.newest()
				clock.set(t, offset)
				s.awaitNew(t, since, newest)
				s.awaitOwed(t, since, newest)
				mended()
				t.Logf("clock off by %v: again after %s", offset, brief(s.again[len(s.again)-1]))
			}
			if c.nodes > 1 {
				for _, offset := range []time.Duration{time.Hour, -time.Hour} {
					mendedStart := s.broken()
					g.nodes[0].kill(t)
					clock.set(t, offset)
					g.nodes[0].start(t)
					mendedStart()
					s.awaitAccepted(t, 300)
					mended := s.broken()
					since, newest := time.Now(), s.newest()
					g.nodes[0].kill(t)
					s.awaitOwed(t, since, newest)
					mended()
					clock.set(t, 0)
					g.nodes[0].start(t)
				}
			}
			l.stop(t)
			s.close(t, "clock set forward and back by 1 h; "+c.name, "")
		})
	}
}

// clock sets the clock of one node.
type clock struct{ file string }

const clockVariable = "WAYPOST_FAULTS_CLOCK"

func newClock(t *testing.T, n *node) *clock {
	t.Helper()
	c := &clock{filepath.Join(t.TempDir(), "clock")}
	if err := os.WriteFile(c.file, make([]byte, os.Getpagesize()), 0o600); err != nil {
		t.Fatal(err)
	}
	n.env = append(n.env, clockVariable+"="+c.file)
	return c
}

func (c *clock) set(t *testing.T, offset time.Duration) {
	t.Helper()
	file, err := os.OpenFile(c.file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	seconds := binary.NativeEndian.AppendUint64(nil, uint64(int64(offset/time.Second)))
	if _, err := file.WriteAt(seconds, 0); err != nil {
		t.Fatal(err)
	}
}

// skew is the file that package time gets.
const skew = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// skewPage holds the seconds that Now is off by, shared with who sets them.
var skewPage = mapSkew()

func mapSkew() *int64 {
	name, ok := syscall.Getenv("` + clockVariable + `")
	if !ok {
		return nil
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err != nil {
		panic("clock: " + err.Error())
	}
	page, err := syscall.Mmap(fd, 0, syscall.Getpagesize(), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("clock: " + err.Error())
	}
	return (*int64)(unsafe.Pointer(&page[0]))
}

func skewed() int64 {
	if skewPage == nil {
		return 0
	}
	return atomic.LoadInt64(skewPage)
}
`

// buildSkewed builds the program of this tree with that package time.
var buildSkewed = sync.OnceValues(func() (string, error) {
	const now = "sec, nsec, mono := runtimeNow()\n"
	dir, err := os.MkdirTemp("", "waypost-faults-")
	if err != nil {
		return "", err
	}
	built.Store(dir, dir)
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		return "", err
	}
	if strings.Count(string(text), now) != 1 {
		return "", errors.New("package time of " + runtime.Version() + " reads the clock in another way")
	}
	patched, added, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "skew.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(source, "time.go"): patched,
		filepath.Join(source, "skew.go"): added,
	}})
	if err != nil {
		return "", err
	}
	for name, content := range map[string]string{
		patched: strings.Replace(string(text), now, now+"\tsec += skewed()\n", 1), added: skew, overlay: string(replace),
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	return build("..", "-overlay", overlay)
})
