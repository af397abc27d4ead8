package sqlite

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all turns
		first, err := all.take(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		wait := func(name string, urgent bool) {
			go func() {
				done, err := all.take(t.Context(), urgent)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				<-time.After(patience * 3 / 4) // what a transaction takes
				done()
			}()
			synctest.Wait()
		}
		wait("take", false)
		wait("settle", false)
		wait("accept 1", true)
		wait("renew", true)
		wait("accept 2", true)
		first()
		synctest.Wait()
		<-time.After(time.Second)
		// Two urgent ones go first; by then the others have waited long enough.
		want := []string{"accept 1", "renew", "take", "settle", "accept 2"}
		mu.Lock()
		defer mu.Unlock()
		if len(order) != len(want) {
			t.Fatalf("order is %v, want %v", order, want)
		}
		for i := range want {
			if order[i] != want[i] {
				t.Fatalf("order is %v, want %v", order, want)
			}
		}
	})
}

func TestTurnGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all turns
		first, err := all.take(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() {
			_, err := all.take(ctx, true)
			gaveUp <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
		first()
		next, err := all.take(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		next()
		if all.taken {
			t.Error("the writer is still taken")
		}
	})
}
