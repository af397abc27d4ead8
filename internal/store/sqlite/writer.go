package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// writer is the writing connection as the hot path uses it: past database/sql,
// whose bookkeeping costs as much as the rows do. Whoever has the connection out
// of the pool has the writer to himself.
type writer struct {
	conn driver.Conn
	statements
	keys keys
}

// durability is when a commit is on disk.
type durability uint8

const (
	atOnce durability = iota // when it returns
	soon                     // with the next one that is so at once, or a checkpoint
)

// fenced runs work in a transaction of a node whose lease is live. There is one
// writer, so the lease can't end before the transaction does.
func (s *Store) fenced(ctx context.Context, verb string, node waypost.NodeID, when durability, work func(*writer) error) error {
	err := s.transact(ctx, when, func(w *writer) error {
		live := false
		err := w.lease.query(func(row) error {
			live = true
			return nil
		}, int64(node), sqlstore.Millis(s.Now()))
		if err != nil {
			return err
		}
		if !live {
			return store.ErrLeaseLost
		}
		return work(w)
	})
	s.checkpoints.wrote()
	return s.Explain(verb, err)
}

// transact runs work in a transaction on the writer. Once begun it runs to its
// end, whatever becomes of ctx.
func (s *Store) transact(ctx context.Context, when durability, work func(*writer) error) error {
	return s.useWriter(ctx, when, func(w *writer) (err error) {
		if when == soon {
			if err := w.synchronous("NORMAL"); err != nil {
				return err
			}
			defer func() {
				if again := s.syncAgain(w); again != nil {
					err = errors.Join(err, again)
				}
			}()
		}
		return w.transact(work)
	})
}

// syncAgain has commits on disk when they return. A connection that can't be
// brought to that is not used again.
func (s *Store) syncAgain(w *writer) error {
	err := w.synchronous("FULL")
	if err == nil {
		return nil
	}
	s.writer = nil
	return errors.Join(err, w.close(), driver.ErrBadConn)
}

// useWriter takes the writing connection out of the pool. A new one, which the
// pool makes in place of one that broke, is prepared first.
func (s *Store) useWriter(ctx context.Context, when durability, use func(*writer) error) error {
	done, err := s.turns.take(ctx, when == atOnce)
	if err != nil {
		return err
	}
	defer done()
	pooled, err := s.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = pooled.Close() }() // it only goes back to the pool
	return pooled.Raw(func(raw any) error {
		if s.writer == nil || s.writer.conn != raw {
			w := &writer{conn: raw.(driver.Conn), keys: keys{moveAt: moveKeys, most: knownKeys, load: loadKeys}}
			if err := w.prepare(); err != nil {
				return err
			}
			s.writer = w
		}
		return use(s.writer)
	})
}

// prepare readies the statements and the keys.
func (w *writer) prepare() error {
	var err error
	if w.statements, err = prepare(w.conn); err != nil {
		return err
	}
	err = w.transact(func(w *writer) error {
		if err := w.moveKeys(); err != nil {
			return err
		}
		return w.loadKeys()
	})
	if err != nil {
		return errors.Join(err, w.close())
	}
	return nil
}

// leave is for the end. A version that knows nothing of dedupe_recent is to find
// all keys; if they can't be moved now, they are when the store is next opened.
func (w *writer) leave() error {
	_ = w.transact((*writer).moveKeys)
	return w.close()
}

func (w *writer) transact(work func(*writer) error) error {
	if _, err := w.begin.exec(); err != nil {
		return err
	}
	err := work(w)
	if err == nil {
		if _, err = w.commit.exec(); err != nil {
			err = &sqlstore.CommitError{Err: err}
		}
	}
	w.keys.end(err == nil)
	if err != nil {
		_, _ = w.rollback.exec() // fails if SQLite has done so by itself
	}
	return err
}

// synchronous takes effect when it is parsed, so there is nothing to prepare.
func (w *writer) synchronous(level string) error {
	_, err := w.conn.(driver.ExecerContext).ExecContext(context.Background(), "PRAGMA synchronous = "+level, nil)
	if err != nil {
		return fmt.Errorf("set when commits are on disk: %w", err)
	}
	return nil
}
