package storetest

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var acceptTests = []test{
	{"an event comes back as it was", acceptRoundTrip},
	{"an empty batch is fine", acceptNothing},
	{"odd bytes in ids do not keep a batch out", acceptOddText},
	{"a body of 3 MB is kept whole", acceptLargeBody},
	{"batches of every size", acceptSizes},
	{"a repeat is counted and not stored", acceptRepeat},
	{"a repeat inside a batch", acceptRepeatInBatch},
	{"concurrent repeats are stored once", acceptConcurrentRepeats},
	{"all of a batch or nothing", acceptAtomic},
	{"an endpoint named twice is owed once", acceptOwedTwice},
	{"reopening finds everything", acceptReopen},
}

func (f *fixture) stored(id waypost.EventID) store.EventRecord {
	f.tb.Helper()
	record, err := f.store.Event(f.ctx(), id)
	f.must(err)
	return record
}

func acceptRoundTrip(f *fixture) {
	full := f.event()
	bare := waypost.Event{ID: waypost.EventID(f.ids.Next()), Type: waypost.TypeUnparsed, State: waypost.EventUnparsed, Form: waypost.FormRaw}
	receipts := f.accept(store.Arrival{Event: full}, store.Arrival{Event: bare})
	f.equal("receipts", receipts, []store.Receipt{{Event: full.ID}, {Event: bare.ID}})
	f.equal("full event", f.stored(full.ID).Event, full)
	f.equal("bare event", f.stored(bare.ID).Event, bare)
	_, err := f.store.Event(f.ctx(), bare.ID+1)
	f.kind(err, waypost.KindNotFound)
}

func acceptNothing(f *fixture) {
	f.equal("receipts", f.accept(), []store.Receipt{})
}

func acceptOddText(f *fixture) {
	odd, plain := f.arrival(), f.arrival()
	odd.Event.Type, odd.Event.PhoneNumberID, odd.Event.WABAID = "whatsapp.\x00", "\xff\xfe", "a\x00b"
	odd.Event.Body = []byte{0, 0xff, 0, '\n'}
	f.accept(odd, plain)
	f.equal("body", f.stored(odd.Event.ID).Body, odd.Event.Body)
	f.equal("type", f.stored(odd.Event.ID).Type, "whatsapp.\uFFFD")
	f.stored(plain.Event.ID)
}

func acceptLargeBody(f *fixture) {
	large := f.arrival(owing(f.endpoints[0])...)
	large.Event.Body = bytes.Repeat([]byte("0123456789abcde\x00"), 3<<20/16)
	f.accept(large)
	if !bytes.Equal(f.stored(large.Event.ID).Body, large.Event.Body) {
		f.tb.Fatal("the body read differs")
	}
	taken := f.take(f.node, f.endpoints[0], 1)
	if len(taken) != 1 || !bytes.Equal(taken[0].Event.Body, large.Event.Body) {
		f.tb.Fatal("the body taken differs")
	}
}

func acceptSizes(f *fixture) {
	total := 0
	for _, size := range []int{1, 7, 8, 9, 31, 32, 33, 75} {
		batch := make([]store.Arrival, size)
		for i := range batch {
			batch[i] = f.arrival(owing(f.endpoints[0], f.endpoints[1])...)
			batch[i].DedupeKey = dedupeKey(7, fmt.Sprint(size, i))
		}
		for i, receipt := range f.accept(batch...) {
			f.equal("receipt", receipt, store.Receipt{Event: batch[i].Event.ID})
		}
		total += size
		f.equal("last of the batch", f.stored(batch[size-1].Event.ID).Event, batch[size-1].Event)
	}
	f.backlog(f.endpoints[0], total)
	f.backlog(f.endpoints[1], total)
}

func acceptRepeat(f *fixture) {
	key := dedupeKey(100, "once")
	first, second, other := f.arrival(owing(f.endpoints[0])...), f.arrival(owing(f.endpoints[0])...), f.arrival()
	first.DedupeKey, second.DedupeKey, other.DedupeKey = key, key, dedupeKey(100, "other")
	f.accept(first)
	receipts := f.accept(second, other)
	f.equal("receipts", receipts, []store.Receipt{
		{Event: first.Event.ID, Duplicate: true},
		{Event: other.Event.ID},
	})
	_, err := f.store.Event(f.ctx(), second.Event.ID)
	f.kind(err, waypost.KindNotFound)
	f.backlog(f.endpoints[0], 1)
	f.equal("duplicates", f.stored(first.Event.ID).Duplicates, 1)
	f.equal("duplicates of the other", f.stored(other.Event.ID).Duplicates, 0)
}

func acceptRepeatInBatch(f *fixture) {
	key := dedupeKey(100, "once")
	batch := []store.Arrival{f.arrival(), f.arrival(owing(f.endpoints[0])...), f.arrival(owing(f.endpoints[0])...), f.arrival()}
	for i := range batch[1:] {
		batch[i+1].DedupeKey = key
	}
	first := batch[1].Event.ID
	f.equal("receipts", f.accept(batch...), []store.Receipt{
		{Event: batch[0].Event.ID}, {Event: first}, {Event: first, Duplicate: true}, {Event: first, Duplicate: true},
	})
	f.equal("duplicates", f.stored(first).Duplicates, 2)
	f.backlog(f.endpoints[0], 1)
}

func acceptConcurrentRepeats(f *fixture) {
	const workers, keys = 6, 20
	batches := make([][]store.Arrival, workers)
	receipts := make([][]store.Receipt, workers)
	var group sync.WaitGroup
	for w := range workers {
		for k := range keys {
			arrival := f.arrival(owing(f.endpoints[0])...)
			arrival.DedupeKey = dedupeKey(1, fmt.Sprint((k+w*7)%keys)) // each worker in another order
			batches[w] = append(batches[w], arrival)
		}
		group.Go(func() {
			var err error
			if receipts[w], err = f.store.Accept(f.ctx(), f.node, batches[w]); err != nil {
				f.tb.Error(err)
			}
		})
	}
	group.Wait()
	if f.tb.Failed() {
		return
	}
	stored := map[string]waypost.EventID{}
	for w := range workers {
		for i, receipt := range receipts[w] {
			key := string(batches[w][i].DedupeKey)
			if !receipt.Duplicate && stored[key] != 0 {
				f.tb.Fatalf("stored twice: %s and %s", stored[key], receipt.Event)
			}
			if !receipt.Duplicate {
				stored[key] = receipt.Event
			}
		}
	}
	for w := range workers {
		for i, receipt := range receipts[w] {
			f.equal("the first event", receipt.Event, stored[string(batches[w][i].DedupeKey)])
		}
	}
	for _, event := range stored {
		f.equal("duplicates", f.stored(event).Duplicates, workers-1)
	}
	f.backlog(f.endpoints[0], keys)
}

func acceptAtomic(f *fixture) {
	known := f.accepted()
	good, bad := f.arrival(owing(f.endpoints[0])...), f.arrival()
	good.DedupeKey = dedupeKey(5, "good")
	bad.Event.ID = known // can't be stored again
	if _, err := f.store.Accept(f.ctx(), f.node, []store.Arrival{good, bad}); err == nil {
		f.tb.Fatal("an id was stored twice")
	}
	_, err := f.store.Event(f.ctx(), good.Event.ID)
	f.kind(err, waypost.KindNotFound)
	f.backlog(f.endpoints[0], 0)
	// Nothing is left of the first try, the dedupe key least of all.
	f.equal("receipts", f.accept(good), []store.Receipt{{Event: good.Event.ID}})
}

func acceptOwedTwice(f *fixture) {
	event := f.accepted(append(inHand(f.endpoints[0]), owing(f.endpoints[0])...)...)
	f.backlog(f.endpoints[0], 1)
	if lost := f.settle(f.delivered(waypost.DeliveryID{Event: event, Endpoint: f.endpoints[0]}, 1)).Lost; len(lost) > 0 {
		f.tb.Fatal("the first mention counts, and that one was in hand")
	}
}

func acceptReopen(f *fixture) {
	arrival := f.arrival(append(inHand(f.endpoints[0]), owing(f.endpoints[1])...)...)
	arrival.DedupeKey = dedupeKey(9, "kept")
	f.accept(arrival)
	revision, err := f.store.Revision(f.ctx())
	f.must(err)
	f.must(f.store.Leave(f.ctx(), f.node, time.Now()))
	f.must(f.store.Close())

	f.store = f.open(f.tb)
	next, _, floor, err := f.store.Join(f.ctx(), time.Hour, time.Now())
	f.must(err)
	if next == f.node {
		f.tb.Fatal("a node id was used again")
	}
	f.node = next
	f.equal("floor", waypost.EventID(floor), arrival.Event.ID)
	f.equal("event", f.stored(arrival.Event.ID).Event, arrival.Event)
	for _, endpoint := range f.endpoints[:2] {
		taken := f.take(f.node, endpoint, 10)
		if len(taken) != 1 {
			f.tb.Fatalf("%d deliveries are due, want 1", len(taken))
		}
		f.equal("taken event", *taken[0].Event, arrival.Event)
	}
	again := f.arrival()
	again.DedupeKey = arrival.DedupeKey
	f.equal("receipt", f.accept(again)[0], store.Receipt{Event: arrival.Event.ID, Duplicate: true})
	got, err := f.store.Revision(f.ctx())
	f.must(err)
	f.equal("revision", got, revision)
}
