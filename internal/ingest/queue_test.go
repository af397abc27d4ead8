package ingest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// awaits has the taker wait, and tells what came of it once it has.
func awaits(q *queue, wanted int, late <-chan time.Time) <-chan bool {
	there := make(chan bool, 1)
	go func() { there <- q.await(wanted, nil, late) }()
	synctest.Wait()
	return there
}

func puts(t *testing.T, q *queue, submissions ...*submission) {
	t.Helper()
	for _, s := range submissions {
		if !q.put(s) {
			t.Fatal("the queue is closed")
		}
	}
	synctest.Wait()
}

func TestTheTakerSleepsUntilAllAreThere(t *testing.T) {
	t.Parallel()
	one := func() *submission { return &submission{arrivals: make([]store.Arrival, 1)} }
	for name, last := range map[string]*submission{
		"as many as wanted": one(),
		"events":            {arrivals: make([]store.Arrival, maxBatchEvents)},
		"bytes":             {bytes: maxBatchBytes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := &queue{wake: make(chan struct{}, 1)}
				wanted := 3
				if len(last.arrivals) != 1 {
					wanted = 100
				}
				there := awaits(q, wanted, nil)
				puts(t, q, one(), one())
				if len(there) != 0 {
					t.Error("woken for less")
				}
				puts(t, q, last)
				if len(there) != 1 || !<-there {
					t.Fatal("not woken")
				}
				if batch := q.take(nil); len(batch) != 3 || q.len() != 0 || len(q.wake) != 0 {
					t.Errorf("took %d, left %d", len(batch), q.len())
				}
				puts(t, q, one(), one()) // nobody is to be woken
				if len(q.wake) != 0 || q.len() != 2 {
					t.Error("woken while awake")
				}
			})
		})
	}
}

// TestTooLateAndThereAtOnce has time run out in the moment in which the last comes.
func TestTooLateAndThereAtOnce(t *testing.T) {
	t.Parallel()
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			q := &queue{wake: make(chan struct{}, 1)}
			late := make(chan time.Time)
			there := awaits(q, 1, late)
			go close(late)
			puts(t, q, new(submission))
			<-there // either way
			if len(q.wake) != 0 || q.wanted != 0 {
				t.Error("a call to wake is left over")
			}
			if !<-awaits(q, 1, nil) {
				t.Error("what is there was not seen")
			}
		})
	}
}

func TestWhoHasGoneIsNotTakenIn(t *testing.T) {
	t.Parallel()
	b := startCommitter(t, 0)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := b.committer.Commit(gone, []store.Arrival{arrival("a")}); waypost.KindOf(err) != waypost.KindUnavailable {
		t.Errorf("ended with %v", err)
	}
	if commits, _ := b.committer.Commits(); commits != 0 {
		t.Error("committed what nobody waits for")
	}
}
