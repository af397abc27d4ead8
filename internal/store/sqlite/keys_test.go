package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// keyRun is a store whose memory for keys is so small that each batch may move and
// forget some, and what it must know.
type keyRun struct {
	*testing.T
	rand  *rand.Rand
	dir   string
	store *Store
	node  waypost.NodeID
	event waypost.EventID
	first map[string]waypost.EventID
}

func (r *keyRun) open() {
	r.Helper()
	var err error
	if r.store, err = Open(r.Context(), Options{Dir: r.dir, Sealer: storetest.Sealer()}); err != nil {
		r.Fatal(err)
	}
	keys := &r.store.writer.keys
	keys.moveAt, keys.most, keys.load = 4, 12, 3
	if err := r.store.transact(r.Context(), atOnce, (*writer).loadKeys); err != nil {
		r.Fatal(err)
	}
	if r.node, _, _, err = r.store.Join(r.Context(), time.Hour, time.Now()); err != nil {
		r.Fatal(err)
	}
}

func (r *keyRun) close() {
	r.Helper()
	if err := r.store.Close(); err != nil {
		r.Fatal(err)
	}
}

// crash goes on with the files as they are on disk. The log comes first: what is
// copied into the database meanwhile is in both.
func (r *keyRun) crash() {
	r.Helper()
	left := r.TempDir()
	for _, name := range []string{fileName + "-wal", fileName} {
		content, err := os.ReadFile(filepath.Join(r.dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(left, name), content, 0o600)
		}
		if err != nil {
			r.Fatal(err)
		}
	}
	r.close()
	r.dir = left
	r.open()
}

// arrival has one of few keys, so that most come again. Some have a time far ahead,
// or none.
func (r *keyRun) arrival() store.Arrival {
	r.event++
	second := uint32(50 + int(r.event)/40 + r.rand.IntN(3))
	switch r.rand.IntN(10) {
	case 0:
		second = 0
	case 1:
		second = math.MaxUint32
	}
	key := append(binary.BigEndian.AppendUint32(nil, second), byte(r.rand.IntN(16)))
	return store.Arrival{Event: waypost.Event{ID: r.event}, DedupeKey: key}
}

func (r *keyRun) accept() {
	r.Helper()
	var batch []store.Arrival
	var want []store.Receipt
	for range 1 + r.rand.IntN(6) {
		arrival := r.arrival()
		key, event := string(arrival.DedupeKey), arrival.Event.ID
		first, again := r.first[key]
		if !again {
			first = event
			r.first[key] = event
		}
		batch, want = append(batch, arrival), append(want, store.Receipt{Event: first, Duplicate: again})
	}
	got, err := r.store.Accept(r.Context(), r.node, batch)
	if err != nil {
		r.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.Fatalf("receipts (-want +got):\n%s", diff)
	}
}

// fail has a batch undone that claims keys.
func (r *keyRun) fail() {
	r.Helper()
	clash := store.Arrival{Event: waypost.Event{ID: r.first[""]}}
	batch := []store.Arrival{r.arrival(), r.arrival(), r.arrival(), clash}
	if _, err := r.store.Accept(r.Context(), r.node, batch); waypost.KindOf(err) != waypost.KindConflict {
		r.Fatalf("error is %v, want a conflict", err)
	}
}

// prune forgets the keys of the older half of the events.
func (r *keyRun) prune() {
	r.Helper()
	horizon := r.event / 2
	for more := true; more; {
		pruned, err := r.store.Prune(r.Context(), store.Horizons{Dedupe: horizon}, 5)
		if err != nil {
			r.Fatal(err)
		}
		more = pruned.More
	}
	for key, event := range r.first {
		if event < horizon && key != "" && key < "\xff" { // those with a time far ahead are kept
			delete(r.first, key)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := &keyRun{T: t, rand: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir(), first: map[string]waypost.EventID{}}
			r.open()
			defer func() { r.close() }()
			r.event++
			r.first[""] = r.event // of no key, but stored
			if _, err := r.store.Accept(t.Context(), r.node, []store.Arrival{{Event: waypost.Event{ID: r.event}}}); err != nil {
				t.Fatal(err)
			}
			for range 100 {
				switch r.rand.IntN(20) {
				case 0:
					r.close()
					r.open()
				case 1:
					r.crash()
				case 2:
					r.prune()
				case 3:
					r.fail()
				default:
					r.accept()
				}
			}
		})
	}
}

// TestCommitsAreOnDisk looks at what the writer is left with: whatever was done
// last, other transactions must be on disk when they return.
func TestCommitsAreOnDisk(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{Dir: t.TempDir(), Sealer: storetest.Sealer()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	failure := errors.New("made up")
	for _, when := range []durability{atOnce, soon} {
		for _, want := range []error{nil, failure} {
			if err := s.transact(t.Context(), when, func(*writer) error { return want }); !errors.Is(err, want) {
				t.Fatalf("error is %v, want %v", err, want)
			}
			var level int
			if err := s.write.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&level); err != nil {
				t.Fatal(err)
			}
			if level != 2 {
				t.Errorf("after a transaction with durability %d that ended with %v, synchronous is %d, want 2", when, want, level)
			}
		}
	}
}
