package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
)

// statements are those of the hot path, prepared on the writing connection.
type statements struct {
	lease     *sql.Stmt
	oldest    *sql.Stmt
	newest    *sql.Stmt
	firstSeen *sql.Stmt
	repeat    *sql.Stmt
	seize     *sql.Stmt
	putOff    *sql.Stmt
	release   *sql.Stmt

	dedupe     bulk
	claimed    bulk
	events     bulk
	owed       bulk
	hand       bulk
	settle     bulk
	settleTold bulk // and tells which, which is slower
	waiting    bulk
	attempts   bulk
	exhaust    bulk
}

func prepare(ctx context.Context, db *sql.DB) (statements, error) {
	var st statements
	p := preparer{ctx: ctx, db: db}

	p.one(&st.lease, `SELECT 1 FROM nodes WHERE id = ? AND lease_until > ?`)
	// OR FAIL spares the journal that would undo half a statement: whatever fails
	// here takes the whole transaction with it.
	p.bulk(&st.dedupe, `INSERT OR FAIL INTO dedupe (key, event_id) VALUES `, 2, ` ON CONFLICT (key) DO NOTHING`)
	p.bulk(&st.claimed, `SELECT event_id FROM dedupe WHERE (key, event_id) IN (VALUES `, 2, `)`)
	p.bulk(&st.events, `INSERT OR FAIL INTO events (`+sqlstore.EventColumns+`, body) VALUES `, 12, ``)
	p.bulk(&st.owed, `INSERT OR FAIL INTO deliveries (event_id, endpoint_id, node_id, due, after_endpoint, attempts, step) VALUES `, 7, ``)
	p.one(&st.firstSeen, `SELECT event_id FROM dedupe WHERE key = ?`)
	p.one(&st.repeat, `INSERT INTO duplicates (event_id, at) VALUES (?, ?)`)

	p.one(&st.oldest, oldestQuery)
	p.one(&st.newest, newestQuery)
	p.bulk(&st.hand, `UPDATE deliveries SET node_id = ? WHERE (event_id, endpoint_id) IN (VALUES `, 2, `)`)

	// The pluses keep the planner from trying the partial indexes on each value of
	// node_id and after_endpoint: it would plan these statements anew at each run,
	// and might read through a long backlog of waiting deliveries at each flush.
	p.one(&st.seize, `UPDATE deliveries SET node_id = ? WHERE event_id = ? AND endpoint_id = ? AND +node_id = 0 AND attempts = ?`)
	p.bulk(&st.settle, `DELETE FROM deliveries WHERE +node_id = ? AND (event_id, endpoint_id) IN (VALUES `, 2, `)`)
	p.bulk(&st.settleTold, `DELETE FROM deliveries WHERE +node_id = ? AND (event_id, endpoint_id) IN (VALUES `, 2, `)
RETURNING event_id, endpoint_id, attempts`)
	// A due of 0 was set by Retry while the delivery was in hand: it is due now.
	p.one(&st.putOff, `
UPDATE deliveries SET node_id = ?1, due = CASE WHEN due = 0 AND ?1 = 0 THEN ?2 ELSE ?3 END, step = ?4, attempts = MAX(attempts, ?5)
WHERE event_id = ?6 AND endpoint_id = ?7 AND +node_id = ?8`)
	p.bulk(&st.attempts, `
INSERT OR FAIL INTO attempts (event_id, endpoint_id, n, at, duration, status, outcome, reason, detail) VALUES `, 9, ` ON CONFLICT DO NOTHING`)
	p.bulk(&st.exhaust, `INSERT INTO exhausted (endpoint_id, event_id, at, reason, attempts) VALUES `, 5, `
ON CONFLICT DO UPDATE SET at = excluded.at, reason = excluded.reason, attempts = excluded.attempts`)
	p.bulk(&st.waiting, `
SELECT event_id, endpoint_id, after_endpoint FROM deliveries WHERE +after_endpoint <> 0 AND event_id IN (VALUES `, 1, `)`)
	p.one(&st.release, `UPDATE deliveries SET after_endpoint = 0, due = ? WHERE event_id = ? AND endpoint_id = ?`)
	if p.err != nil {
		return st, errors.Join(p.err, st.close())
	}
	return st, nil
}

func (st *statements) close() error {
	var errs []error
	for _, one := range []*sql.Stmt{st.lease, st.oldest, st.newest, st.firstSeen, st.repeat, st.seize, st.putOff, st.release} {
		if one != nil {
			errs = append(errs, one.Close())
		}
	}
	for _, many := range []*bulk{&st.dedupe, &st.claimed, &st.events, &st.owed, &st.hand, &st.settle, &st.settleTold, &st.waiting, &st.attempts, &st.exhaust} {
		for _, one := range many.statements {
			if one != nil {
				errs = append(errs, one.Close())
			}
		}
	}
	return errors.Join(errs...)
}

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
	ctx context.Context
	db  *sql.DB
	err error
}

func (p *preparer) one(into **sql.Stmt, query string) {
	if p.err != nil {
		return
	}
	if *into, p.err = p.db.PrepareContext(p.ctx, query); p.err != nil { //nolint:sqlclosecheck // statements.close does
		p.err = fmt.Errorf("prepare %s: %w", query, p.err)
	}
}

func (p *preparer) bulk(into *bulk, head string, width int, tail string) {
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", width), ", ") + ")"
	into.width = width
	for i, size := range bulkSizes {
		rows := strings.TrimSuffix(strings.Repeat(row+", ", size), ", ")
		p.one(&into.statements[i], head+rows+tail)
	}
}

// exec, query and queryRow run a prepared statement inside a transaction.

func exec(ctx context.Context, tx *sql.Tx, statement *sql.Stmt, args ...any) (sql.Result, error) {
	return tx.StmtContext(ctx, statement).ExecContext(ctx, args...) //nolint:sqlclosecheck // the transaction closes it
}

func query(ctx context.Context, tx *sql.Tx, statement *sql.Stmt, args ...any) (*sql.Rows, error) {
	return tx.StmtContext(ctx, statement).QueryContext(ctx, args...) //nolint:sqlclosecheck // the transaction closes it
}

func queryRow(ctx context.Context, tx *sql.Tx, statement *sql.Stmt, args ...any) *sql.Row {
	return tx.StmtContext(ctx, statement).QueryRowContext(ctx, args...) //nolint:sqlclosecheck // the transaction closes it
}

// bulkSizes are how many rows one run of a statement takes. Most of the cost of a
// run does not depend on the rows; past 32 there is nothing left to gain.
var bulkSizes = [...]int{32, 8, 1}

// bulk is one statement over many rows of values.
type bulk struct {
	statements [len(bulkSizes)]*sql.Stmt
	width      int // values in a row
}

// exec runs the statement over the rows, which are given one after the other in
// values. The fixed values come before them in each run.
func (b *bulk) exec(ctx context.Context, tx *sql.Tx, values []any, fixed ...any) error {
	_, err := b.change(ctx, tx, values, fixed...)
	return err
}

// change is exec that tells how many rows were changed.
func (b *bulk) change(ctx context.Context, tx *sql.Tx, values []any, fixed ...any) (changed int64, err error) {
	err = b.each(values, func(statement *sql.Stmt, values []any) error {
		if len(fixed) > 0 {
			values = slices.Concat(fixed, values)
		}
		result, err := exec(ctx, tx, statement, values...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		changed += n
		return err
	})
	return changed, err
}

// query is exec for statements that give rows.
func (b *bulk) query(ctx context.Context, tx *sql.Tx, scan func(*sql.Rows) error, values []any, fixed ...any) error {
	return b.each(values, func(statement *sql.Stmt, values []any) error {
		rows, err := query(ctx, tx, statement, append(fixed, values...)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

func (b *bulk) each(values []any, run func(*sql.Stmt, []any) error) error {
	for i, size := range bulkSizes {
		for n := size * b.width; len(values) >= n; values = values[n:] {
			if err := run(b.statements[i], values[:n:n]); err != nil {
				return err
			}
			if len(values) == n {
				return nil
			}
		}
	}
	return nil
}
