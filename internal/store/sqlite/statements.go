package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
)

// statements are those of the hot path, prepared on the writing connection.
type statements struct {
	begin, commit, rollback *statement

	lease      *statement
	oldest     *statement
	newest     *statement
	firstSeen  *statement
	lastKeys   *statement
	sortKeys   *statement
	emptyKeys  *statement
	repeat     *statement
	seize      *statement
	putOff     *statement
	anyWaiting *statement
	release    *statement

	dedupe     *bulk
	events     *bulk
	owed       *bulk
	hand       *bulk
	settle     *bulk
	settleTold *bulk // and tells which, which is slower
	waiting    *bulk
	drop       *bulk
	attempts   *bulk
	exhaust    *bulk

	all []io.Closer
}

func prepare(conn driver.Conn) (statements, error) {
	p := preparer{conn: conn}
	st := statements{
		begin:    p.one(`BEGIN IMMEDIATE`),
		commit:   p.one(`COMMIT`),
		rollback: p.one(`ROLLBACK`),
		lease:    p.one(`SELECT 1 FROM nodes WHERE id = ? AND lease_until > ?`),

		dedupe:    p.bulk(`INSERT INTO dedupe_recent (key, event_id) VALUES `, `(?, ?)`, ``),
		firstSeen: p.one(`SELECT event_id FROM dedupe WHERE key = ?`),
		lastKeys:  p.one(`SELECT key, event_id FROM dedupe ORDER BY key DESC LIMIT ?`),
		sortKeys:  p.one(`INSERT OR IGNORE INTO dedupe (key, event_id) SELECT key, event_id FROM dedupe_recent ORDER BY key`),
		emptyKeys: p.one(`DELETE FROM dedupe_recent`),
		repeat:    p.one(`INSERT INTO duplicates (event_id, at) VALUES (?, ?)`),

		// OR FAIL spares the journal that would undo half a statement: whatever fails
		// here takes the whole transaction with it.
		events: p.bulk(`INSERT OR FAIL INTO events (`+sqlstore.EventColumns+`, body) VALUES `, `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, ``),
		owed: p.bulk(`INSERT OR FAIL INTO deliveries (event_id, endpoint_id, node_id, due, after_endpoint, attempts, step) VALUES `,
			`(?, ?, ?, ?, ?, 0, 0)`, ``),

		oldest: p.one(oldestQuery),
		newest: p.one(newestQuery),
		hand:   p.bulk(`UPDATE deliveries SET node_id = ? WHERE endpoint_id = ? AND event_id IN (`, `?`, `)`),

		// The pluses keep the planner from trying the partial indexes on each value of
		// node_id and after_endpoint: it would plan these statements anew at each run,
		// and might read through a long backlog of waiting deliveries at each flush.
		seize:  p.one(`UPDATE deliveries SET node_id = ? WHERE event_id = ? AND endpoint_id = ? AND +node_id = 0 AND attempts = ?`),
		settle: p.bulk(settleHead, `?`, `)`),
		settleTold: p.bulk(settleHead, `?`, `)
RETURNING event_id, endpoint_id, attempts`),
		// A due of 0 was set by Retry while the delivery was in hand: it is due now.
		putOff: p.one(`
UPDATE deliveries SET node_id = ?1, due = CASE WHEN due = 0 AND ?1 = 0 THEN ?2 ELSE ?3 END, step = ?4, attempts = MAX(attempts, ?5)
WHERE event_id = ?6 AND endpoint_id = ?7 AND +node_id = ?8`),
		attempts: p.bulk(`
INSERT OR FAIL INTO attempts (event_id, endpoint_id, n, at, duration, status, outcome, reason, detail) VALUES `,
			`(?, ?, ?, ?, ?, ?, ?, ?, ?)`, ` ON CONFLICT DO NOTHING`),
		exhaust: p.bulk(`INSERT INTO exhausted (endpoint_id, event_id, at, reason, attempts) VALUES `, `(?, ?, ?, ?, ?)`, `
ON CONFLICT DO UPDATE SET at = excluded.at, reason = excluded.reason, attempts = excluded.attempts`),
		anyWaiting: p.one(`SELECT 1 FROM deliveries INDEXED BY deliveries_waiting WHERE after_endpoint <> 0 LIMIT 1`),
		waiting: p.bulk(`
SELECT event_id, endpoint_id, after_endpoint, attempts FROM deliveries WHERE +after_endpoint <> 0 AND event_id IN (VALUES `, `(?)`, `)`),
		release: p.one(`UPDATE deliveries SET after_endpoint = 0, due = ? WHERE event_id = ? AND endpoint_id = ?`),
		drop:    p.bulk(`DELETE FROM deliveries WHERE (event_id, endpoint_id) IN (VALUES `, `(?, ?)`, `)`),
	}
	st.all = p.all
	if p.err != nil {
		return st, errors.Join(p.err, st.close())
	}
	return st, nil
}

func (st *statements) close() error {
	var errs []error
	for _, one := range st.all {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// settleHead is by endpoint, because a list of pairs would be gone through three
// times: to sort it, to find the rows, and to delete them.
const settleHead = `DELETE FROM deliveries WHERE +node_id = ? AND endpoint_id = ? AND event_id IN (`

// What is due is selected in the order of an index, so that a backlog is not
// sorted however long it is.
const (
	oldestQuery = selectOwed + ` FROM deliveries INDEXED BY deliveries_due` + whereDue + ` ORDER BY due, event_id LIMIT ?`
	newestQuery = selectOwed + ` FROM deliveries INDEXED BY deliveries_free` + whereDue + ` ORDER BY event_id DESC LIMIT ?`

	selectOwed = `SELECT ` + sqlstore.EventColumns + `, body, attempts, step`
	whereDue   = ` CROSS JOIN events ON events.id = deliveries.event_id
WHERE endpoint_id = ? AND node_id = 0 AND after_endpoint = 0 AND due <= ?`
)

// preparer prepares statements until the first error.
type preparer struct {
	conn driver.Conn
	all  []io.Closer
	err  error
}

func (p *preparer) one(query string) *statement {
	if p.err != nil {
		return nil
	}
	prepared, err := p.conn.Prepare(query)
	if err != nil {
		p.err = fmt.Errorf("prepare %s: %w", query, err)
		return nil
	}
	p.all = append(p.all, prepared)
	return &statement{prepared: prepared.(runner)}
}

func (p *preparer) bulk(head, row, tail string) *bulk {
	b := &bulk{width: strings.Count(row, "?")}
	for i, size := range bulkSizes {
		b.statements[i] = p.one(head + strings.TrimSuffix(strings.Repeat(row+", ", size), ", ") + tail)
	}
	return b
}

// runner is what a statement of the driver can do.
type runner interface {
	driver.StmtExecContext
	driver.StmtQueryContext
}

// statement is a prepared one. Nothing interrupts it.
type statement struct {
	prepared runner
	args     []driver.NamedValue // used again each time
}

// exec gives the number of rows changed.
func (st *statement) exec(values ...driver.Value) (changed int64, err error) {
	args := st.bind(values)
	defer unbind(args)
	result, err := st.prepared.ExecContext(context.Background(), args)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// query calls scan for each row.
func (st *statement) query(scan func(row) error, values ...driver.Value) (err error) {
	args := st.bind(values)
	defer unbind(args)
	rows, err := st.prepared.QueryContext(context.Background(), args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	r := make(row, len(rows.Columns()))
	for {
		if err := rows.Next(r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := scan(r); err != nil {
			return err
		}
	}
}

// bind makes arguments of the values, in the memory of those of the run before.
func (st *statement) bind(values []driver.Value) []driver.NamedValue {
	for n := len(st.args); n < len(values); n++ {
		st.args = append(st.args, driver.NamedValue{Ordinal: n + 1})
	}
	args := st.args[:len(values)]
	for i, value := range values {
		args[i].Value = value
	}
	return args
}

// unbind forgets the values: bodies are not to stay in memory that is used again.
func unbind(args []driver.NamedValue) {
	for i := range args {
		args[i].Value = nil
	}
}

// row is what the driver gives for one.
type row []driver.Value

// Scan copies the row's values to where dest points.
func (r row) Scan(dest ...any) error {
	for i, value := range r {
		into := reflect.ValueOf(dest[i]).Elem()
		switch value := value.(type) {
		case int64:
			into.SetInt(value)
		case string:
			into.SetString(value)
		case []byte:
			into.SetBytes(value)
		default:
			return fmt.Errorf("column %d is a %T", i, value)
		}
	}
	return nil
}

// bulkSizes are how many rows one run of a statement takes. Most of the cost of a
// run does not depend on the rows; past 32 there is nothing left to gain.
var bulkSizes = [...]int{32, 16, 8, 4, 2, 1}

// bulk is one statement over many rows of values.
type bulk struct {
	statements [len(bulkSizes)]*statement
	width      int // values in a row
	spare      []driver.Value
}

// rows is empty, with room for n rows: for values that exec, change or query gets
// and nothing else needs. There is one at a time.
func (b *bulk) rows(n int) []driver.Value {
	b.spare = slices.Grow(b.spare[:0], n*b.width)
	return b.spare
}

// like appends a value to a row that is being written. Most rows repeat most of
// the row before, and what it has is not allocated again.
func like[T comparable](b *bulk, values []driver.Value, value T) []driver.Value {
	if above := len(values) - b.width; above >= 0 {
		if same, ok := values[above].(T); ok && same == value {
			return append(values, values[above])
		}
	}
	return append(values, value)
}

// exec runs the statement over the rows, which are given one after the other in
// values. The fixed values come before them in each run.
func (b *bulk) exec(values []driver.Value, fixed ...driver.Value) error {
	_, err := b.change(values, fixed...)
	return err
}

// change is exec that tells how many rows were changed.
func (b *bulk) change(values []driver.Value, fixed ...driver.Value) (changed int64, err error) {
	err = b.each(values, fixed, func(statement *statement, values []driver.Value) error {
		n, err := statement.exec(values...)
		changed += n
		return err
	})
	return changed, err
}

// query is exec for statements that give rows.
func (b *bulk) query(scan func(row) error, values []driver.Value, fixed ...driver.Value) error {
	return b.each(values, fixed, func(statement *statement, values []driver.Value) error {
		return statement.query(scan, values...)
	})
}

func (b *bulk) each(values, fixed []driver.Value, run func(*statement, []driver.Value) error) error {
	defer clear(values) // bodies are not to stay in memory that is used again
	for i, size := range bulkSizes {
		for n := size * b.width; len(values) > 0 && len(values) >= n; values = values[n:] {
			part := values[:n:n]
			if len(fixed) > 0 {
				part = slices.Concat(fixed, part)
			}
			if err := run(b.statements[i], part); err != nil {
				return err
			}
		}
	}
	return nil
}
