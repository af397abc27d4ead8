package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The pool is database/sql's, over pgx connections: shared queries use it as any
// database, and the hot path borrows a connection from it to speak pgx directly
// (see Store.borrow). The adapter below is the little that this takes.

// idleCheck is how long a connection may lie idle before it is tried first.
const idleCheck = time.Second

// sessionSetup bounds how long a node that vanished can hold its locks.
const sessionSetup = `SET idle_in_transaction_session_timeout = '60s'`

type connector struct{ config *pgx.ConnConfig }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	pg, err := pgx.ConnectConfig(ctx, c.config)
	if err != nil {
		return nil, err
	}
	if _, err := pg.Exec(ctx, sessionSetup); err != nil {
		return nil, errors.Join(err, pg.Close(ctx))
	}
	return &connection{pg: pg, used: time.Now()}, nil
}

func (c connector) Driver() driver.Driver { return c }

// Open is there for driver.Driver only; the pool calls Connect.
func (c connector) Open(string) (driver.Conn, error) { return nil, errors.ErrUnsupported }

type connection struct {
	pg   *pgx.Conn
	used time.Time
}

var (
	_ driver.ConnBeginTx     = (*connection)(nil)
	_ driver.ExecerContext   = (*connection)(nil)
	_ driver.QueryerContext  = (*connection)(nil)
	_ driver.Pinger          = (*connection)(nil)
	_ driver.SessionResetter = (*connection)(nil)
	_ driver.Validator       = (*connection)(nil)
)

// Prepare is not needed: pgx keeps the statements it has run prepared.
func (c *connection) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }

// Begin is there for driver.Conn only; the pool calls BeginTx.
func (c *connection) Begin() (driver.Tx, error) { return nil, errors.ErrUnsupported }

func (c *connection) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return c.pg.Close(ctx)
}

func (c *connection) Ping(ctx context.Context) error { return c.pg.Ping(ctx) }

// IsValid is asked when a connection comes back: one that broke, or was left in
// the middle of a transaction, is not used again.
func (c *connection) IsValid() bool {
	c.used = time.Now()
	return !c.pg.IsClosed() && c.pg.PgConn().TxStatus() == 'I'
}

// ResetSession is asked before a connection is used again.
func (c *connection) ResetSession(ctx context.Context) error {
	if c.pg.IsClosed() || (time.Since(c.used) > idleCheck && c.pg.Ping(ctx) != nil) {
		return driver.ErrBadConn
	}
	return nil
}

func (c *connection) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	begin := pgx.TxOptions{}
	switch level := sql.IsolationLevel(options.Isolation); level {
	case sql.LevelDefault:
	case sql.LevelRepeatableRead:
		begin.IsoLevel = pgx.RepeatableRead
	default:
		return nil, fmt.Errorf("isolation level %s: %w", level, errors.ErrUnsupported)
	}
	if options.ReadOnly {
		begin.AccessMode = pgx.ReadOnly
	}
	tx, err := c.pg.BeginTx(ctx, begin)
	if err != nil {
		return nil, unsent(err)
	}
	return transaction{ctx, tx}, nil
}

// transaction keeps the context it was begun with, because database/sql ends
// transactions without one.
type transaction struct {
	ctx context.Context
	tx  pgx.Tx
}

func (t transaction) Commit() error { return t.tx.Commit(t.ctx) }

func (t transaction) Rollback() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), 5*time.Second)
	defer cancel()
	return t.tx.Rollback(ctx)
}

func (c *connection) ExecContext(ctx context.Context, query string, named []driver.NamedValue) (driver.Result, error) {
	tag, err := c.pg.Exec(ctx, query, values(named)...)
	if err != nil {
		return nil, unsent(err)
	}
	return driver.RowsAffected(tag.RowsAffected()), nil
}

func (c *connection) QueryContext(ctx context.Context, query string, named []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.pg.Query(ctx, query, values(named)...)
	if err != nil {
		return nil, unsent(err)
	}
	// The columns are known once the first row is asked for.
	ahead := rows.Next()
	if err := rows.Err(); err != nil {
		rows.Close()
		return nil, unsent(err)
	}
	return &result{rows: rows, ahead: ahead}, nil
}

func values(named []driver.NamedValue) []any {
	args := make([]any, len(named))
	for i := range named {
		args[i] = named[i].Value
	}
	return args
}

// unsent tells the pool to take another connection where nothing was sent yet.
func unsent(err error) error {
	if pgconn.SafeToRetry(err) {
		return driver.ErrBadConn
	}
	return err
}

type result struct {
	rows  pgx.Rows
	ahead bool // the present row was fetched and not given out
}

func (r *result) Columns() []string {
	fields := r.rows.FieldDescriptions()
	names := make([]string, len(fields))
	for i := range fields {
		names[i] = fields[i].Name
	}
	return names
}

func (r *result) Close() error {
	r.rows.Close()
	return r.rows.Err()
}

func (r *result) Next(dest []driver.Value) error {
	if !r.ahead && !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	r.ahead = false
	row, err := r.rows.Values()
	if err != nil {
		return err
	}
	for i, value := range row {
		switch v := value.(type) {
		case int16:
			dest[i] = int64(v)
		case int32:
			dest[i] = int64(v)
		default:
			dest[i] = v
		}
	}
	return nil
}
