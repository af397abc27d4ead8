package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Events and attempts are partitioned by event id, one partition a day (UTC).
// What falls outside of all of them goes to a default partition, so that nothing
// depends on Prepare. A partition that is wholly behind a clock is forgotten
// whole, which gives its room back to the file system; where that can't be done,
// and in the partition that is still written to, rows are forgotten one by one.
//
// Whatever changes the partitions holds their parent for a few milliseconds, and
// all that is accepted waits for that long. Nothing waits much longer than
// lockWait for a transaction that keeps us from getting there.

const (
	// daysAhead is how many days have their partitions before they begin.
	daysAhead = 3
	// lockWait is how long a lock is waited for. It is shorter than it takes the
	// server to look for deadlocks.
	lockWait = 100 * time.Millisecond
	// lockTries is how often, with a pause between.
	lockTries = 4
	// maxSpared is how many rows are saved from a partition that is forgotten.
	maxSpared = 1000
	// maxCopied is how many bodies are copied at most when all others are forgotten.
	maxCopied = 50_000
	// prepareLock is the advisory lock of who makes partitions.
	prepareLock = 0x77617970 // "wayp"
)

// partitioned is a table of partitions. Its key is the column of event ids.
type partitioned struct{ name, key string }

var (
	eventsTable   = partitioned{"events", "id"}
	attemptsTable = partitioned{"attempts", "event_id"}
)

// partition holds the event ids from and with from, without to.
type partition struct {
	table    partitioned
	name     string
	bounds   string // as SQL
	from, to waypost.EventID
	rows     int // as far as the server knows
}

// closed reports whether it is written to no more.
func (p *partition) closed(now time.Time) bool { return p.to <= waypost.FirstEventID(now) }

func (p *partition) has(id waypost.EventID) bool { return p.from <= id && id < p.to }

var boundsForm = regexp.MustCompile(`^FOR VALUES FROM \((MINVALUE|'-?\d+')\) TO \('(\d+)'\)$`)

// partitions lists those of a table but for the default one, in order.
func (s *Store) partitions(ctx context.Context, table partitioned) ([]partition, error) {
	rows, err := s.db.QueryContext(ctx, `
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), GREATEST(c.reltuples, 0)::bigint
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = $1::regclass`, table.name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []partition
	for rows.Next() {
		p := partition{table: table}
		var text sql.NullString // nothing if it was dropped a moment ago
		if err := rows.Scan(&p.name, &text, &p.rows); err != nil {
			return nil, err
		}
		p.bounds = text.String
		bounds := boundsForm.FindStringSubmatch(p.bounds)
		if bounds == nil {
			continue // or it is the default partition
		}
		if bounds[1] != "MINVALUE" {
			if p.from, err = eventID(bounds[1][1 : len(bounds[1])-1]); err != nil {
				return nil, err
			}
		}
		if p.to, err = eventID(bounds[2]); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

func eventID(text string) (waypost.EventID, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	return waypost.EventID(id), err
}

// Prepare implements store.Retention.
func (s *Store) Prepare(ctx context.Context, now time.Time) error {
	for _, table := range []partitioned{eventsTable, attemptsTable} {
		have, err := s.partitions(ctx, table)
		if err != nil {
			return s.Explain("list partitions", err)
		}
		for day := range daysAhead + 1 {
			p := daily(table, now, day)
			if overlaps(have, p) {
				continue
			}
			if err := s.makePartition(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// daily is the partition of the day that is some days after now.
func daily(table partitioned, now time.Time, after int) partition {
	year, month, day := now.UTC().Date()
	begin := time.Date(year, month, day+after, 0, 0, 0, 0, time.UTC)
	p := partition{
		table: table,
		name:  table.name + begin.Format("_20060102"),
		from:  waypost.FirstEventID(begin),
		to:    waypost.FirstEventID(begin.AddDate(0, 0, 1)),
	}
	p.bounds = fmt.Sprintf("FOR VALUES FROM (%d) TO (%d)", p.from, p.to)
	return p
}

func overlaps(have []partition, p partition) bool {
	for _, other := range have {
		if other.from < p.to && p.from < other.to {
			return true
		}
	}
	return false
}

// makePartition makes it beside the table first, so that the table is held for
// attaching it only. Rows of that day which are in the default partition already
// leave the day to that one.
func (s *Store) makePartition(ctx context.Context, p partition) error {
	err := s.Update(ctx, "make partition "+p.name, func(ctx context.Context, tx *sql.Tx) error {
		var mine bool
		if err := tx.QueryRowContext(ctx, `SELECT pg_try_advisory_xact_lock($1)`, int64(prepareLock)).Scan(&mine); err != nil {
			return err
		}
		if !mine {
			return errAtIt
		}
		if err := patience(ctx, tx); err != nil {
			return err
		}
		for _, statement := range []string{
			`CREATE TABLE ` + p.name + ` (LIKE ` + p.table.name + ` INCLUDING ALL)`,
			`ALTER TABLE ` + p.table.name + ` ATTACH PARTITION ` + p.name + ` ` + p.bounds,
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case hasCode(err, checkViolation), hasCode(err, duplicateTable), errors.Is(err, errAtIt):
		return nil
	}
	return err
}

// errAtIt ends a transaction that another node is just making.
var errAtIt = errors.New("another node is at it")

// SQLSTATEs that say what to do.
const (
	checkViolation = "23514"
	duplicateTable = "42P07"
	undefinedTable = "42P01"
	lockTimeout    = "55P03"
)

func hasCode(err error, code string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == code
}

// patience bounds how long the transaction waits for locks.
func patience(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, fmt.Sprintf(`SET LOCAL lock_timeout TO '%dms'`, lockWait.Milliseconds()))
	return err
}

// Prune implements store.Retention. A partition that is wholly behind a clock's
// horizon is dealt with whole, one a call. One that has ended, but not yet behind
// the horizon, is left until it is: emptying it in part would give no room back.
func (s *Store) Prune(ctx context.Context, h store.Horizons, limit int) (store.Pruned, error) {
	reached, err := s.Reached(ctx)
	if err != nil {
		return store.Pruned{}, err
	}
	for _, c := range []struct {
		table   partitioned
		next    waypost.EventID
		horizon waypost.EventID
		rows    func(waypost.EventID) store.Horizons
		whole   func(context.Context, partition, int) (store.Pruned, error)
	}{
		{
			attemptsTable, reached.Attempts + 1, max(h.Attempts, h.Events), // an event goes when nothing hangs on it
			func(id waypost.EventID) store.Horizons { return store.Horizons{Attempts: id} }, s.forgetAttempts,
		},
		{
			eventsTable, reached.Events + 1, h.Events,
			func(id waypost.EventID) store.Horizons { return store.Horizons{Events: id} }, s.forgetEvents,
		},
		{
			eventsTable, reached.Bodies + 1, h.Bodies,
			func(id waypost.EventID) store.Horizons { return store.Horizons{Bodies: id} }, s.forgetBodies,
		},
	} {
		if c.horizon <= c.next {
			continue
		}
		partitions, err := s.partitions(ctx, c.table)
		if err != nil {
			return store.Pruned{}, s.Explain("list partitions", err)
		}
		at, end := locate(partitions, c.next)
		switch {
		case at == nil:
		case at.to <= c.horizon:
			pruned, err := c.whole(ctx, *at, limit)
			if !errors.Is(err, errByRow) {
				return pruned, err
			}
		case at.closed(s.Now()) && at.from != 0:
			continue
		}
		return s.PruneClocks(ctx, c.rows(min(c.horizon, end)), limit)
	}
	if pruned, err := s.PruneRest(ctx, h, limit); err != nil || pruned.More {
		return pruned, err
	}
	return s.forgetRest(ctx, reached, limit)
}

// forgetRest drops a partition that a clock has passed row by row, once little
// of it is owed any more.
func (s *Store) forgetRest(ctx context.Context, reached sqlstore.Reached, limit int) (store.Pruned, error) {
	for _, c := range []struct {
		table   partitioned
		reached waypost.EventID
		whole   func(context.Context, partition, int) (store.Pruned, error)
	}{
		{attemptsTable, reached.Attempts, s.forgetAttempts},
		{eventsTable, reached.Events, s.forgetEvents},
	} {
		partitions, err := s.partitions(ctx, c.table)
		if err != nil {
			return store.Pruned{}, s.Explain("list partitions", err)
		}
		for _, p := range partitions {
			if p.to-1 > c.reached {
				continue
			}
			if pruned, err := c.whole(ctx, p, limit); !errors.Is(err, errByRow) {
				return pruned, err
			}
		}
	}
	return store.Pruned{}, nil
}

// errByRow is told of a partition that must be dealt with row by row.
var errByRow = errors.New("too much of this partition is owed")

// locate gives the partition that an id belongs to and where it ends or, if there
// is none, where the next one begins.
func locate(partitions []partition, id waypost.EventID) (at *partition, end waypost.EventID) {
	end = math.MaxInt64
	for i := range partitions {
		switch p := &partitions[i]; {
		case p.has(id):
			return p, p.to
		case p.from > id:
			end = min(end, p.from)
		}
	}
	return nil, end
}

// whole runs a transaction in which a clock passes a whole partition, unless
// another node is pruning or was faster. A lock that can't be had in time ends it
// with nothing done: it is for the next round then.
func (s *Store) whole(ctx context.Context, clock string, p partition, work func(context.Context, *sql.Tx, sqlstore.Reached, *store.Pruned) error) (store.Pruned, error) {
	var pruned store.Pruned
	err := s.Update(ctx, "forget "+clock+" in "+p.name, func(ctx context.Context, tx *sql.Tx) error {
		pruned = store.Pruned{}
		if err := patience(ctx, tx); err != nil {
			return err
		}
		reached, mine, err := s.LockRetention(ctx, tx)
		if err != nil || !mine {
			return err
		}
		pruned.More = true
		if err := work(ctx, tx, reached, &pruned); err != nil {
			return err
		}
		if err := sqlstore.Spare(ctx, tx, p.from-1, p.to-1); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE retention SET `+clock+` = GREATEST(`+clock+`, $1) WHERE id = 1`, int64(p.to-1))
		return err
	})
	switch {
	case hasCode(err, lockTimeout), hasCode(err, undefinedTable), errors.Is(err, errAtIt):
		return store.Pruned{}, nil
	case err != nil:
		return store.Pruned{}, err
	}
	return pruned, nil
}

// hold locks a partition, its parent and the default partition against everything.
// Others queue behind a lock that is waited for, so it is given up and asked for
// again.
func hold(ctx context.Context, tx *sql.Tx, p *partition) error {
	lock := fmt.Sprintf(`LOCK TABLE ONLY %s, %s, %s_default IN ACCESS EXCLUSIVE MODE`, p.table.name, p.name, p.table.name)
	for try := 1; ; try++ {
		if _, err := tx.ExecContext(ctx, `SAVEPOINT hold`); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, lock)
		if try == lockTries || !hasCode(err, lockTimeout) {
			return err
		}
		if _, err := tx.ExecContext(ctx, `ROLLBACK TO SAVEPOINT hold`); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockWait):
		}
	}
}

// nestedLoops has joins begin with the few rows that are owed, rather than read a
// whole partition that is about to go.
const nestedLoops = `SET LOCAL enable_hashjoin TO off; SET LOCAL enable_mergejoin TO off; SET LOCAL enable_seqscan TO off`

// within says that a column of event ids is in the partition.
func (p *partition) within(column string) string {
	return fmt.Sprintf("%s >= %d AND %s < %d", column, p.from, column, p.to)
}

// forgetAttempts drops a partition of attempts. Those of deliveries that are owed
// are saved into the default partition.
func (s *Store) forgetAttempts(ctx context.Context, p partition, _ int) (store.Pruned, error) {
	return s.whole(ctx, "attempts", p, func(ctx context.Context, tx *sql.Tx, _ sqlstore.Reached, pruned *store.Pruned) error {
		saved := `FROM deliveries d JOIN ` + p.name + ` a ON a.event_id = d.event_id AND a.endpoint_id = d.endpoint_id
WHERE ` + p.within("d.event_id")
		count := `SELECT count(*) FROM (SELECT ` + saved + fmt.Sprintf(` LIMIT %d) saved`, maxSpared+1)
		n, err := s.drop(ctx, tx, p, count, `INSERT INTO attempts SELECT a.* `+saved)
		if err != nil {
			return err
		}
		pruned.Attempts, pruned.Partitions = max(p.rows-n, 0), 1
		return nil
	})
}

// forgetEvents drops a partition of events, once what hangs on them is gone.
// Events that are owed are saved into the default partition.
func (s *Store) forgetEvents(ctx context.Context, p partition, limit int) (store.Pruned, error) {
	if err := s.checkOwed(ctx, p, maxSpared); err != nil {
		return store.Pruned{}, err
	}
	pruned, err := s.PruneHanging(ctx, p.from-1, p.to-1, limit)
	if err != nil || pruned.More {
		return pruned, err
	}
	return s.whole(ctx, "events", p, func(ctx context.Context, tx *sql.Tx, _ sqlstore.Reached, pruned *store.Pruned) error {
		count := `SELECT count(*) FROM (` + p.owed(maxSpared+1) + `) saved`
		n, err := s.drop(ctx, tx, p, count, `INSERT INTO events SELECT e.*
FROM (SELECT DISTINCT event_id FROM deliveries WHERE `+p.within("event_id")+`) owed JOIN `+p.name+` e ON e.id = owed.event_id`)
		if err != nil {
			return err
		}
		if pruned.Attempts, _, err = sqlstore.DeleteHanging(ctx, tx, p.from-1, p.to-1); err != nil {
			return err
		}
		pruned.Events, pruned.Partitions = max(p.rows-n, 0), 1
		return nil
	})
}

// drop forgets a partition but for what save puts into the default one. count
// tells how many rows that are; if they are too many, nothing is done.
func (s *Store) drop(ctx context.Context, tx *sql.Tx, p partition, count, save string) (saved int, err error) {
	if _, err := tx.ExecContext(ctx, nestedLoops); err != nil {
		return 0, err
	}
	enough := func() error {
		err := tx.QueryRowContext(ctx, count).Scan(&saved)
		if err == nil && saved > maxSpared {
			return errByRow
		}
		return err
	}
	if err := enough(); err != nil {
		return 0, err
	}
	if err := hold(ctx, tx, &p); err != nil {
		return 0, err
	}
	if err := enough(); err != nil { // what was owed meanwhile is seen now
		return 0, err
	}
	return saved, run(ctx, tx,
		`ALTER TABLE `+p.table.name+` DETACH PARTITION `+p.name,
		save,
		`DROP TABLE `+p.name,
	)
}

// forgetBodies puts a copy in the place of a partition, with the bodies of events
// that are owed and no others. Meanwhile events can be read and become owed, but
// not be given an owner; one that becomes owed undoes the copy.
func (s *Store) forgetBodies(ctx context.Context, p partition, _ int) (store.Pruned, error) {
	if err := s.checkOwed(ctx, p, min(max(p.rows/2, maxSpared), maxCopied)); err != nil {
		return store.Pruned{}, err
	}
	replacement := p.name + "_bare"
	return s.whole(ctx, "bodies", p, func(ctx context.Context, tx *sql.Tx, reached sqlstore.Reached, pruned *store.Pruned) error {
		if reached.Bodies >= p.to-1 {
			return nil
		}
		err := run(ctx, tx,
			`LOCK TABLE `+p.name+` IN SHARE MODE`,
			`CREATE TABLE `+replacement+` (LIKE events INCLUDING ALL)`,
			// It spares attaching the copy a look at each row.
			`ALTER TABLE `+replacement+` ADD CONSTRAINT `+replacement+`_range CHECK (`+p.within("id")+`)`,
			`INSERT INTO `+replacement+` (`+sqlstore.EventColumns+`, body)
SELECT `+sqlstore.EventColumns+`, CASE WHEN EXISTS
	(SELECT 1 FROM deliveries d WHERE d.event_id = e.id AND `+p.within("d.event_id")+`) THEN body ELSE '' END
FROM `+p.name+` e ORDER BY id`,
		)
		if err != nil {
			return err
		}
		if err := hold(ctx, tx, &p); err != nil {
			return err
		}
		var owed bool
		err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM deliveries d JOIN `+replacement+` n ON n.id = d.event_id
WHERE `+p.within("d.event_id")+` AND length(n.body) = 0)`).Scan(&owed)
		if err != nil {
			return err
		}
		if owed {
			return errAtIt
		}
		err = run(ctx, tx,
			`ALTER TABLE events DETACH PARTITION `+p.name,
			`DROP TABLE `+p.name,
			`ALTER TABLE events ATTACH PARTITION `+replacement+` `+p.bounds,
			`ALTER TABLE `+replacement+` DROP CONSTRAINT `+replacement+`_range`,
			`ALTER TABLE `+replacement+` RENAME TO `+p.name,
		)
		if err != nil {
			return err
		}
		pruned.Bodies = p.rows
		return nil
	})
}

// owed selects events in the partition that are owed, up to a limit.
func (p *partition) owed(limit int) string {
	return `SELECT DISTINCT event_id FROM deliveries WHERE ` + p.within("event_id") + fmt.Sprintf(` LIMIT %d`, limit)
}

// checkOwed fails with errByRow if more events than so many are owed.
func (s *Store) checkOwed(ctx context.Context, p partition, most int) error {
	var n int
	err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM (`+p.owed(most+1)+`) owed`).Scan(&n)
	if err == nil && n > most {
		return errByRow
	}
	return s.Explain("count what is owed", err)
}

func run(ctx context.Context, tx *sql.Tx, statements ...string) error {
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
