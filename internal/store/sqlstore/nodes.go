package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// slots is how many nodes can live at once; waypost.NewIDs sets it.
const slots = 1 << 10

// Every write that puts a delivery in a node's hand holds that node's row, and
// removing the row releases all that was in its hand in the same transaction. So
// a delivery never names a node that is not in the table.

// Join implements store.Nodes. Leases that have run out are ended first, so
// their slots are free.
func (s *Store) Join(ctx context.Context, ttl time.Duration, now time.Time) (id waypost.NodeID, slot int, floor int64, err error) {
	err = s.Update(ctx, "join as a node", func(ctx context.Context, tx *sql.Tx) error {
		if s.flavor.LockNodes != "" {
			if _, err := tx.ExecContext(ctx, s.flavor.LockNodes); err != nil {
				return err
			}
		}
		clock, err := s.leaseClock(ctx, tx, now)
		if err != nil {
			return err
		}
		if _, err := s.adopt(ctx, tx, clock, now); err != nil {
			return err
		}
		if slot, err = freeSlot(ctx, tx); err != nil {
			return err
		}
		err = tx.QueryRowContext(ctx,
			`INSERT INTO nodes (slot, lease_until, joined_at, seen) VALUES ($1, $2, $3, 0) RETURNING id`,
			slot, Millis(clock.Add(ttl)), Millis(clock)).Scan(&id)
		if err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(id), 0) FROM events`).Scan(&floor)
	})
	return id, slot, floor, err
}

func freeSlot(ctx context.Context, tx *sql.Tx) (int, error) {
	taken, err := collect(ctx, tx, func(row scanner) (slot int, err error) {
		return slot, row.Scan(&slot)
	}, `SELECT slot FROM nodes ORDER BY slot`)
	if err != nil {
		return 0, err
	}
	free := 0
	for _, slot := range taken {
		if slot == free {
			free++
		}
	}
	if free == slots {
		return 0, waypost.Errorf(waypost.KindUnavailable, "all %d node slots are taken", slots)
	}
	return free, nil
}

// Renew implements store.Nodes.
func (s *Store) Renew(ctx context.Context, node waypost.NodeID, ttl time.Duration, now time.Time, seen waypost.NodeID) ([]store.Member, error) {
	var members []store.Member
	err := s.Update(ctx, "renew lease", func(ctx context.Context, tx *sql.Tx) error {
		clock, err := s.leaseClock(ctx, tx, now)
		if err != nil {
			return err
		}
		var id waypost.NodeID
		err = tx.QueryRowContext(ctx,
			`UPDATE nodes SET lease_until = $2, seen = $4 WHERE id = $1 AND lease_until > $3 RETURNING id`,
			int64(node), Millis(clock.Add(ttl)), Millis(clock), int64(seen)).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrLeaseLost
		}
		if err != nil {
			return err
		}
		members, err = collect(ctx, tx, func(row scanner) (m store.Member, err error) {
			return m, row.Scan(&m.Node, &m.Seen)
		}, `SELECT id, seen FROM nodes WHERE id = $1 OR lease_until > $2 ORDER BY id`, int64(node), Millis(clock))
		return err
	})
	return members, err
}

// Leave implements store.Nodes.
func (s *Store) Leave(ctx context.Context, node waypost.NodeID, now time.Time) error {
	return s.Update(ctx, "leave", func(ctx context.Context, tx *sql.Tx) error {
		ended, err := endLeases(ctx, tx, `id = $1`, int64(node))
		if err != nil {
			return err
		}
		_, err = s.release(ctx, tx, ended, now)
		return err
	})
}

// Adopt implements store.Nodes.
func (s *Store) Adopt(ctx context.Context, now time.Time) (int, error) {
	var released int
	err := s.Update(ctx, "adopt deliveries", func(ctx context.Context, tx *sql.Tx) error {
		clock, err := s.leaseClock(ctx, tx, now)
		if err != nil {
			return err
		}
		released, err = s.adopt(ctx, tx, clock, now)
		return err
	})
	if err != nil {
		return 0, err
	}
	return released, nil
}

// AdoptAll ends every lease, for a store that knows it is alone.
func (s *Store) AdoptAll(ctx context.Context) error {
	return s.Update(ctx, "adopt deliveries", func(ctx context.Context, tx *sql.Tx) error {
		ended, err := endLeases(ctx, tx, `id <> $1`, 0)
		if err != nil {
			return err
		}
		_, err = s.release(ctx, tx, ended, s.now())
		return err
	})
}

func (s *Store) adopt(ctx context.Context, tx *sql.Tx, clock, now time.Time) (int, error) {
	ended, err := endLeases(ctx, tx, `lease_until <= $1`, Millis(clock))
	if err != nil {
		return 0, err
	}
	return s.release(ctx, tx, ended, now)
}

// endLeases removes nodes. It waits for what they are just committing, and
// nothing they commit later will be let through.
func endLeases(ctx context.Context, tx *sql.Tx, condition string, arg int64) ([]waypost.NodeID, error) {
	return collect(ctx, tx, func(row scanner) (id waypost.NodeID, err error) {
		return id, row.Scan(&id)
	}, `DELETE FROM nodes WHERE `+condition+` RETURNING id`, arg)
}

const releaseQuery = `
UPDATE deliveries SET node_id = 0, due = CASE WHEN due = 0 OR due > $2 THEN $2 ELSE due END
WHERE node_id = $1 AND node_id <> 0`

// release makes due what was in the nodes' hands. It is a statement of its own,
// after endLeases, so that it sees what those nodes committed last.
func (s *Store) release(ctx context.Context, tx *sql.Tx, nodes []waypost.NodeID, now time.Time) (int, error) {
	var released int
	for _, node := range nodes {
		result, err := tx.ExecContext(ctx, releaseQuery, int64(node), Millis(now))
		if err != nil {
			return 0, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		released += int(n)
	}
	if released == 0 {
		return 0, nil
	}
	return released, s.notify(ctx, tx)
}

// Clock implements store.Nodes.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	err := s.view(ctx, "read the clock", func(tx *sql.Tx) (err error) {
		now, err = s.leaseClock(ctx, tx, s.now())
		return err
	})
	return now, err
}

func (s *Store) leaseClock(ctx context.Context, tx *sql.Tx, now time.Time) (time.Time, error) {
	if s.flavor.LeaseClock == nil {
		return now, nil
	}
	return s.flavor.LeaseClock(ctx, tx)
}
