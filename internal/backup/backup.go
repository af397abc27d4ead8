// Package backup copies a whole store into one file and back.
//
// The file is a SQLite database with the tables of the store, whichever kind of
// store it was taken from, so that a backup of one kind restores into the other.
// It holds the store as it was at one moment: everything that was committed
// before, settled or owed, settings and their secrets, sealed as they are. The
// key that opens them is not in it.
//
// Neither stops a gateway: a backup reads one snapshot beside it and needs no
// lock of its own, and a restore refuses a place where there is data.
//
// What happens on failure: nothing is left. A backup is written under another
// name, read back, synced and then renamed; a restore is one renamed file or one
// transaction. Both may be run again at once.
//
// A restored store is that moment again: what was in a node's hand is due, and
// what was delivered since is delivered once more.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/store/sqlite"
)

// Options say what is copied where.
type Options struct {
	Database string // the store: a postgres:// URL, or empty for the one in Data
	Data     string // the data directory
	File     string // the backup
	Replace  bool   // Take: take the place of an earlier backup
	Program  string // Take: version of this program, noted in the file
	// Progress, if not nil, is told often how far a step is: done of total, or of
	// an unknown number where total is 0.
	Progress func(step string, done, total int64)
}

// Summary is what a backup holds.
type Summary struct {
	File      string           `json:"file"`
	Bytes     int64            `json:"bytes"`
	Moment    time.Time        `json:"moment"`  // everything committed before it is in the file
	Store     string           `json:"store"`   // kind of store it was taken from
	Program   string           `json:"program"` // version of the program that took it
	Events    int64            `json:"events"`
	Owed      int64            `json:"owed"` // deliveries
	Endpoints int64            `json:"endpoints"`
	Rows      map[string]int64 `json:"rows"` // by table
}

// Take makes a backup. The file appears when it is whole and on disk.
func Take(ctx context.Context, o Options) (summary Summary, err error) {
	defer func() { err = stopped(ctx, err) }()
	if err := o.checkFile(ctx); err != nil {
		return Summary{}, err
	}
	err = sqlite.WriteWhole(o.File, func(temp string) error {
		about, err := o.copyStore(ctx, temp)
		if err != nil {
			return err
		}
		about.Program = o.Program
		if err := sqlite.Seal(ctx, temp, about); err != nil {
			return fmt.Errorf("write backup: %w", err)
		}
		summary, err = o.verify(ctx, temp)
		return err
	})
	return summary, err
}

// stopped says so where an end was asked for: what the parts say then is noise.
func stopped(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("stopped before it was done, so nothing was written: %w", context.Cause(ctx))
}

// checkFile refuses to write over anything but an earlier backup.
func (o Options) checkFile(ctx context.Context) error {
	_, err := os.Stat(o.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !o.Replace {
		return fmt.Errorf("%s exists already: choose another name, or replace that backup with --force", o.File)
	}
	earlier, err := sqlite.OpenFile(ctx, o.File)
	if errors.Is(err, sqlite.ErrNoBackup) {
		return fmt.Errorf("%s exists and is not a backup, so it is left alone: choose another name", o.File)
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", o.File, err)
	}
	return earlier.Close()
}

func (o Options) copyStore(ctx context.Context, temp string) (sqlite.About, error) {
	if o.Database == "" {
		about, err := sqlite.Copy(ctx, o.Data, temp, o.step("pages"))
		if errors.Is(err, sqlite.ErrNoDatabase) {
			err = fmt.Errorf("%w: say where it is with --data ($WAYPOST_DATA) or --database ($WAYPOST_DATABASE)", err)
		}
		return about, err
	}
	return o.copyPostgres(ctx, temp)
}

func (o Options) copyPostgres(ctx context.Context, temp string) (about sqlite.About, err error) {
	source, err := postgres.Connect(ctx, o.Database)
	if err != nil {
		return about, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	version, err := source.Version(ctx)
	if err != nil {
		return about, err
	}
	file, err := sqlite.CreateFile(ctx, temp, version)
	if err != nil {
		return about, fmt.Errorf("write backup: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	tables, err := file.Tables(ctx)
	if err != nil {
		return about, fmt.Errorf("write backup: %w", err)
	}
	about = sqlite.About{Store: "postgres", Rows: map[string]int64{}}
	if about.Moment, err = source.Freeze(ctx, tables); err != nil {
		return about, err
	}
	for _, table := range tables {
		about.Rows[table.Name], err = file.Insert(ctx, table, source.Rows(ctx, table), o.step(table.Name))
		if err != nil {
			return about, err
		}
	}
	last, err := source.LastIDs(ctx)
	if err != nil {
		return about, err
	}
	return about, file.SetLastIDs(ctx, last)
}

func (o Options) step(name string) sqlite.Progress {
	if o.Progress == nil {
		return nil
	}
	return func(done, total int64) { o.Progress(name, done, total) }
}

// verify reads a backup from end to end.
func (o Options) verify(ctx context.Context, path string) (summary Summary, err error) {
	if o.Progress != nil {
		o.Progress("check", 0, 0)
	}
	file, err := sqlite.OpenFile(ctx, path)
	if err != nil {
		return Summary{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := file.Check(ctx); err != nil {
		return Summary{}, err
	}
	return o.summarize(ctx, path, file)
}

func (o Options) summarize(ctx context.Context, path string, file *sqlite.File) (Summary, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Summary{}, err
	}
	endpoints, err := file.Count(ctx, "endpoints", "deleted_at = 0")
	if err != nil {
		return Summary{}, err
	}
	about := file.About
	return Summary{
		File: o.File, Bytes: info.Size(), Moment: about.Moment, Store: about.Store, Program: about.Program,
		Events: about.Rows["events"], Owed: about.Rows["deliveries"], Endpoints: endpoints, Rows: about.Rows,
	}, nil
}

// Restore puts a backup into an empty place: a data directory without a database,
// or a PostgreSQL database without data.
func Restore(ctx context.Context, o Options) (summary Summary, err error) {
	defer func() { err = stopped(ctx, err) }()
	if summary, err = o.verify(ctx, o.File); err != nil {
		return Summary{}, o.explain(err)
	}
	file, err := sqlite.OpenFile(ctx, o.File)
	if err != nil {
		return Summary{}, o.explain(err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if o.Database == "" {
		return summary, file.Restore(ctx, o.Data, time.Now(), o.step("pages"))
	}
	return summary, o.restorePostgres(ctx, file)
}

// explain says what to do about a file that can't be restored.
func (o Options) explain(err error) error {
	if errors.Is(err, sqlite.ErrNoBackup) {
		return fmt.Errorf("%s can't be restored: %w", o.File, err)
	}
	return fmt.Errorf("restore %s: %w", o.File, err)
}

// restorePostgres brings a backup of an earlier schema up to date first, in a
// copy, so that what migrations do to rows is done to these as well.
func (o Options) restorePostgres(ctx context.Context, file *sqlite.File) (err error) {
	current, err := file.UpToDate(ctx)
	if err != nil {
		return err
	}
	if current {
		return o.fillPostgres(ctx, file)
	}
	dir, err := os.MkdirTemp("", "waypost-restore-")
	if err != nil {
		return fmt.Errorf("make room for a copy: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "backup")
	if err := file.Upgrade(ctx, path, o.step("pages")); err != nil {
		return fmt.Errorf("bring a copy in %s up to date (TMPDIR chooses another place): %w", dir, err)
	}
	upgraded, err := sqlite.OpenFile(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, upgraded.Close()) }()
	return o.fillPostgres(ctx, upgraded)
}

func (o Options) fillPostgres(ctx context.Context, from postgres.Source) error {
	return postgres.Restore(ctx, o.Database, from, time.Now(), func(table string, rows int64) {
		if o.Progress != nil {
			o.Progress(table, rows, 0)
		}
	})
}
