// Package sqlite keeps everything in one SQLite database inside a data
// directory: the store of a gateway that runs as a single process.
//
// There is one writing connection, so writers queue in memory and never meet in
// the file, and a few reading ones that see the last commit. A commit is on disk
// when it returns (write-ahead log, synced each time), but for those of Take and
// Settle, which go to disk with the next one: what a power failure takes of them
// is repeated. What is in the log is copied into the database file by a
// connection of its own, so that commits rarely have to wait for it.
//
// The directory belongs to one process at a time: Open takes a lock on it that
// the operating system drops when the process ends, however it ends. Whatever
// the process before had in hand is therefore nobody's, and due, once Open
// returns.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	fileName = "waypost.db"
	lockName = "waypost.lock"
	readers  = 4
)

// Options say where the store is and what it works with.
type Options struct {
	Dir    string           // the data directory; made if need be
	Sealer store.Sealer     // encrypts what is secret; required
	Log    *slog.Logger     // nil: slog.Default
	Now    func() time.Time // judges leases; nil: time.Now
}

// Store is a store.Store.
type Store struct {
	*sqlstore.Store
	write  *sql.DB
	read   *sql.DB
	lock   *os.File
	writer *writer // whoever has the connection of write may use it
	turns  turns

	checkpoints *checkpointer
	close       func() error
}

var _ store.Store = (*Store)(nil)

// Open opens the store in a data directory, makes or migrates its database, and
// makes due whatever the process before it had in hand. It fails if another
// process has the directory.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("find data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{lock: lock}
	s.close = sync.OnceValue(s.shut)
	if err := s.open(ctx, filepath.Join(dir, fileName), o); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", filepath.Join(dir, fileName), err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string, o Options) error {
	if err := create(ctx, path); err != nil {
		return err
	}
	var err error
	if s.write, err = connect(path, 1, "synchronous(FULL)", "cache_size(-16384)", "temp_store(MEMORY)", "wal_autocheckpoint(8000)"); err != nil {
		return err
	}
	if s.read, err = connect(path, readers, "query_only(1)", "cache_size(-16384)", "temp_store(MEMORY)"); err != nil {
		return err
	}
	if err := sqlstore.Migrate(ctx, goose.DialectSQLite3, s.write, migrations); err != nil {
		return err
	}
	s.Store, err = sqlstore.New(sqlstore.Options{
		Flavor: sqlstore.Flavor{Turn: s.turns.urgently, Uncancelable: true, Classify: classify, EmptyBodies: emptyBodies},
		Write:  s.write, Read: s.read, Sealer: o.Sealer, Now: o.Now,
	})
	if err != nil {
		return err
	}
	if err := s.AdoptAll(ctx); err != nil {
		return err
	}
	if err := s.useWriter(ctx, atOnce, func(*writer) error { return nil }); err != nil {
		return err
	}
	s.checkpoints, err = startCheckpointer(path, o.Log)
	return err
}

// create makes the database file, readable by its owner only, and sets what must
// be set before the first table.
func create(ctx context.Context, path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	db, err := connect(path, 1)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // nothing is written any more
	for _, pragma := range []string{"PRAGMA page_size = 8192", "PRAGMA journal_mode = WAL"} {
		if _, err := db.ExecContext(ctx, pragma); err != nil {
			return err
		}
	}
	return nil
}

// connect makes a pool whose connections all have the pragmas.
func connect(path string, size int, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"_txlock": {"immediate"}, "_pragma": append(pragmas, "busy_timeout(5000)")}
	if size > 1 {
		query.Set("_txlock", "deferred")
	}
	dsn := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}

// Notices implements store.Settings: there is no other node to hear from.
func (s *Store) Notices() <-chan store.Notice { return nil }

// Close waits for the running transaction and gives up the data directory.
func (s *Store) Close() error { return s.close() }

func (s *Store) shut() error {
	var errs []error
	if s.checkpoints != nil {
		errs = append(errs, s.checkpoints.stop())
	}
	if s.writer != nil {
		errs = append(errs, s.useWriter(context.Background(), atOnce, (*writer).leave))
	}
	for _, db := range []*sql.DB{s.read, s.write} { // the writer last: it empties the log
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}
