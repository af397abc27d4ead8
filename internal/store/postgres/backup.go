package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
)

// Snapshot is a database to be copied, as it was at one moment, whether gateways
// work on it or not.
type Snapshot struct {
	conn *pgx.Conn
	tx   pgx.Tx
	name string // of the database, for errors
}

// Connect connects to a database to be copied.
func Connect(ctx context.Context, url string) (*Snapshot, error) {
	conn, name, err := dial(ctx, url)
	if err != nil {
		return nil, err
	}
	return &Snapshot{conn: conn, name: name}, nil
}

// dial makes one connection, without the pool's limits. Errors do not hold the
// password.
func dial(ctx context.Context, url string) (conn *pgx.Conn, name string, err error) {
	config, err := parseURL(url)
	if err != nil {
		return nil, "", err
	}
	name = fmt.Sprintf("database %s on %s", config.ConnConfig.Database, config.ConnConfig.Host)
	if conn, err = pgx.ConnectConfig(ctx, config.ConnConfig); err != nil {
		return nil, "", fmt.Errorf("connect to %s: %w", name, err)
	}
	return conn, name, nil
}

// unbounded lifts what an administrator may have set for short transactions.
const unbounded = `
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL lock_timeout = '60s'`

// Version is the version of the database's schema. It fails if there is none, or
// one that this program does not know.
func (s *Snapshot) Version(ctx context.Context) (int64, error) {
	version, err := version(ctx, s.conn)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	if version == 0 {
		return 0, fmt.Errorf("there is no Waypost in %s", s.name)
	}
	latest, err := sqlstore.Latest(migrations)
	if err != nil {
		return 0, err
	}
	if err := sqlstore.CheckKnown(version, latest); err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	return version, nil
}

// version is that of the schema; 0 if there is none.
func version(ctx context.Context, q querier) (version int64, err error) {
	known, err := exists(ctx, q, sqlstore.VersionTable)
	if err != nil || !known {
		return 0, err
	}
	err = q.QueryRow(ctx, sqlstore.SelectVersion).Scan(&version)
	return version, err
}

type querier interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

func exists(ctx context.Context, q querier, table string) (found bool, err error) {
	err = q.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, pgx.Identifier{table}.Sanitize()).Scan(&found)
	return found, err
}

// Freeze fixes the moment, which is what it returns: all that was committed
// before it is in the rows that are read from then on.
//
// The tables are locked against being replaced, before the moment is fixed: a
// partition that takes another's place later would look empty from here.
// Nobody who reads or writes rows waits for that.
func (s *Snapshot) Freeze(ctx context.Context, tables []sqlstore.Table) (moment time.Time, err error) {
	before, err := s.Version(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if err := s.freeze(ctx, tables, before, &moment); err != nil {
		return time.Time{}, fmt.Errorf("read %s: %w", s.name, err)
	}
	return moment, nil
}

func (s *Snapshot) freeze(ctx context.Context, tables []sqlstore.Table, before int64, moment *time.Time) (err error) {
	s.tx, err = s.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	if _, err := s.tx.Exec(ctx, unbounded); err != nil {
		return err
	}
	if _, err := s.tx.Exec(ctx, `LOCK TABLE `+names(tables)+` IN ACCESS SHARE MODE`); err != nil {
		return err
	}
	// In one message, so that the time told is from before the snapshot.
	if err := s.tx.QueryRow(ctx, `SELECT statement_timestamp()`, pgx.QueryExecModeSimpleProtocol).Scan(moment); err != nil {
		return err
	}
	now, err := version(ctx, s.tx)
	if err != nil {
		return err
	}
	if now != before {
		return errors.New("its schema was just changed: try again")
	}
	theirs, err := catalog(ctx, s.tx)
	if err != nil {
		return err
	}
	return sqlstore.Match(tables, theirs)
}

func names(tables []sqlstore.Table) string {
	all := make([]string, len(tables))
	for i, table := range tables {
		all[i] = pgx.Identifier{table.Name}.Sanitize()
	}
	return strings.Join(all, ", ")
}

// catalog lists the tables beside the one that holds the schema's version. A
// table in partitions is one table.
func catalog(ctx context.Context, q querier) ([]sqlstore.Table, error) {
	rows, err := q.Query(ctx, `
SELECT t.relname::text, c.attname::text
FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid
WHERE t.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass($1))
	AND t.relkind IN ('r', 'p') AND NOT t.relispartition AND t.oid <> to_regclass($1)
	AND c.attnum > 0 AND NOT c.attisdropped
ORDER BY t.relname, c.attnum`, sqlstore.VersionTable)
	if err != nil {
		return nil, err
	}
	var tables []sqlstore.Table
	var table, column string
	_, err = pgx.ForEachRow(rows, []any{&table, &column}, func() error {
		tables = sqlstore.AddColumn(tables, table, column)
		return nil
	})
	return tables, err
}

// Rows reads a table after Freeze. A row is valid until the next is asked for.
func (s *Snapshot) Rows(ctx context.Context, table sqlstore.Table) sqlstore.Rows {
	return func(yield func([]any, error) bool) {
		rows, err := s.tx.Query(ctx, table.Select())
		if err == nil {
			defer rows.Close()
			for rows.Next() {
				values, err := rows.Values()
				if !yield(values, err) || err != nil {
					return
				}
			}
			err = rows.Err()
		}
		if err != nil {
			yield(nil, fmt.Errorf("read table %s of %s: %w", table.Name, s.name, err))
		}
	}
}

// LastIDs are, by table, the last id that a table with ids of its own gave out.
func (s *Snapshot) LastIDs(ctx context.Context) (map[string]int64, error) {
	last := map[string]int64{}
	found, err := sequences(ctx, s.tx)
	if err != nil {
		return nil, err
	}
	for table, sequence := range found {
		var id int64
		if err := s.tx.QueryRow(ctx, `SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM `+sequence).Scan(&id); err != nil {
			return nil, fmt.Errorf("read the last id of %s: %w", table, err)
		}
		last[table] = id
	}
	return last, nil
}

// sequences gives, by table, the sequence that ids come from, quoted if need be.
func sequences(ctx context.Context, q querier) (map[string]string, error) {
	rows, err := q.Query(ctx, `
SELECT t.relname::text, pg_get_serial_sequence(format('%I.%I', n.nspname, t.relname), c.attname)
FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_attribute c ON c.attrelid = t.oid
WHERE t.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass($1))
	AND c.attidentity <> '' AND t.oid <> to_regclass($1)`, sqlstore.VersionTable)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	var table, sequence string
	_, err = pgx.ForEachRow(rows, []any{&table, &sequence}, func() error {
		found[table] = sequence
		return nil
	})
	return found, err
}

// Close lets the database go.
func (s *Snapshot) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return s.conn.Close(ctx)
}

// Source is what Restore copies from.
type Source interface {
	Tables(ctx context.Context) ([]sqlstore.Table, error)
	Rows(ctx context.Context, table sqlstore.Table) sqlstore.Rows
	LastIDs(ctx context.Context) (map[string]int64, error)
}

// Restore makes the schema in an empty database, or takes one that nothing was
// written to, and fills it with all that the source holds, in one transaction and
// with nothing in anybody's hand. It fails, and changes nothing, if there is data
// or a gateway at work.
func Restore(ctx context.Context, url string, from Source, now time.Time, progress func(table string, rows int64)) (err error) {
	conn, name, err := dial(ctx, url)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		err = errors.Join(err, conn.Close(ctx))
	}()
	r := restoring{conn: conn, from: from, now: now, progress: progress}
	if r.tables, err = from.Tables(ctx); err != nil {
		return err
	}
	if err := r.checkEmpty(ctx, conn); err != nil { // before the schema is touched
		return fmt.Errorf("%s %w", name, err)
	}
	if err := makeSchema(ctx, url); err != nil {
		return err
	}
	if err := r.fill(ctx); err != nil {
		return fmt.Errorf("restore into %s: %w", name, err)
	}
	return nil
}

// makeSchema does what every gateway does when it starts.
func makeSchema(ctx context.Context, url string) error {
	s, err := Open(ctx, Options{URL: url, Sealer: noSecrets{}})
	if err != nil {
		return err
	}
	return s.Close()
}

// noSecrets is for a store of which nobody asks anything.
type noSecrets struct{}

var errNoSecrets = errors.New("there is no key")

func (noSecrets) Seal([]byte, string) ([]byte, error) { return nil, errNoSecrets }
func (noSecrets) Open([]byte, string) ([]byte, error) { return nil, errNoSecrets }

type restoring struct {
	conn     *pgx.Conn
	from     Source
	tables   []sqlstore.Table
	now      time.Time
	progress func(table string, rows int64)
}

// seeded are the tables in which a database that no gateway has written to has
// rows, and how to tell what a gateway has written. The rows are those that the
// migrations put there, and the sign of life that Ping leaves.
var seeded = map[string]string{
	"settings_revision": `SELECT 1 FROM settings_revision WHERE revision > 0`,
	"facts":             `SELECT 1 FROM facts WHERE false`,
	"retention":         `SELECT 1 FROM retention WHERE bodies > 0 OR attempts > 0 OR events > 0`,
}

func (r *restoring) checkEmpty(ctx context.Context, q querier) error {
	for _, table := range r.tables {
		known, err := exists(ctx, q, table.Name)
		if err != nil {
			return err
		}
		if !known {
			continue
		}
		query, ok := seeded[table.Name]
		if !ok {
			query = `SELECT 1 FROM ` + pgx.Identifier{table.Name}.Sanitize()
		}
		var found bool
		if err := q.QueryRow(ctx, `SELECT EXISTS (`+query+`)`).Scan(&found); err != nil {
			return err
		}
		if found {
			return r.refusal(ctx, q, table.Name)
		}
	}
	return nil
}

func (r *restoring) refusal(ctx context.Context, q querier, table string) error {
	var alive bool
	if err := q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM nodes WHERE lease_until > `+clock+`)`).Scan(&alive); err != nil {
		return err
	}
	if alive {
		return errors.New("has a gateway at work: restore into an empty database of its own")
	}
	return fmt.Errorf("holds data already (table %s): restore into an empty database, such as CREATE DATABASE makes", table)
}

func (r *restoring) fill(ctx context.Context) error {
	tx, err := r.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after a commit it does nothing
	if _, err := tx.Exec(ctx, unbounded); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `LOCK TABLE `+names(r.tables)+` IN ACCESS EXCLUSIVE MODE`); err != nil {
		return err
	}
	if err := r.checkEmpty(ctx, tx); err != nil {
		return err
	}
	ours, err := catalog(ctx, tx)
	if err != nil {
		return err
	}
	if err := sqlstore.Match(r.tables, ours); err != nil {
		return err
	}
	for _, table := range r.tables {
		if err := r.copy(ctx, tx, table); err != nil {
			return fmt.Errorf("table %s: %w", table.Name, err)
		}
	}
	if err := r.finish(ctx, tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func (r *restoring) copy(ctx context.Context, tx pgx.Tx, table sqlstore.Table) error {
	// What the migrations put there comes with the rows.
	if _, err := tx.Exec(ctx, `DELETE FROM `+pgx.Identifier{table.Name}.Sanitize()); err != nil {
		return err
	}
	next, stop := iter.Pull2(r.from.Rows(ctx, table))
	defer stop()
	var n int64
	_, err := tx.CopyFrom(ctx, pgx.Identifier{table.Name}, table.Columns, pgx.CopyFromFunc(func() ([]any, error) {
		row, err, ok := next()
		if err != nil || !ok {
			return nil, err
		}
		if n++; n%1000 == 0 && r.progress != nil {
			r.progress(table.Name, n)
		}
		return storable(row), nil
	}))
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		e.Detail, e.Where = "", "" // they quote the row
	}
	return err
}

// storable makes values of SQLite fit for PostgreSQL, which takes no bytes for
// NULL and is strict about texts.
func storable(row []any) []any {
	for i, value := range row {
		switch value := value.(type) {
		case string:
			row[i] = sqlstore.Text(value)
		case []byte:
			row[i] = sqlstore.Bytes(value)
		}
	}
	return row
}

func (r *restoring) finish(ctx context.Context, tx pgx.Tx) error {
	last, err := r.from.LastIDs(ctx)
	if err != nil {
		return err
	}
	ours, err := sequences(ctx, tx)
	if err != nil {
		return err
	}
	for table, sequence := range ours {
		if last[table] > 0 {
			if _, err := tx.Exec(ctx, `SELECT setval($1::regclass, $2)`, sequence, last[table]); err != nil {
				return fmt.Errorf("set the last id of %s: %w", table, err)
			}
		}
	}
	if _, err := tx.Exec(ctx, sqlstore.EndAllLeases); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, sqlstore.ReleaseAll, sqlstore.Millis(r.now)); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `ANALYZE `+names(r.tables)) // or the first hours run on guesses
	return err
}
