package ingest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// fakeStore holds each Accept until released, so that a test decides what
// gathers meanwhile.
type fakeStore struct {
	mu      sync.Mutex
	batches [][]store.Arrival
	entered chan struct{}
	release chan error
	known   map[string]waypost.EventID
}

func newFakeStore() *fakeStore {
	return &fakeStore{entered: make(chan struct{}, 100), release: make(chan error), known: map[string]waypost.EventID{}}
}

func (f *fakeStore) Accept(ctx context.Context, _ waypost.NodeID, batch []store.Arrival) ([]store.Receipt, error) {
	f.entered <- struct{}{}
	select {
	case err := <-f.release:
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batches = append(f.batches, slices.Clone(batch))
	receipts := make([]store.Receipt, len(batch))
	for i, arrival := range batch {
		first, dup := f.known[string(arrival.DedupeKey)]
		if !dup {
			first = arrival.Event.ID
			f.known[string(arrival.DedupeKey)] = first
		}
		receipts[i] = store.Receipt{Event: first, Duplicate: dup}
	}
	return receipts, nil
}

type fakeEngine struct {
	mu       sync.Mutex
	room     int
	reserved int
	started  []store.Owed
	woken    []waypost.EndpointID
}

func (e *fakeEngine) Reserve(waypost.EndpointID) store.Place {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reserved == e.room {
		return store.InTable
	}
	e.reserved++
	return store.InHand
}

func (e *fakeEngine) Unreserve(waypost.EndpointID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reserved--
}

func (e *fakeEngine) Start(owed []store.Owed) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.started = append(e.started, owed...)
}

func (e *fakeEngine) Wake(endpoint waypost.EndpointID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.woken = append(e.woken, endpoint)
}

type fakeNode struct{ ids *waypost.IDs }

func (n fakeNode) ID() waypost.NodeID { return 7 }
func (n fakeNode) NextID() int64      { return n.ids.Next() }

type committerBench struct {
	store     *fakeStore
	engine    *fakeEngine
	committer *Committer
	stop      func()
}

func startCommitter(t *testing.T, room int) committerBench {
	t.Helper()
	ids, err := waypost.NewIDs(0, 0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	b := committerBench{store: newFakeStore(), engine: &fakeEngine{room: room}}
	b.committer = NewCommitter(b.store, b.engine, fakeNode{ids})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.committer.Run(ctx)
	}()
	b.stop = func() { cancel(); <-ended }
	t.Cleanup(b.stop)
	return b
}

func arrival(key string, endpoints ...waypost.EndpointID) store.Arrival {
	a := store.Arrival{DedupeKey: []byte(key), Event: waypost.Event{Body: []byte(key)}}
	for _, endpoint := range endpoints {
		a.Owed = append(a.Owed, store.Owing{Endpoint: endpoint})
	}
	return a
}

type outcome struct {
	receipts []store.Receipt
	err      error
}

func (b committerBench) submit(t *testing.T, arrivals ...store.Arrival) <-chan outcome {
	t.Helper()
	done := make(chan outcome, 1)
	go func() {
		receipts, err := b.committer.Commit(context.WithoutCancel(t.Context()), arrivals)
		done <- outcome{receipts, err}
	}()
	return done
}

func TestConcurrentRequestsShareOneCommit(t *testing.T) {
	t.Parallel()
	b := startCommitter(t, 100)
	first := b.submit(t, arrival("a", 1))
	<-b.store.entered // the first batch is being committed; the rest gathers
	second, third := b.submit(t, arrival("b", 1), arrival("c", 2)), b.submit(t, arrival("d", 1))
	waitFor(t, func() bool { return b.committer.queue.len() == 2 })
	b.store.release <- nil
	<-b.store.entered
	b.store.release <- nil

	for _, done := range []<-chan outcome{first, second, third} {
		if got := <-done; got.err != nil {
			t.Fatal(got.err)
		}
	}
	if len(b.store.batches) != 2 || len(b.store.batches[1]) != 3 {
		t.Fatalf("committed in batches of %v, want one event and then three", b.store.batches)
	}
	var last waypost.EventID
	for _, batch := range b.store.batches {
		for _, a := range batch {
			if a.Event.ID <= last {
				t.Errorf("event id %d committed after %d", a.Event.ID, last)
			}
			last = a.Event.ID
			if a.Owed[0].Place != store.InHand {
				t.Error("a delivery with room in memory was not marked as in hand")
			}
		}
	}
	waitFor(t, func() bool { b.engine.mu.Lock(); defer b.engine.mu.Unlock(); return len(b.engine.started) == 4 })
}

func TestNothingIsAnsweredBeforeTheCommit(t *testing.T) {
	t.Parallel()
	b := startCommitter(t, 100)
	done := b.submit(t, arrival("a", 1))
	<-b.store.entered
	select {
	case got := <-done:
		t.Fatalf("answered %v while the commit was still under way", got)
	default:
	}
	if len(b.engine.started) != 0 {
		t.Fatal("a delivery was started before its event was committed")
	}
	b.store.release <- nil
	if got := <-done; got.err != nil || got.receipts[0].Duplicate {
		t.Fatalf("got %+v", got)
	}
}

func TestFailedCommitStoresNothingAndSaysUnavailable(t *testing.T) {
	t.Parallel()
	b := startCommitter(t, 100)
	done := b.submit(t, arrival("a", 1, 2))
	<-b.store.entered
	b.store.release <- errors.New("disk full")
	if got := <-done; waypost.KindOf(got.err) != waypost.KindUnavailable {
		t.Fatalf("error %v, want KindUnavailable", got.err)
	}
	waitFor(t, func() bool { b.engine.mu.Lock(); defer b.engine.mu.Unlock(); return b.engine.reserved == 0 })
	if len(b.engine.started) != 0 {
		t.Error("started a delivery of an event that was not stored")
	}
	if strain := b.committer.Strain(); strain != 0 {
		t.Errorf("what failed counts as a commit: strain %.1f", strain)
	}
}

func TestDuplicatesAndFullMemory(t *testing.T) {
	t.Parallel()
	b := startCommitter(t, 2)
	waiting := arrival("c", 3)
	waiting.Owed[0].After = 1
	done := b.submit(t, arrival("a", 1), arrival("a", 1), arrival("b", 2), waiting)
	<-b.store.entered
	b.store.release <- nil
	got := <-done
	if got.err != nil || !got.receipts[1].Duplicate || got.receipts[1].Event != got.receipts[0].Event {
		t.Fatalf("got %+v, want the second to be a duplicate of the first", got)
	}
	waitFor(t, func() bool { b.engine.mu.Lock(); defer b.engine.mu.Unlock(); return len(b.engine.woken) == 1 })
	if len(b.engine.started) != 1 || b.engine.reserved != 1 {
		t.Errorf("started %d with %d reserved, want the one delivery that is new and fits", len(b.engine.started), b.engine.reserved)
	}
	if b.engine.woken[0] != 2 {
		t.Errorf("woke endpoint %d, want 2, whose delivery did not fit", b.engine.woken[0])
	}
}

func TestCommitterFinishesItsQueueAndThenRefuses(t *testing.T) {
	t.Parallel()
	b := startCommitter(t, 100)
	first := b.submit(t, arrival("a", 1))
	<-b.store.entered
	second := b.submit(t, arrival("b", 1))
	waitFor(t, func() bool { return b.committer.queue.len() == 1 })
	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	b.store.release <- nil
	b.store.release <- nil
	for _, done := range []<-chan outcome{first, second} {
		if got := <-done; got.err != nil {
			t.Fatal(got.err)
		}
	}
	<-stopped
	if _, err := b.committer.Commit(t.Context(), []store.Arrival{arrival("c")}); waypost.KindOf(err) != waypost.KindUnavailable {
		t.Fatalf("a closed committer answered %v", err)
	}
}

// waitFor polls until the condition holds.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("waited 10 s in vain")
		}
	}
}

// crowdBench is a committer in a bubble. submit has so many requests come in; commit
// has the next commit succeed, and tells how many events were in it and how long it
// had been waited for since the one before.
func crowdBench(t *testing.T) (submit func(requests int), commit func() (events int, waited time.Duration)) {
	t.Helper()
	b := startCommitter(t, 0)
	submit = func(requests int) {
		for range requests {
			b.submit(t, arrival(""))
		}
		synctest.Wait()
	}
	before := time.Now()
	commit = func() (int, time.Duration) {
		<-b.store.entered
		waited := time.Since(before)
		b.store.release <- nil
		synctest.Wait()
		before = time.Now()
		b.store.mu.Lock()
		defer b.store.mu.Unlock()
		return len(b.store.batches[len(b.store.batches)-1]), waited
	}
	return submit, commit
}

// committed checks the next commit.
func committed(t *testing.T, commit func() (int, time.Duration), wantEvents int, wantWaited time.Duration) {
	t.Helper()
	if events, waited := commit(); events != wantEvents || waited != wantWaited {
		t.Errorf("committed %d after %v, want %d after %v", events, waited, wantEvents, wantWaited)
	}
}

func TestACrowdIsWaitedForUntilItIsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		submit, commit := crowdBench(t)
		submit(1)
		submit(crowd - 1) // while the first is being committed
		committed(t, commit, 1, 0)

		<-time.After(comeBack)
		submit(1) // the first comes again: all that are known are there
		committed(t, commit, crowd, comeBack)

		const step = comeBack / 2
		submit(1)
		for range crowd - 1 { // they come back one by one
			<-time.After(step)
			submit(1)
		}
		committed(t, commit, crowd, (crowd-1)*step)

		submit(crowd - 1) // one is gone: it is waited for once
		committed(t, commit, crowd-1, lingerFor(crowd))
		submit(1) // and too few are left for a crowd
		committed(t, commit, 1, 0)
	})
}

func TestACrowdThatTricklesIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		submit, commit := crowdBench(t)
		const known = 2*crowd - 1
		step := lingerFor(known) * 2 / known
		submit(1)
		submit(known)
		commit() // of the first
		commit() // of the others
		for range known {
			submit(1)
			<-time.After(step)
		}
		const inTime = (known + 1) / 2
		if events, _ := commit(); events != inTime {
			t.Errorf("committed %d, want the %d that came in time", events, inTime)
		}
	})
}

func TestACrowdThatHasGoneIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		submit, commit := crowdBench(t)
		const known = int(2 * maxLinger / comeBack)
		for _, idle := range []time.Duration{0, maxLinger, time.Hour} {
			submit(1)
			submit(known)
			commit() // of the first
			commit() // of the others
			<-time.After(idle)
			submit(1)
			committed(t, commit, 1, max(idle, maxLinger))
		}
	})
}

func TestFewAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		submit, commit := crowdBench(t)
		submit(1)
		submit(crowd - 2) // while the first is being committed
		for _, want := range []int{1, crowd - 2} {
			if events, waited := commit(); events != want || waited != 0 {
				t.Errorf("committed %d after %v, want %d at once", events, waited, want)
			}
		}
	})
}
