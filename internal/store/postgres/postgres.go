// Package postgres keeps everything in one PostgreSQL database that several
// gateway processes share.
//
// An accepted event is on the server's disk when Accept returns, and an outcome when
// Settle does: sessions commit synchronously whatever the server's default is.
//
// Accept and Settle take for granted what is nearly always so, that events are new
// and deliveries in the node's hand, and send a whole transaction but its commit in
// one message (see pipe). If the server finds it otherwise, nothing has changed, and
// the batch goes through statements that look first.
//
// Each write of a node locks the node's row against removal, so a node is either
// alive until its transaction ends or the transaction changes nothing. A commit
// whose answer is lost with its connection may or may not have taken place; the
// deliveries it would have put in the node's hand are noted and given back as
// soon as the server can tell, so that they are not stranded in a hand that does
// not know of them. Renew does that, and gives up after doubtWait to try again
// the next time.
package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

// maxConns is how many connections a process uses unless the URL says otherwise
// (pool_max_conns). One more listens for notices.
const maxConns = 8

// sessionSetup bounds how long a node that vanished or is frozen can hold its locks,
// to less than a lease; and it has commits on the server's disk when they return,
// whatever the server's default.
//
// And it has everything found through indexes, a few rows at a time. Tables that
// fill and empty all day look small whenever the server plans a statement, so it
// would rather read them from end to end, and it keeps its plans. What can only be
// read so, such as a table of one row, is made to look so dear by this that the
// server would compile each such statement, in tens of milliseconds.
const sessionSetup = `
SET idle_in_transaction_session_timeout TO '3s';
SET synchronous_commit TO on;
SET enable_seqscan TO off;
SET enable_hashjoin TO off;
SET enable_mergejoin TO off;
SET jit TO off`

// Options say where the store is and what it works with.
type Options struct {
	URL    string           // postgres://…
	Sealer store.Sealer     // encrypts what is secret; required
	Log    *slog.Logger     // nil: slog.Default
	Now    func() time.Time // dates what no argument dates, and never a lease; nil: time.Now
}

// Store is a store.Store.
type Store struct {
	*sqlstore.Store
	pool     *pgxpool.Pool
	db       *sql.DB // the same pool, for the queries both databases share
	listener *listener
	doubts   doubts
	repeats  atomic.Bool // the last batch that was looked through held some
	close    func() error
}

var _ store.Store = (*Store)(nil)

// Open connects, and makes or migrates the schema; of several processes that
// start at once, one does it and the others wait. The URL's password does not
// appear in errors.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	config, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("make connection pool: %w", err)
	}
	s := &Store{pool: pool, db: stdlib.OpenDBFromPool(pool)}
	s.close = sync.OnceValue(s.shut)
	if err := s.open(ctx, o); err != nil {
		server := config.ConnConfig
		return nil, errors.Join(fmt.Errorf("open database %s on %s: %w", server.Database, server.Host, err), s.Close())
	}
	s.listener = listen(config.ConnConfig.Copy(), o.Log)
	return s, nil
}

func (s *Store) open(ctx context.Context, o Options) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300), lock.WithUnlockTimeout(1, 10))
	if err != nil {
		return err
	}
	if err := sqlstore.Migrate(ctx, goose.DialectPostgres, s.db, migrations, goose.WithSessionLocker(locker)); err != nil {
		return err
	}
	s.Store, err = sqlstore.New(sqlstore.Options{
		Flavor: sqlstore.Flavor{
			ForUpdate:  " FOR UPDATE",
			LockNodes:  "LOCK TABLE nodes IN SHARE ROW EXCLUSIVE MODE",
			Snapshot:   sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
			LeaseClock: leaseClock,
			Notify:     notify,
			Classify:   classify,
		},
		Write: s.db, Read: s.db, Sealer: o.Sealer, Now: o.Now,
	})
	if err != nil {
		return err
	}
	return s.Update(ctx, "take over dedupe keys", func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, mergeKeys)
		return err
	})
}

// mergeKeys takes over the dedupe keys that a backup of a SQLite database left on
// their way.
const mergeKeys = `
WITH recent AS (DELETE FROM dedupe_recent RETURNING key, event_id)
INSERT INTO dedupe (key, event_id) SELECT key, event_id FROM recent ORDER BY key ON CONFLICT (key) DO NOTHING`

func parseURL(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read database URL: %w", err)
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = maxConns
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sessionSetup)
		return err
	}
	return config, nil
}

// clock is the server's time in unix milliseconds: the one clock that all nodes
// share. It moves on within a transaction.
const clock = `(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint`

func leaseClock(ctx context.Context, tx *sql.Tx) (time.Time, error) {
	var now int64
	err := tx.QueryRowContext(ctx, `SELECT `+clock).Scan(&now)
	return sqlstore.FromMillis(now), err
}

// Close waits for running transactions and closes all connections.
func (s *Store) Close() error { return s.close() }

func (s *Store) shut() error {
	if s.listener != nil {
		s.listener.stop()
	}
	err := s.db.Close()
	s.pool.Close()
	return err
}
