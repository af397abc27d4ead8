package sqlstore

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Reached is how far each clock of retention has come: every event up to and
// with that id has been dealt with, or is in the table spared because it was
// owed. It only goes forward, so nothing is looked through twice.
type Reached struct{ Bodies, Attempts, Events waypost.EventID }

// Reached reads how far the clocks have come.
func (s *Store) Reached(ctx context.Context) (Reached, error) {
	r, err := scanReached(s.read.QueryRowContext(ctx, selectReached))
	return r, s.Explain("read how far retention has come", err)
}

// Of gives one of them by its name.
func (r *Reached) Of(clock string) waypost.EventID {
	switch clock {
	case "bodies":
		return r.Bodies
	case "attempts":
		return r.Attempts
	default:
		return r.Events
	}
}

const selectReached = `SELECT bodies, attempts, events FROM retention WHERE id = 1`

func scanReached(row scanner) (r Reached, err error) {
	return r, row.Scan(&r.Bodies, &r.Attempts, &r.Events)
}

// column is a table's column of event ids.
type column struct{ table, name string }

var (
	eventIDs   = column{"events", "id"}
	ofAttempts = column{"attempts", "event_id"}
	ofExhaust  = column{"exhausted", "event_id"}
	ofRepeats  = column{"duplicates", "event_id"}
)

// clock is one kind of data that has an age.
type clock struct {
	name    string // its column in the table retention
	horizon func(*store.Horizons) waypost.EventID
	rows    column // what it goes through
	weight  int    // of a row, against the lightest
	all     bool   // takes what hangs on the events along
	locks   bool   // keeps the events from becoming owed meanwhile
	prune   func(*Store, context.Context, *sql.Tx, span, *store.Pruned) error
}

// Attempts come before events, so that little hangs on an event that goes.
var clocks = []clock{
	{
		name:    "attempts",
		horizon: func(h *store.Horizons) waypost.EventID { return h.Attempts },
		rows:    ofAttempts,
		weight:  1,
		prune:   (*Store).pruneAttempts,
	},
	{
		name:    "events",
		horizon: func(h *store.Horizons) waypost.EventID { return h.Events },
		rows:    eventIDs,
		weight:  2,
		all:     true,
		locks:   true,
		prune:   (*Store).pruneEvents,
	},
	{
		name:    "bodies",
		horizon: func(h *store.Horizons) waypost.EventID { return h.Bodies },
		rows:    eventIDs,
		weight:  4,
		locks:   true,
		prune:   (*Store).pruneBodies,
	},
}

// Prune implements store.Retention. Each call is one short transaction: the next
// piece of the first clock that is behind its horizon or, once none is, of the
// rest.
func (s *Store) Prune(ctx context.Context, h store.Horizons, limit int) (store.Pruned, error) {
	pruned, err := s.PruneClocks(ctx, h, limit)
	if err != nil || pruned.More {
		return pruned, err
	}
	return s.PruneRest(ctx, h, limit)
}

// PruneClocks forgets the next piece of the first clock that is behind its
// horizon.
func (s *Store) PruneClocks(ctx context.Context, h store.Horizons, limit int) (store.Pruned, error) {
	reached, err := s.Reached(ctx)
	if err != nil {
		return store.Pruned{}, err
	}
	for i := range clocks {
		if c := &clocks[i]; c.horizon(&h)-1 > reached.Of(c.name) {
			return s.pruneClock(ctx, c, &h, limit)
		}
	}
	return store.Pruned{}, nil
}

// span is a range of event ids, without after and with until.
type span struct{ after, until waypost.EventID }

func (s span) args() []any { return []any{int64(s.after), int64(s.until)} }

func (s *Store) pruneClock(ctx context.Context, c *clock, h *store.Horizons, limit int) (store.Pruned, error) {
	return s.pruning(ctx, "prune "+c.name, func(ctx context.Context, tx *sql.Tx, reached Reached, pruned *store.Pruned) error {
		step := span{reached.Of(c.name), c.horizon(h) - 1}
		if step.until <= step.after { // another node was faster
			return nil
		}
		share := limit / c.weight
		var err error
		if step.until, err = cut(ctx, tx, c.rows, step, share); err != nil {
			return err
		}
		if c.all {
			if step.until, err = cutHanging(ctx, tx, step, share); err != nil {
				return err
			}
		}
		if c.locks {
			if err := s.lockEvents(ctx, tx, step); err != nil {
				return err
			}
		}
		if err := Spare(ctx, tx, step.after, step.until); err != nil {
			return err
		}
		if err := c.prune(s, ctx, tx, step, pruned); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE retention SET `+c.name+` = $1 WHERE id = 1`, int64(step.until))
		return err
	})
}

// pruning runs one transaction of pruning. Where another node is at it, it does
// nothing and leaves the rest to that one.
func (s *Store) pruning(ctx context.Context, verb string, work func(context.Context, *sql.Tx, Reached, *store.Pruned) error) (store.Pruned, error) {
	var pruned store.Pruned
	err := s.Update(ctx, verb, func(ctx context.Context, tx *sql.Tx) error {
		pruned = store.Pruned{}
		reached, mine, err := s.LockRetention(ctx, tx)
		if err != nil || !mine {
			return err
		}
		pruned.More = true
		return work(ctx, tx, reached, &pruned)
	})
	if err != nil {
		return store.Pruned{}, err
	}
	return pruned, nil
}

// LockRetention makes the transaction the only one that prunes. It reports
// whether it could: another node may be at it.
func (s *Store) LockRetention(ctx context.Context, tx *sql.Tx) (reached Reached, mine bool, err error) {
	lock := s.flavor.ForUpdate
	if lock != "" {
		lock += " SKIP LOCKED"
	}
	reached, err = scanReached(tx.QueryRowContext(ctx, selectReached+lock))
	if errors.Is(err, sql.ErrNoRows) {
		return reached, false, nil
	}
	return reached, err == nil, err
}

// cut shortens a span so that at most limit rows of a table lie in it, unless the
// first event in it has more than that.
func cut(ctx context.Context, tx *sql.Tx, of column, within span, limit int) (waypost.EventID, error) {
	var next waypost.EventID // the first that is too much
	err := tx.QueryRowContext(ctx, `SELECT `+of.name+` FROM `+of.table+` WHERE `+of.name+` > $1 AND `+of.name+` <= $2
ORDER BY `+of.name+` LIMIT 1 OFFSET $3`, int64(within.after), int64(within.until), max(limit, 1)).Scan(&next)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return within.until, nil
	case err != nil:
		return 0, err
	case next-1 == within.after:
		return next, nil
	}
	return next - 1, nil
}

// cutHanging does so for all that hangs on events.
func cutHanging(ctx context.Context, tx *sql.Tx, within span, limit int) (waypost.EventID, error) {
	for _, of := range hanging {
		var err error
		if within.until, err = cut(ctx, tx, of, within, limit/len(hanging)); err != nil {
			return 0, err
		}
	}
	return within.until, nil
}

// lockEvents keeps Retry, Owe and Reroute away from the events of a span until
// the transaction ends. Statements after it see what those have committed.
func (s *Store) lockEvents(ctx context.Context, tx *sql.Tx, in span) error {
	if s.flavor.ForUpdate == "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, `SELECT 1 FROM events WHERE id > $1 AND id <= $2 ORDER BY id`+s.flavor.ForUpdate, in.args()...)
	return err
}

// Spare notes the events after one and up to another that are owed, so that they
// are looked at again when the clocks have passed them.
func Spare(ctx context.Context, tx *sql.Tx, after, until waypost.EventID) error {
	_, err := tx.ExecContext(ctx, `
INSERT INTO spared (event_id) SELECT DISTINCT event_id FROM deliveries WHERE event_id > $1 AND event_id <= $2
ON CONFLICT (event_id) DO NOTHING`, int64(after), int64(until))
	return err
}

// notOwed holds for rows in a span whose event is owed to nobody. The bounds are
// there once more so that no plan looks at what is owed of other events.
func notOwed(of column) string {
	return `NOT EXISTS (SELECT 1 FROM deliveries d
WHERE d.event_id = ` + of.table + `.` + of.name + ` AND d.event_id > $1 AND d.event_id <= $2)`
}

func deleteSpan(ctx context.Context, tx *sql.Tx, of column, in span, condition string) (int, error) {
	return affected(tx.ExecContext(ctx, `DELETE FROM `+of.table+
		` WHERE `+of.name+` > $1 AND `+of.name+` <= $2 AND `+condition, in.args()...))
}

func affected(result sql.Result, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// pruneAttempts forgets the attempts of settled deliveries.
func (*Store) pruneAttempts(ctx context.Context, tx *sql.Tx, in span, pruned *store.Pruned) error {
	n, err := deleteSpan(ctx, tx, ofAttempts, in, `NOT EXISTS (SELECT 1 FROM deliveries d
WHERE d.event_id = attempts.event_id AND d.endpoint_id = attempts.endpoint_id AND d.event_id > $1 AND d.event_id <= $2)`)
	pruned.Attempts += n
	return err
}

// pruneEvents forgets events that are owed to nobody, and all that hangs on them.
func (*Store) pruneEvents(ctx context.Context, tx *sql.Tx, in span, pruned *store.Pruned) error {
	attempts, _, err := DeleteHanging(ctx, tx, in.after, in.until)
	if err != nil {
		return err
	}
	pruned.Attempts += attempts
	n, err := deleteSpan(ctx, tx, eventIDs, in, notOwed(eventIDs))
	pruned.Events += n
	return err
}

// hanging is what hangs on events.
var hanging = []column{ofAttempts, ofExhaust, ofRepeats}

// DeleteHanging forgets what hangs on events after one and up to another that are
// owed to nobody. It counts the attempts, and all of it.
func DeleteHanging(ctx context.Context, tx *sql.Tx, after, until waypost.EventID) (attempts, all int, err error) {
	for _, of := range hanging {
		n, err := deleteSpan(ctx, tx, of, span{after, until}, notOwed(of))
		if err != nil {
			return 0, 0, err
		}
		if all += n; of == ofAttempts {
			attempts = n
		}
	}
	return attempts, all, nil
}

// PruneHanging does the same in one short transaction, as far as that goes. More
// tells that it found some.
func (s *Store) PruneHanging(ctx context.Context, after, until waypost.EventID, limit int) (store.Pruned, error) {
	for after < until {
		found := 0
		step := span{after, until}
		pruned, err := s.pruning(ctx, "prune what hangs on events", func(ctx context.Context, tx *sql.Tx, _ Reached, pruned *store.Pruned) error {
			step = span{after, until}
			var err error
			if step.until, err = cutHanging(ctx, tx, step, limit); err != nil {
				return err
			}
			pruned.Attempts, found, err = DeleteHanging(ctx, tx, step.after, step.until)
			return err
		})
		if err != nil || found > 0 || !pruned.More {
			return pruned, err
		}
		after = step.until
	}
	return store.Pruned{}, nil
}

// pruneBodies empties the bodies of events that are owed to nobody. A real body
// is never empty.
func (s *Store) pruneBodies(ctx context.Context, tx *sql.Tx, in span, pruned *store.Pruned) error {
	empty := s.flavor.EmptyBodies
	if empty == nil {
		empty = func(ctx context.Context, tx *sql.Tx, which string, args ...any) (sql.Result, error) {
			return tx.ExecContext(ctx, `UPDATE events SET body = '' WHERE `+which, args...)
		}
	}
	n, err := affected(empty(ctx, tx, `id > $1 AND id <= $2 AND length(body) > 0 AND `+notOwed(eventIDs), in.args()...))
	pruned.Bodies += n
	return err
}

// sweeps are how far PruneRest has come.
type sweeps struct {
	mu      sync.Mutex
	horizon store.Horizons
	spared  waypost.EventID // walked up to here
	key     []byte          // walked up to here
	done    struct{ spared, keys, audit bool }
}

// PruneRest forgets the next piece of what is not kept in order of its age: of
// what was spared, of the dedupe keys, of the audit trail. It walks through them
// once for each value of the horizons.
func (s *Store) PruneRest(ctx context.Context, h store.Horizons, limit int) (store.Pruned, error) {
	w := &s.sweeps
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.horizon != h {
		w.horizon, w.spared, w.key = h, 0, nil
		w.done = struct{ spared, keys, audit bool }{h == store.Horizons{}, h.Dedupe == 0, h.Audit == 0}
	}
	switch {
	case !w.done.spared:
		return s.sweepSpared(ctx, w, limit)
	case !w.done.keys:
		return s.sweepKeys(ctx, w, limit)
	case !w.done.audit:
		return s.sweepAudit(ctx, w, limit)
	}
	return store.Pruned{}, nil
}

// sparedStep is how many spared events are dealt with in one transaction; each
// takes statements of its own.
const sparedStep = 50

// sweepSpared deals with spared events that are owed no more.
func (s *Store) sweepSpared(ctx context.Context, w *sweeps, limit int) (store.Pruned, error) {
	walked, settled, err := s.settledSpared(ctx, w.spared, min(limit, sparedStep))
	if err != nil {
		return store.Pruned{}, s.Explain("find spared events", err)
	}
	if walked == w.spared {
		w.done.spared = true
		return store.Pruned{More: true}, nil
	}
	pruned := store.Pruned{More: true}
	if len(settled) > 0 {
		pruned, err = s.pruning(ctx, "prune spared events", func(ctx context.Context, tx *sql.Tx, reached Reached, pruned *store.Pruned) error {
			for _, event := range settled {
				if err := s.pruneSpared(ctx, tx, event, reached, pruned); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if pruned.More {
		w.spared = walked
	}
	return pruned, err
}

// settledSpared looks through some spared events after one. It tells up to which,
// and gives at most limit of them that are owed no more.
func (s *Store) settledSpared(ctx context.Context, after waypost.EventID, limit int) (walked waypost.EventID, settled []waypost.EventID, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT COALESCE(MAX(event_id), $1) FROM
	(SELECT event_id FROM spared WHERE event_id > $1 ORDER BY event_id LIMIT $2) step`, int64(after), walkStep).Scan(&walked)
	if err != nil || walked == after {
		return walked, nil, err
	}
	settled, err = collect(ctx, s.read, func(row scanner) (id waypost.EventID, err error) {
		return id, row.Scan(&id)
	}, `SELECT event_id FROM spared WHERE event_id > $1 AND event_id <= $2
AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = spared.event_id)
ORDER BY event_id LIMIT $3`, int64(after), int64(walked), limit)
	if len(settled) == limit {
		walked = settled[limit-1]
	}
	return walked, settled, err
}

// pruneSpared does to one event what the clocks would have done to it.
func (s *Store) pruneSpared(ctx context.Context, tx *sql.Tx, event waypost.EventID, reached Reached, pruned *store.Pruned) error {
	only := span{event - 1, event}
	if err := s.lockEvents(ctx, tx, only); err != nil {
		return err
	}
	var owed bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM deliveries WHERE event_id = $1)`, int64(event)).Scan(&owed)
	if err != nil || owed {
		return err
	}
	for i := range clocks {
		if c := &clocks[i]; event <= reached.Of(c.name) {
			if err := c.prune(s, ctx, tx, only, pruned); err != nil {
				return err
			}
		}
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM spared WHERE event_id = $1`, int64(event))
	return err
}

// sweepKeys forgets dedupe keys. They are in the order of the time that the items
// tell, which is hardly after they were noted: the walk ends where that time is
// past the horizon. Repeats counted for an event that is gone go with its key.
func (s *Store) sweepKeys(ctx context.Context, w *sweeps, limit int) (store.Pruned, error) {
	horizon := w.horizon.Dedupe
	end := binary.BigEndian.AppendUint32(nil, uint32(horizon.Time().Unix()+1))
	var last []byte
	err := s.read.QueryRowContext(ctx, `SELECT key FROM
	(SELECT key FROM dedupe WHERE key > $1 AND key < $2 ORDER BY key LIMIT $3) step
ORDER BY key DESC LIMIT 1`, Bytes(w.key), end, limit).Scan(&last)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		w.done.keys = true
		return store.Pruned{More: true}, nil
	case err != nil:
		return store.Pruned{}, s.Explain("find old dedupe keys", err)
	}
	pruned, err := s.pruning(ctx, "prune dedupe keys", func(ctx context.Context, tx *sql.Tx, reached Reached, pruned *store.Pruned) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM duplicates WHERE event_id <= $4 AND event_id IN
	(SELECT event_id FROM dedupe WHERE key > $1 AND key <= $2 AND event_id < $3)`,
			Bytes(w.key), last, int64(horizon), int64(reached.Events))
		if err != nil {
			return err
		}
		pruned.Keys, err = affected(tx.ExecContext(ctx,
			`DELETE FROM dedupe WHERE key > $1 AND key <= $2 AND event_id < $3`, Bytes(w.key), last, int64(horizon)))
		return err
	})
	if pruned.More {
		w.key = last
	}
	return pruned, err
}

func (s *Store) sweepAudit(ctx context.Context, w *sweeps, limit int) (store.Pruned, error) {
	pruned, err := s.pruning(ctx, "prune audit entries", func(ctx context.Context, tx *sql.Tx, _ Reached, pruned *store.Pruned) error {
		var err error
		pruned.Audit, err = affected(tx.ExecContext(ctx,
			`DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < $1 ORDER BY id LIMIT $2)`, int64(w.horizon.Audit), limit))
		return err
	})
	w.done.audit = err == nil && pruned.More && pruned.Audit < limit
	return pruned, err
}
