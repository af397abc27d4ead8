package logging

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// written keeps what comes, write by write.
type written struct {
	mu     sync.Mutex
	writes []string
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, string(p))
	return len(p), nil
}

func (w *written) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.writes
	w.writes = nil
	return taken
}

func newLog(out *written) (*slog.Logger, *Writer) {
	w := NewWriter(out)
	untimed := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(w.Handler(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: untimed}))), w
}

func TestLinesAreWrittenTogetherWithinATenthOfASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out written
		log, _ := newLog(&out)
		for round := range 3 { // the timer is used again
			log.Info("one")
			<-time.After(60 * time.Millisecond)
			log.With("a", 1).WithGroup("g").Info("two", "b", 2)
			if got := out.take(); got != nil {
				t.Fatalf("round %d: %q was written ahead of its time", round, got)
			}
			<-time.After(40 * time.Millisecond)
			synctest.Wait()
			if got := out.take(); len(got) != 1 || got[0] != "level=INFO msg=one\nlevel=INFO msg=two a=1 g.b=2\n" {
				t.Fatalf("round %d: wrote %q", round, got)
			}
		}
	})
}

func TestWhatMattersIsWrittenAtOnceAndInOrder(t *testing.T) {
	t.Parallel()
	var out written
	log, _ := newLog(&out)
	log.Info("before")
	log.With("a", 1).WithGroup("g").Warn("now")
	if got := strings.Join(out.take(), ""); got != "level=INFO msg=before\nlevel=WARN msg=now a=1\n" {
		t.Errorf("wrote %q", got)
	}
}

func TestManyLinesWaitForNoTimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out written
		log, w := newLog(&out)
		line := strings.Repeat("x", 1000)
		for range 100 {
			log.Info("long", "text", line)
		}
		early := out.take()
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		late := out.take()
		if len(early) != 3 || len(late) != 1 || strings.Count(strings.Join(append(early, late...), ""), line) != 100 {
			t.Errorf("%d writes before Flush and %d by it", len(early), len(late))
		}
		for _, lines := range early {
			if len(lines) > maxGathered+2000 || !strings.HasSuffix(lines, "\n") {
				t.Errorf("wrote %d bytes that end in %q", len(lines), lines[len(lines)-1:])
			}
		}
	})
}

func TestNothingIsLostBetweenManyWriters(t *testing.T) {
	t.Parallel()
	var out written
	log, w := newLog(&out)
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for n := range 200 {
				log.Log(t.Context(), slog.LevelInfo+slog.Level(4*(n%2)), "line", "by", i, "n", n)
			}
		})
	}
	writers.Wait()
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	for line := range strings.Lines(strings.Join(out.take(), "")) {
		var level, by string
		var n int
		if _, err := fmt.Sscanf(line, "level=%s msg=line by=%s n=%d\n", &level, &by, &n); err != nil || n != next[by] {
			t.Fatalf("%q, after %d: %v", line, next[by], err)
		}
		next[by]++
	}
	if len(next) != 8 {
		t.Errorf("lines of %v", next)
	}
}
