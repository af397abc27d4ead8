package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
)

// File is a backup: a SQLite database with the tables of the store, whichever
// kind of store it was taken from, and one more that says what it is.
type File struct {
	db   *sql.DB
	path string
	// About is what the file says of itself.
	About About
}

// About describes a backup.
type About struct {
	Moment  time.Time        `json:"moment"`  // everything committed before it is in the backup
	Store   string           `json:"store"`   // kind of store it was taken from
	Program string           `json:"program"` // version of the program that wrote it
	Rows    map[string]int64 `json:"rows"`    // by table
}

// ErrNoBackup is returned for a file that is something else.
var ErrNoBackup = errors.New("it is not a Waypost backup")

// ErrNoDatabase is returned where there is nothing to back up.
var ErrNoDatabase = errors.New("there is no database in the data directory")

// CreateFile makes a backup without rows in an empty file, with the schema as it
// was in the given version.
func CreateFile(ctx context.Context, path string, version int64) (*File, error) {
	// Should this process end, the file is of no use anyway, so nothing is kept
	// for undoing and nothing is waited for.
	f, err := newFile(path, "rw", "page_size(8192)", "journal_mode(OFF)", "synchronous(OFF)", "locking_mode(EXCLUSIVE)", "cache_size(-65536)")
	if err != nil {
		return nil, err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, f.closeAfter(err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, f.db, files, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, f.closeAfter(fmt.Errorf("read migrations: %w", err))
	}
	if _, err := provider.UpTo(ctx, version); err != nil {
		return nil, f.closeAfter(fmt.Errorf("make the tables of %s: %w", path, err))
	}
	return f, nil
}

// OpenFile opens a backup for reading. It fails with ErrNoBackup if the file is
// something else, and refuses one whose schema this program does not know.
func OpenFile(ctx context.Context, path string) (*File, error) {
	if err := readable(path); err != nil {
		return nil, err
	}
	f, err := newFile(path, "ro")
	if err != nil {
		return nil, err
	}
	var about []byte
	if err := f.db.QueryRowContext(ctx, `SELECT about FROM `+aboutTable).Scan(&about); err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", ErrNoBackup, err)
		}
		return nil, f.closeAfter(err)
	}
	if err := json.Unmarshal(about, &f.About); err != nil {
		return nil, f.closeAfter(fmt.Errorf("%w: %w", ErrNoBackup, err))
	}
	if _, err := knownVersion(ctx, f.db); err != nil {
		return nil, f.closeAfter(err)
	}
	return f, nil
}

// readable says why a file can't be read, which SQLite does not.
func readable(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return file.Close()
}

func newFile(path, mode string, pragmas ...string) (*File, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	db, err := openFile(path, mode, pragmas...)
	if err != nil {
		return nil, err
	}
	return &File{db: db, path: path}, nil
}

// Seal finishes a file that rows were copied to: from then on it is a backup.
func Seal(ctx context.Context, path string, about About) (err error) {
	f, err := newFile(path, "rw", "journal_mode(DELETE)", "synchronous(OFF)") // one file, without a log beside it
	if err != nil {
		return err
	}
	defer func() { err = f.closeAfter(err) }()
	about.Moment = about.Moment.UTC()
	text, err := json.Marshal(about)
	if err != nil {
		return err
	}
	if _, err := f.db.ExecContext(ctx, `CREATE TABLE `+aboutTable+` (about TEXT NOT NULL)`); err != nil {
		return err
	}
	_, err = f.db.ExecContext(ctx, `INSERT INTO `+aboutTable+` (about) VALUES ($1)`, string(text))
	return err
}

// Close closes the file.
func (f *File) Close() error { return f.db.Close() }

func (f *File) closeAfter(err error) error { return errors.Join(err, f.db.Close()) }

// UpToDate reports whether the file's schema is the newest.
func (f *File) UpToDate(ctx context.Context) (bool, error) {
	version, err := knownVersion(ctx, f.db)
	if err != nil {
		return false, err
	}
	latest, err := sqlstore.Latest(migrations)
	return version == latest, err
}

// Tables are the tables of the store.
func (f *File) Tables(ctx context.Context) ([]sqlstore.Table, error) { return tables(ctx, f.db) }

// Rows reads a table. A row is valid until the next is asked for.
func (f *File) Rows(ctx context.Context, table sqlstore.Table) sqlstore.Rows {
	return func(yield func([]any, error) bool) {
		if err := f.eachRow(ctx, table, yield); err != nil {
			yield(nil, fmt.Errorf("read table %s of %s: %w", table.Name, f.path, err))
		}
	}
}

func (f *File) eachRow(ctx context.Context, table sqlstore.Table, yield func([]any, error) bool) error {
	rows, err := f.db.QueryContext(ctx, table.Select())
	if err != nil {
		return err
	}
	defer rows.Close()
	values, into := make([]any, len(table.Columns)), make([]any, len(table.Columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if !yield(values, nil) {
			return nil
		}
	}
	return rows.Err()
}

// Insert writes rows to a table and returns how many there were.
func (f *File) Insert(ctx context.Context, table sqlstore.Table, rows sqlstore.Rows, progress Progress) (n int64, err error) {
	tx, err := f.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	// What the migrations put there comes with the rows.
	if _, err := tx.ExecContext(ctx, `DELETE FROM `+table.Name); err != nil {
		return 0, err
	}
	insert, err := tx.PrepareContext(ctx, table.Insert())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, insert.Close()) }()
	for row, err := range rows {
		if err != nil {
			return 0, err
		}
		if _, err := insert.ExecContext(ctx, row...); err != nil {
			return 0, fmt.Errorf("write table %s of %s: %w", table.Name, f.path, err)
		}
		if n++; n%1000 == 0 && progress != nil {
			progress(n, 0)
		}
	}
	return n, tx.Commit()
}

// LastIDs are, by table, the last id that a table with ids of its own gave out.
func (f *File) LastIDs(ctx context.Context) (map[string]int64, error) {
	return pairs(ctx, f.db, `SELECT name, seq FROM sqlite_sequence WHERE name <> '`+sqlstore.VersionTable+`'`)
}

// SetLastIDs makes those tables go on after the given ids.
func (f *File) SetLastIDs(ctx context.Context, last map[string]int64) error {
	for table, id := range last {
		done, err := f.db.ExecContext(ctx, `UPDATE sqlite_sequence SET seq = max(seq, $2) WHERE name = $1`, table, id)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n > 0 {
			continue
		}
		if _, err := f.db.ExecContext(ctx, `INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)`, table, id); err != nil {
			return err
		}
	}
	return nil
}

// Check reads all of the file and fails unless it is whole and holds the rows it
// says.
func (f *File) Check(ctx context.Context) error {
	faults, err := pairs(ctx, f.db, `SELECT integrity_check, 0 FROM pragma_integrity_check LIMIT 3`)
	if err != nil {
		return fmt.Errorf("check %s: %w", f.path, err)
	}
	if _, ok := faults["ok"]; !ok || len(faults) > 1 {
		return fmt.Errorf("%s is damaged: %q", f.path, slices.Sorted(maps.Keys(faults)))
	}
	rows, err := countRows(ctx, f.db)
	if err != nil {
		return fmt.Errorf("check %s: %w", f.path, err)
	}
	if !maps.Equal(rows, f.About.Rows) {
		return fmt.Errorf("%s is not whole: it holds the rows %v, and was written with %v", f.path, rows, f.About.Rows)
	}
	return nil
}

// Count counts rows of a table; condition may be empty.
func (f *File) Count(ctx context.Context, table, condition string) (n int64, err error) {
	query := `SELECT COUNT(*) FROM ` + table
	if condition != "" {
		query += ` WHERE ` + condition
	}
	err = f.db.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// knownVersion is the version of the schema. It fails if it is ahead of what
// this program knows.
func knownVersion(ctx context.Context, q querier) (int64, error) {
	latest, err := sqlstore.Latest(migrations)
	if err != nil {
		return 0, err
	}
	var version int64
	if err := q.QueryRowContext(ctx, sqlstore.SelectVersion).Scan(&version); err != nil {
		return 0, fmt.Errorf("read the version of the schema: %w", err)
	}
	return version, sqlstore.CheckKnown(version, latest)
}

func tables(ctx context.Context, q querier) ([]sqlstore.Table, error) {
	rows, err := q.QueryContext(ctx, `
SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND t.name NOT IN ($1, $2)
ORDER BY t.name, c.cid`, aboutTable, sqlstore.VersionTable)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []sqlstore.Table
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			return nil, err
		}
		found = sqlstore.AddColumn(found, table, column)
	}
	return found, rows.Err()
}

func countRows(ctx context.Context, q querier) (map[string]int64, error) {
	all, err := tables(ctx, q)
	if err != nil {
		return nil, err
	}
	counts := map[string]int64{}
	for _, table := range all {
		var n int64
		if err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+table.Name).Scan(&n); err != nil {
			return nil, err
		}
		counts[table.Name] = n
	}
	return counts, nil
}

// pairs reads a query of two columns.
func pairs(ctx context.Context, q querier, query string) (map[string]int64, error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[string]int64{}
	for rows.Next() {
		var name string
		var n int64
		if err := rows.Scan(&name, &n); err != nil {
			return nil, err
		}
		found[name] = n
	}
	return found, rows.Err()
}
