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
	b.Run("both-60", func(b *testing.B) {
		f := begin(b, open)
		perEvent(b, 60, func() func() {
			batch := f.load(60)
			results := f.received(batch)
			return func() {
				f.accept(batch...)
				f.settle(results...)
			}
		})
	})
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
				results := f.received(batch)
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

// received are the results of a batch whose deliveries all went well.
func (f *fixture) received(batch []store.Arrival) []store.Result {
	results := make([]store.Result, len(batch))
	for i := range batch {
		results[i] = f.delivered(waypost.DeliveryID{Event: batch[i].Event.ID, Endpoint: f.endpoints[0]}, 1)
	}
	return results
}

// load is a batch of typical events. Their keys tell the time of their ids.
func (f *fixture) load(size int) []store.Arrival {
	batch := make([]store.Arrival, size)
	for i := range batch {
		batch[i] = f.arrival(inHand(f.endpoints[0])...)
		batch[i].Event.Body = benchBody
		batch[i].DedupeKey = dedupeKey(uint32(batch[i].Event.ID.Time().Unix()), batch[i].Event.ID.String())
	}
	return batch
}

var benchBody = make([]byte, 1500)
