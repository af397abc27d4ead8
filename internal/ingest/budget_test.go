package ingest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestBudgetWaitsInLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: 10}
		if !b.take(8) {
			t.Fatal("the first finds no room")
		}
		served := make(chan int64, 2)
		queue := func(bytes int64) {
			go func() {
				if b.wait(t.Context(), bytes) {
					served <- bytes
				}
			}()
			synctest.Wait()
		}
		queue(9)
		queue(1) // it would fit, and is not let past
		if b.take(1) || len(served) != 0 {
			t.Fatalf("served %d before their turn", len(served))
		}
		b.give(8)
		synctest.Wait()
		if len(served) != 2 || b.held != 10 {
			t.Fatalf("served %d, %d held", len(served), b.held)
		}
		b.give(10)
		if b.held != 0 {
			t.Errorf("%d are held by nobody", b.held)
		}
	})
}

func TestBudgetIsNotWaitedForWithoutEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: 10}
		b.take(10)
		gone, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		if b.wait(gone, 5) || time.Since(start) != time.Second {
			t.Error("a sender that is gone is waited for")
		}
		if b.wait(t.Context(), 5) || time.Since(start) != time.Second+patience {
			t.Errorf("waited until %v", time.Since(start))
		}
		b.give(10)
		if !b.take(10) {
			t.Error("those who left hold memory")
		}
	})
}

// TestBudgetNeverGivesMoreThanItHas also checks that a request of any size gets
// its turn, and that all comes back.
func TestBudgetNeverGivesMoreThanItHas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		sizes := rapid.SliceOfN(rapid.Int64Range(1, 150), 1, 50).Draw(rt, "sizes")
		synctest.Test(t, func(t *testing.T) {
			b := &budget{limit: 100}
			for _, bytes := range sizes {
				go func() {
					if !b.wait(t.Context(), bytes) {
						t.Errorf("%d were never free", bytes)
						return
					}
					b.mu.Lock()
					held := b.held
					b.mu.Unlock()
					if held > max(b.limit, bytes) {
						t.Errorf("%d are held", held)
					}
					<-time.After(time.Duration(bytes) * time.Microsecond)
					b.give(bytes)
				}()
			}
			synctest.Wait()
			<-time.After(time.Minute)
			synctest.Wait()
			if b.held != 0 || len(b.line) != 0 {
				t.Errorf("%d held, %d waiting at the end", b.held, len(b.line))
			}
		})
	})
}
