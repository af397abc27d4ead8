package postgres

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// doubtWait is how long Renew waits for a commit in doubt to come to an end.
const doubtWait = "1s"

// doubts are deliveries that a commit without an answer may have put in a node's
// hand. The node was told that it failed, so it will never start them.
type doubts struct {
	mu     sync.Mutex
	byNode map[waypost.NodeID][]waypost.DeliveryID
}

// noteIf notes the deliveries if the error leaves open whether they were
// committed.
func (d *doubts) noteIf(err error, node waypost.NodeID, hand []waypost.DeliveryID) {
	_, committing := errors.AsType[*sqlstore.CommitError](err)
	_, refused := errors.AsType[*pgconn.PgError](err)
	if committing && !refused {
		d.note(node, hand)
	}
}

func (d *doubts) note(node waypost.NodeID, hand []waypost.DeliveryID) {
	if len(hand) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byNode == nil {
		d.byNode = map[waypost.NodeID][]waypost.DeliveryID{}
	}
	d.byNode[node] = append(d.byNode[node], hand...)
}

func (d *doubts) take(node waypost.NodeID) []waypost.DeliveryID {
	d.mu.Lock()
	defer d.mu.Unlock()
	hand := d.byNode[node]
	delete(d.byNode, node)
	return hand
}

// Renew implements store.Nodes. It also gives back what is in doubt.
func (s *Store) Renew(ctx context.Context, node waypost.NodeID, ttl time.Duration, now time.Time, seen waypost.NodeID) ([]store.Member, error) {
	members, err := s.Store.Renew(ctx, node, ttl, now, seen)
	if err != nil && !errors.Is(err, store.ErrLeaseLost) {
		return nil, err
	}
	hand := s.doubts.take(node)
	if err != nil || len(hand) == 0 { // with the lease, all that was in hand is gone
		return members, err
	}
	if err := s.giveBack(ctx, node, hand); err != nil {
		s.doubts.note(node, hand) // the lease is renewed all the same
	}
	return members, nil
}

// giveBack takes deliveries out of the node's hand. A transaction in doubt holds
// the node's row until it has ended, so once this one has the row for itself,
// what it sees is final.
func (s *Store) giveBack(ctx context.Context, node waypost.NodeID, hand []waypost.DeliveryID) error {
	return s.Update(ctx, "give back deliveries", func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `SET LOCAL lock_timeout TO '`+doubtWait+`'`); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `SELECT 1 FROM nodes WHERE id = $1 FOR UPDATE`, int64(node)); err != nil {
			return err
		}
		for _, id := range hand {
			_, err := tx.ExecContext(ctx,
				`UPDATE deliveries SET node_id = 0 WHERE event_id = $1 AND endpoint_id = $2 AND node_id = $3`,
				int64(id.Event), int64(id.Endpoint), int64(node))
			if err != nil {
				return err
			}
		}
		return notify(ctx, tx)
	})
}
