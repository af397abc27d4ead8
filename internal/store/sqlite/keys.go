package sqlite

import (
	"context"
	"maps"
	"slices"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// New dedupe keys are appended to the table dedupe_recent, all on one page, and
// from time to time moved to the table dedupe, in its order. One by one they
// would each dirty a page of that: in their place within a second they are
// random. What is not moved yet is known from memory.
const (
	moveKeys  = 2048    // so many are moved at once, which takes about 4 milliseconds
	knownKeys = 1 << 16 // so many are held in memory, a few megabytes
	loadKeys  = 1 << 10 // so many are known to begin with
)

// keys knows what need not be looked up. It belongs to the one writer there is,
// so it is never behind the tables.
type keys struct {
	moveAt, most, load int // moveKeys, knownKeys and loadKeys

	known  map[string]waypost.EventID // the first event of each key, the running transaction's included
	edge   string                     // all stored keys from here on are known
	recent int                        // rows in dedupe_recent, all of them known

	// What the running transaction will have done once it is committed.
	fresh  []string // the keys it claimed, known already
	moved  bool
	loaded []keyOf // the last keys there are; nil if they were not asked for
	all    bool    // and there are no others
}

type keyOf struct {
	key   string
	event waypost.EventID
}

// claim makes event the first with a key that was not known.
func (k *keys) claim(key string, event waypost.EventID) {
	k.known[key] = event
	k.fresh = append(k.fresh, key)
}

// end ends a transaction.
func (k *keys) end(committed bool) {
	if committed {
		k.recent += len(k.fresh)
		if k.moved {
			k.recent = 0
		}
		switch {
		case k.loaded != nil:
			k.reset()
		case k.moved && len(k.known) > k.most:
			k.forget()
		}
	} else {
		for _, key := range k.fresh {
			delete(k.known, key)
		}
	}
	k.fresh, k.moved, k.loaded = k.fresh[:0], false, nil
}

// reset knows what was loaded, and nothing else.
func (k *keys) reset() {
	k.known, k.edge = make(map[string]waypost.EventID, len(k.loaded)), ""
	for _, l := range k.loaded {
		k.known[l.key] = l.event
	}
	if !k.all {
		k.edge = k.loaded[len(k.loaded)-1].key
	}
}

// forget keeps about the upper half of what is known. Nothing of it is in
// dedupe_recent.
func (k *keys) forget() {
	var sample []string // in no order, which is how a map gives them
	for key := range k.known {
		if sample = append(sample, key); len(sample) == 100 {
			break
		}
	}
	slices.Sort(sample)
	k.edge = max(k.edge, sample[len(sample)/2])
	maps.DeleteFunc(k.known, func(key string, _ waypost.EventID) bool { return key < k.edge })
}

// claimKeys tells of each arrival whether its key is new, and stores those that
// are.
func (w *writer) claimKeys(batch []store.Arrival) ([]store.Receipt, error) {
	receipts := make([]store.Receipt, len(batch))
	values := w.dedupe.rows(len(batch))
	for i := range batch {
		event, key := batch[i].Event.ID, batch[i].DedupeKey
		receipts[i].Event = event
		if len(key) == 0 {
			continue
		}
		first, known, err := w.firstEvent(key)
		if err != nil {
			return nil, err
		}
		if known {
			receipts[i] = store.Receipt{Event: first, Duplicate: true}
			continue
		}
		w.keys.claim(string(key), event)
		values = append(values, key, int64(event))
	}
	if err := w.dedupe.exec(values); err != nil {
		return nil, err
	}
	if w.keys.recent+len(w.keys.fresh) < w.keys.moveAt {
		return receipts, nil
	}
	return receipts, w.moveKeys()
}

// firstEvent is the one a key was stored with.
func (w *writer) firstEvent(key []byte) (first waypost.EventID, known bool, err error) {
	if first, known = w.keys.known[string(key)]; known || string(key) >= w.keys.edge {
		return first, known, nil
	}
	err = w.firstSeen.query(func(r row) error {
		known = true
		return r.Scan(&first)
	}, key)
	return first, known, err
}

func (w *writer) moveKeys() error {
	for _, statement := range []*statement{w.sortKeys, w.emptyKeys} {
		if _, err := statement.exec(); err != nil {
			return err
		}
	}
	w.keys.moved = true
	return nil
}

// loadKeys reads the last keys of the table dedupe. There are some with a time far
// ahead now and then; but for those, what comes next is past the last.
func (w *writer) loadKeys() error {
	loaded := []keyOf{}
	err := w.lastKeys.query(func(r row) error {
		var key []byte
		var event waypost.EventID
		err := r.Scan(&key, &event)
		loaded = append(loaded, keyOf{string(key), event})
		return err
	}, int64(w.keys.load))
	w.keys.loaded, w.keys.all = loaded, len(loaded) < w.keys.load
	return err
}

// Prune implements store.Retention. Old keys are looked for in the table dedupe,
// so that is where they all must be; and what is forgotten must not be known.
func (s *Store) Prune(ctx context.Context, h store.Horizons, limit int) (store.Pruned, error) {
	pruned, err := s.PruneClocks(ctx, h, limit)
	if err != nil || pruned.More {
		return pruned, err
	}
	if err := s.transact(ctx, soon, (*writer).moveKeys); err != nil {
		return store.Pruned{}, s.Explain("move dedupe keys", err)
	}
	pruned, err = s.PruneRest(ctx, h, limit)
	if err != nil || pruned.Keys == 0 {
		return pruned, err
	}
	return pruned, s.Explain("read dedupe keys", s.transact(ctx, soon, (*writer).loadKeys))
}
