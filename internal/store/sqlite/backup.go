package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
)

// Progress is told how much is done of how much.
type Progress func(done, total int64)

const (
	aboutTable = "waypost_backup"

	// stepPages are copied at a time: 2 MiB. Each time syncSteps of them are done
	// they are written out, so that a gateway on the same disk never waits behind
	// more than that with a commit of its own.
	stepPages = 256
	syncSteps = 8
)

// Copy writes the database of a data directory to a file as it was at one
// moment, whether a gateway works on it or not. The gateway neither waits for it
// nor notices it, but for its log, which it can't begin anew before the copy is
// done.
func Copy(ctx context.Context, dir, path string, progress Progress) (About, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return About{}, fmt.Errorf("find data directory: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, fileName)); errors.Is(err, fs.ErrNotExist) {
		return About{}, fmt.Errorf("%w %s", ErrNoDatabase, dir)
	}
	about, err := copyFile(ctx, filepath.Join(dir, fileName), "rw", path, progress)
	if err != nil {
		return About{}, fmt.Errorf("copy %s: %w", filepath.Join(dir, fileName), err)
	}
	about.Store = "sqlite"
	return about, nil
}

// copyFile copies a database page by page within one reading transaction. With
// the transaction open, no write of others makes the copy begin again.
func copyFile(ctx context.Context, from, mode, to string, progress Progress) (about About, err error) {
	db, err := openFile(from, mode, "query_only(1)")
	if err != nil {
		return About{}, err
	}
	defer func() { _ = db.Close() }() // it was only read
	conn, err := db.Conn(ctx)
	if err != nil {
		return About{}, err
	}
	defer func() { _ = conn.Close() }() // it only goes back to the pool
	about.Moment = time.Now()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return About{}, err
	}
	defer tx.Rollback()
	if _, err := knownVersion(ctx, tx); err != nil { // and the first read, which fixes the moment
		return About{}, err
	}
	if err := copyPages(ctx, conn, to, progress); err != nil {
		return About{}, err
	}
	about.Rows, err = countRows(ctx, tx)
	return about, err
}

func copyPages(ctx context.Context, conn *sql.Conn, to string, progress Progress) (err error) {
	file, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return conn.Raw(func(driver any) (err error) {
		source, ok := driver.(interface {
			NewBackup(uri string) (*sqlite.Backup, error)
		})
		if !ok {
			return errors.New("the SQLite driver can't make backups")
		}
		pages, err := source.NewBackup(fileURI(to, "rw", "journal_mode(OFF)", "synchronous(OFF)"))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, pages.Finish(), file.Sync()) }()
		for step := 1; ; step++ {
			more, err := pages.Step(stepPages)
			if err != nil {
				return err
			}
			if progress != nil {
				progress(int64(pages.PageCount()-pages.Remaining()), int64(pages.PageCount()))
			}
			if step%syncSteps == 0 {
				err = file.Sync()
			}
			if err := errors.Join(err, ctx.Err()); err != nil || !more {
				return err
			}
		}
	})
}

// Upgrade copies the backup to a new file and brings the copy's schema up to
// date.
func (f *File) Upgrade(ctx context.Context, path string, progress Progress) (err error) {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	if _, err := copyFile(ctx, f.path, "ro", path, progress); err != nil {
		return fmt.Errorf("copy %s: %w", f.path, err)
	}
	db, err := openFile(path, "rw", "journal_mode(OFF)", "synchronous(OFF)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return sqlstore.Migrate(ctx, goose.DialectSQLite3, db, migrations)
}

// Restore puts the backup into a data directory that has no database yet, whole
// or not at all, and with nothing in anybody's hand.
func (f *File) Restore(ctx context.Context, dir string, now time.Time, progress Progress) (err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("find data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	for _, name := range []string{fileName, fileName + "-wal"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("the data directory %s holds a database already (%s): "+
				"restore into another directory, or move that database away first", dir, name), err)
		}
	}
	err = WriteWhole(filepath.Join(dir, fileName), func(temp string) error { return f.restore(ctx, temp, now, progress) })
	if err != nil {
		return fmt.Errorf("restore into %s: %w", dir, err)
	}
	return nil
}

func (f *File) restore(ctx context.Context, path string, now time.Time, progress Progress) (err error) {
	if _, err := copyFile(ctx, f.path, "ro", path, progress); err != nil {
		return err
	}
	db, err := openFile(path, "rw", "journal_mode(OFF)", "synchronous(OFF)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, statement := range []string{`DROP TABLE ` + aboutTable, sqlstore.EndAllLeases} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	_, err = db.ExecContext(ctx, sqlstore.ReleaseAll, sqlstore.Millis(now))
	return err
}

// openFile opens a database that must exist, on one connection.
func openFile(path, mode string, pragmas ...string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", fileURI(path, mode, pragmas...))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

func fileURI(path, mode string, pragmas ...string) string {
	query := url.Values{"mode": {mode}, "_pragma": append(pragmas, "busy_timeout(5000)")}
	uri := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: query.Encode()}
	return uri.String()
}

// WriteWhole makes a file for its owner's eyes only. It appears under its name
// once write has filled it and it is on disk, or not at all.
func WriteWhole(path string, write func(temp string) error) error {
	dir, name := filepath.Split(path)
	file, err := os.CreateTemp(dir, "."+name+".partial-*") // mode 0600
	if err != nil {
		return err
	}
	temp := file.Name()
	err = write(temp)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err == nil {
		return syncDir(dir)
	}
	_ = os.Remove(temp) // what it failed for says more
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqlite3.SQLITE_FULL {
		err = fmt.Errorf("there is no room for %s on its disk: %w", path, err)
	}
	return err
}

// syncDir makes a file's name as durable as its content.
func syncDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil // a folder can't be synced there
	}
	dir, err := os.Open(filepath.Clean(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
