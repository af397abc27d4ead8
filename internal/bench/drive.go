package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// drive makes requests: Events of them as fast as so many workers can, or, with a
// Rate, for some seconds at moments that do not wait for answers. Latencies are counted
// from the moment a request was due, not from when it got away.
func drive(workers int, r request, post func(i int, due time.Time) error) (answer, error) {
	if r.Rate > 0 {
		return atRate(r, post)
	}
	return answer{}, parallel(workers, r.Events, func(i int) error { return post(i, time.Time{}) })
}

// parallel calls do(0) to do(n-1) from so many goroutines, until one fails.
func parallel(workers, n int, do func(i int) error) error {
	var next atomic.Int64
	var group sync.WaitGroup
	failed := make(chan error, workers)
	for range workers {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := do(int(i)); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(failed)
	return <-failed
}

// atRate makes requests at random moments, Rate a second on average.
func atRate(r request, post func(i int, due time.Time) error) (answer, error) {
	type order struct {
		i   int
		due time.Time
	}
	n := int(r.Rate * float64(r.Seconds))
	orders := make(chan order, n)
	var late latencyRecord
	var workers sync.WaitGroup
	failed := make(chan error, 4*clients)
	for range 4 * clients {
		workers.Go(func() {
			for o := range orders {
				if err := post(o.i, o.due); err != nil {
					failed <- err
					return
				}
				late.add(time.Since(o.due))
			}
		})
	}
	due := time.Now()
	random := rand.New(rand.NewPCG(1, uint64(n))) //nolint:gosec // moments, not secrets
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range n {
		due = due.Add(time.Duration(random.ExpFloat64() / r.Rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			<-timer.C
		}
		orders <- order{i, due}
	}
	close(orders)
	workers.Wait()
	close(failed)
	return answer{Latencies: late.take()}, <-failed
}

// latencyRecord keeps every latency of a run.
type latencyRecord struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencyRecord) add(d time.Duration) {
	l.mu.Lock()
	l.all = append(l.all, d)
	l.mu.Unlock()
}

// take sums up, and begins anew.
func (l *latencyRecord) take() *latencies {
	l.mu.Lock()
	all := l.all
	l.all = nil
	l.mu.Unlock()
	if len(all) == 0 {
		return &latencies{}
	}
	slices.Sort(all)
	at := func(share float64) float64 {
		return float64(all[min(int(share*float64(len(all))), len(all)-1)]) / 1e6
	}
	return &latencies{Count: len(all), P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: at(1)}
}

// poll asks until done is true.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// stallAfter is how long nothing may arrive before a run is given up.
const stallAfter = 30 * time.Second

// await polls until the sink has had so many hooks.
func (r *receiver) await(ctx context.Context, hooks int) error {
	last, since := int64(-1), time.Now()
	return poll(ctx, 2*time.Millisecond, func() (bool, error) {
		a, err := r.ask(request{Do: "count"})
		switch {
		case a.Count != last:
			last, since = a.Count, time.Now()
		case time.Since(since) > stallAfter:
			return false, fmt.Errorf("%d of %d hooks came, and then nothing for %s", a.Count, hooks, stallAfter)
		}
		return a.Count >= int64(hooks), err
	})
}
