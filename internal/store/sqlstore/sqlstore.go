// Package sqlstore is what the two databases have in common: the queries that
// both take as they are, written once over database/sql with $n placeholders.
//
// What differs sits in a Flavor. The hot path (Accept, Take and Settle) is not
// here: each database has its own, and this package only holds the decisions
// that both must make alike.
//
// Every public method is one transaction. When it fails nothing was changed,
// and the error says whether trying again makes sense: a database that is gone,
// full or read-only is waypost.KindUnavailable. A transaction that the database
// gave up to resolve a deadlock, or whose connection broke before the commit
// was asked for, is run again.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Flavor is what differs between the databases.
type Flavor struct {
	// ForUpdate ends a SELECT whose rows are about to be changed; empty where
	// there is only one writer.
	ForUpdate string
	// LockNodes is run before a slot is given out; may be empty.
	LockNodes string
	// Turn waits until a transaction may have the only writer; nil: there are many.
	Turn func(context.Context) (done func(), err error)
	// Uncancelable transactions, once begun, run to their end whatever becomes
	// of the caller.
	Uncancelable bool
	// Snapshot are the options of a transaction whose reads see one moment.
	Snapshot sql.TxOptions
	// LeaseClock reads the clock that leases are judged by; nil: the caller's.
	LeaseClock func(context.Context, *sql.Tx) (time.Time, error)
	// Notify wakes the other nodes once the transaction is committed; nil: there
	// are none.
	Notify func(context.Context, *sql.Tx) error
	// EmptyBodies empties the bodies of the events that a condition names, so that
	// their room is used again; nil: by changing the rows.
	EmptyBodies func(ctx context.Context, tx *sql.Tx, which string, args ...any) (sql.Result, error)
	// Classify names the fault behind a driver's error.
	Classify func(error) Fault
}

// Fault classes a driver's error.
type Fault uint8

// The faults.
const (
	FaultOther       Fault = iota
	FaultTransient         // the transaction was undone for no fault of its own
	FaultUnavailable       // the database is gone, full or read-only
	FaultUnique            // a row with that key exists
	FaultText              // a text the database can't hold
)

// maxTries bounds how often a transaction is run for FaultTransient. Each pooled
// connection that a restart of the database left behind may cost one.
const maxTries = 8

// Options are the parts a Store is made of.
type Options struct {
	Flavor Flavor
	Write  *sql.DB
	Read   *sql.DB
	Sealer store.Sealer
	Now    func() time.Time // nil: time.Now
}

// Store is the shared part of a store.Store: all of it but Accept, Take, Settle,
// Notices and Close.
type Store struct {
	flavor Flavor
	write  *sql.DB
	read   *sql.DB
	sealer store.Sealer
	now    func() time.Time
	sweeps sweeps
}

// New makes the shared part.
func New(o Options) (*Store, error) {
	if o.Sealer == nil {
		return nil, errors.New("a store needs a sealer for the secrets it keeps")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{flavor: o.Flavor, write: o.Write, read: o.Read, sealer: o.Sealer, now: o.Now}, nil
}

// Now is the store's own clock, for the little that no argument dates.
func (s *Store) Now() time.Time { return s.now() }

// Ping commits a row, because nothing less proves that a commit would succeed.
func (s *Store) Ping(ctx context.Context) error {
	return s.Update(ctx, "ping the database", func(ctx context.Context, tx *sql.Tx) error {
		return putFact(ctx, tx, "ping", "")
	})
}

// Update runs change in a transaction and commits it. change may be run again.
func (s *Store) Update(ctx context.Context, verb string, change func(context.Context, *sql.Tx) error) error {
	err := s.Rerun(ctx, func() error { return s.update(ctx, change) })
	return s.Explain(verb, err)
}

// Rerun runs a transaction until it ends otherwise than by FaultTransient.
func (s *Store) Rerun(ctx context.Context, transaction func() error) error {
	for try := 1; ; try++ {
		err := transaction()
		if err == nil || try == maxTries || ctx.Err() != nil || s.flavor.Classify(err) != FaultTransient {
			return err
		}
	}
}

func (s *Store) update(ctx context.Context, change func(context.Context, *sql.Tx) error) error {
	if s.flavor.Turn != nil {
		done, err := s.flavor.Turn(ctx)
		if err != nil {
			return err
		}
		defer done()
	}
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it only goes back to the pool
	if s.flavor.Uncancelable {
		ctx = context.WithoutCancel(ctx)
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := change(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return &CommitError{Err: err}
	}
	return nil
}

// CommitError is a failed commit. Unless the database itself refused, nobody
// knows whether it took place, so it must not simply be run again.
type CommitError struct{ Err error }

func (e *CommitError) Error() string { return "commit: " + e.Err.Error() }

func (e *CommitError) Unwrap() error { return e.Err }

// view runs read in a transaction that sees one moment.
func (s *Store) view(ctx context.Context, verb string, read func(*sql.Tx) error) error {
	tx, err := s.read.BeginTx(ctx, &s.flavor.Snapshot)
	if err != nil {
		return s.Explain(verb, err)
	}
	defer tx.Rollback()
	return s.Explain(verb, read(tx))
}

// Explain gives an error of the database the kind that callers act on. Errors
// that have one already, store.ErrLeaseLost included, stay as they are.
func (s *Store) Explain(verb string, err error) error {
	if err == nil || errors.Is(err, store.ErrLeaseLost) {
		return err
	}
	if _, ok := errors.AsType[*waypost.Error](err); ok {
		return err
	}
	err = fmt.Errorf("%s: %w", verb, err)
	switch s.flavor.Classify(err) {
	case FaultUnavailable, FaultTransient:
		return &waypost.Error{Kind: waypost.KindUnavailable, Message: "the database can't be reached or can't commit just now", Err: err}
	case FaultUnique:
		return &waypost.Error{Kind: waypost.KindConflict, Message: "it exists already", Err: err}
	case FaultText:
		return &waypost.Error{Kind: waypost.KindInvalid, Message: "a text holds a character that can't be stored", Err: err}
	default:
		return err
	}
}

// unique replaces a clash of keys by a conflict that says what clashed.
func (s *Store) unique(err error, format string, args ...any) error {
	if err == nil || s.flavor.Classify(err) != FaultUnique {
		return err
	}
	return waypost.Errorf(waypost.KindConflict, format, args...)
}

func (s *Store) notify(ctx context.Context, tx *sql.Tx) error {
	if s.flavor.Notify == nil {
		return nil
	}
	return s.flavor.Notify(ctx, tx)
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// scanner is one row or the present one of many.
type scanner interface{ Scan(dest ...any) error }

// collect reads all rows of a query.
func collect[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// found turns "no such row" into KindNotFound.
func found(err error, noun string, id fmt.Stringer) error {
	if errors.Is(err, sql.ErrNoRows) {
		return waypost.Errorf(waypost.KindNotFound, "no %s has the id %q", noun, id)
	}
	return err
}

// Millis is how a time is stored: unix milliseconds, 0 for none.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// FromMillis reads Millis back.
func FromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
