package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Benchmark measures the hot path. An operation is a batch; events/s is what
// counts. It pays for each event as the gateway does: body, dedupe key and one
// delivery in hand.
func Benchmark(b *testing.B, open func(tb testing.TB) store.Store) {
	for _, size := range []int{64, 256} {
		b.Run(fmt.Sprintf("accept-%d", size), func(b *testing.B) {
			f := begin(b, open)
			perEvent(b, size, func() func() {
				batch := f.load(size)
				return func() { f.accept(batch...) }
			})
		})
		b.Run(fmt.Sprintf("settle-%d", size), func(b *testing.B) {
			f := begin(b, open)
			perEvent(b, size, func() func() {
				batch := f.load(size)
				f.accept(batch...)
				results := make([]store.Result, size)
				for i := range batch {
					results[i] = f.delivered(waypost.DeliveryID{Event: batch[i].Event.ID, Endpoint: f.endpoints[0]}, 1)
				}
				return func() { f.settle(results...) }
			})
		})
	}
}

// perEvent times what prepare gives, and not prepare.
func perEvent(b *testing.B, size int, prepare func() func()) {
	b.Helper()
	var spent time.Duration
	rounds := 0
	for b.Loop() {
		run := prepare()
		start := time.Now()
		run()
		spent += time.Since(start)
		rounds++
	}
	b.ReportMetric(float64(rounds*size)/spent.Seconds(), "events/s")
	b.ReportMetric(float64(spent.Microseconds())/float64(rounds*size), "us/event")
}

// load is a batch of typical events.
func (f *fixture) load(size int) []store.Arrival {
	batch := make([]store.Arrival, size)
	for i := range batch {
		batch[i] = f.arrival(inHand(f.endpoints[0])...)
		batch[i].Event.Body = benchBody
		batch[i].DedupeKey = dedupeKey(uint32(f.now.Unix()), batch[i].Event.ID.String())
	}
	return batch
}

var benchBody = make([]byte, 1500)
