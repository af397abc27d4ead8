package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// leaseQuery keeps the node's row from being removed until the transaction ends.
// It leaves Renew free to change it: nobody refers to a node by more than its id.
const leaseQuery = `SELECT 1 FROM nodes WHERE id = $1 AND lease_until > ` + clock + ` FOR KEY SHARE`

// fencedWork is a transaction of a node. The statements that opening queues are
// sent together with its begin and the check of the lease; rest, which may be
// nil, follows when the lease is live. Both may be run again.
type fencedWork struct {
	verb    string
	node    waypost.NodeID
	opening func(*pgx.Batch)
	rest    func(context.Context, *pgx.Conn) error
}

// fenced runs the work and commits it.
func (s *Store) fenced(ctx context.Context, w fencedWork) error {
	return s.transaction(ctx, w.verb, w.run)
}

// transaction runs work, which begins one, and commits it. The commit is a message
// of its own: until it is sent, a broken connection has changed nothing for certain.
func (s *Store) transaction(ctx context.Context, verb string, work func(context.Context, *pgx.Conn) error) error {
	err := s.Rerun(ctx, func() error {
		return s.pool.AcquireFunc(ctx, func(pooled *pgxpool.Conn) error {
			conn := pooled.Conn()
			if err := work(ctx, conn); err != nil {
				rollback(ctx, conn)
				return err
			}
			return commit(ctx, conn)
		})
	})
	return s.Explain(verb, err)
}

// piped runs a transaction of a node that queues all its statements at once. Their
// answers, without those of the statements that fence it, go to check.
func (s *Store) piped(ctx context.Context, verb string, node waypost.NodeID, queue func(context.Context, *pipe), check func([]answer) error) error {
	return s.transaction(ctx, verb, func(ctx context.Context, conn *pgx.Conn) error {
		p := pipeTo(conn)
		defer p.free()
		p.queue(ctx, "BEGIN")
		p.queue(ctx, leaseQuery, int64(node))
		queue(ctx, p)
		answers, err := p.run(ctx)
		switch {
		case err != nil:
			return err
		case answers[1].rows == 0:
			return store.ErrLeaseLost
		}
		return check(answers[2:])
	})
}

func (w *fencedWork) run(ctx context.Context, conn *pgx.Conn) error {
	live := false
	batch := &pgx.Batch{}
	batch.Queue("BEGIN")
	batch.Queue(leaseQuery, int64(w.node)).Query(func(rows pgx.Rows) error {
		live = rows.Next()
		return nil
	})
	w.opening(batch)
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if !live {
		return store.ErrLeaseLost
	}
	if w.rest == nil {
		return nil
	}
	return w.rest(ctx, conn)
}

func commit(ctx context.Context, conn *pgx.Conn) error {
	if conn.PgConn().TxStatus() != 'T' {
		return errors.New("the database rolled the transaction back")
	}
	p := pipeTo(conn)
	defer p.free()
	if err := p.command(ctx, "COMMIT"); err != nil {
		return &sqlstore.CommitError{Err: err}
	}
	return nil
}

func rollback(ctx context.Context, conn *pgx.Conn) {
	if conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		_ = conn.Close(ctx) // a connection in doubt is not used again
	}
}

// read gives a batch callback that scans every row.
func read(scan func(pgx.Rows) error) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		for rows.Next() {
			if err := scan(rows); err != nil {
				return fmt.Errorf("scan row: %w", err)
			}
		}
		return rows.Err()
	}
}
