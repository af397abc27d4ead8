package faults_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// againWithin is how soon after a fault the gateway must be delivering again.
const againWithin = 10 * time.Second

// caughtUpWithin is how soon all that was owed at a fault must have arrived. It
// takes a lease, and then the time to send what has piled up meanwhile.
const caughtUpWithin = 3 * againWithin

// long tells whether the long form was asked for.
var long = os.Getenv("WAYPOST_FAULTS") == "long"

// pick is one of two numbers, by the form.
func pick[T any](short, longer T) T {
	if long {
		return longer
	}
	return short
}

func TestMain(m *testing.M) {
	pgtest.Main(suite{m})
}

// suite runs the tests, removes the programs they built and shows the figures.
type suite struct{ *testing.M }

func (s suite) Run() int {
	code := s.M.Run()
	built.Range(func(_, dir any) bool { _ = os.RemoveAll(dir.(string)); return true })
	figures.print()
	return code
}

// built are the directories of programs that were built.
var built sync.Map

// build builds ./cmd/waypost of a source tree, once for each flavour.
func build(source string, flags ...string) (string, error) {
	dir, err := os.MkdirTemp("", "waypost-faults-")
	if err != nil {
		return "", err
	}
	built.Store(dir, dir)
	binary := filepath.Join(dir, "waypost")
	command := exec.Command("go", append(append([]string{"build", "-o", binary}, flags...), "./cmd/waypost")...)
	command.Dir = source
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, output)
	}
	return binary, nil
}

var buildOnce = sync.OnceValues(func() (string, error) {
	if given := os.Getenv("WAYPOST_FAULTS_PROGRAM"); given != "" {
		return given, nil
	}
	return build("..")
})

// program is the gateway of this tree, or the one that
// WAYPOST_FAULTS_PROGRAM names, such as a release to be looked into.
func program(t *testing.T) string {
	t.Helper()
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// figures are what the scenarios measured, one row each.
var figures table

type table struct {
	mu   sync.Mutex
	rows []string
}

const tableHead = "| scenario | faults | events accepted | deliveries owed | arrived | arrived again | delivering again after (median, worst) | all owed before has arrived after | |\n" +
	"|---|--:|--:|--:|--:|--:|--:|--:|---|"

func (f *table) add(t *testing.T, row string) {
	t.Helper()
	t.Log(row)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows = append(f.rows, row)
}

func (f *table) print() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.rows) == 0 {
		return
	}
	slices.Sort(f.rows)
	fmt.Fprintf(os.Stdout, "%s\n%s\n", tableHead, strings.Join(f.rows, "\n"))
}

// within polls until check passes, or fails with its last word.
func within(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	if err := poll(t, limit, check); err != nil {
		t.Fatalf("after %v: %v", limit, err)
	}
}

func poll(t *testing.T, limit time.Duration, check func() error) error {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return err
		case <-t.Context().Done():
			return err
		}
	}
}

// last lets a fault last: it is the length of the experiment, not a wait for
// something to be done.
func last(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
