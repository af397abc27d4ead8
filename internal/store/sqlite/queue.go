package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// fenced runs work in a transaction of a node whose lease is live. There is one
// writer, so the lease can't end before the transaction does.
func (s *Store) fenced(ctx context.Context, verb string, node waypost.NodeID, work func(context.Context, *sql.Tx) error) error {
	err := s.Update(ctx, verb, func(ctx context.Context, tx *sql.Tx) error {
		var live int
		err := queryRow(ctx, tx, s.hot.lease, int64(node), sqlstore.Millis(s.Now())).Scan(&live)
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrLeaseLost
		}
		if err != nil {
			return err
		}
		return work(ctx, tx)
	})
	s.checkpoints.wrote()
	return err
}

// Accept implements store.Queue.
func (s *Store) Accept(ctx context.Context, node waypost.NodeID, batch []store.Arrival) ([]store.Receipt, error) {
	var receipts []store.Receipt
	err := s.fenced(ctx, "accept events", node, func(ctx context.Context, tx *sql.Tx) error {
		fresh, err := s.claimKeys(ctx, tx, batch)
		if err != nil {
			return err
		}
		receipts = make([]store.Receipt, len(batch))
		events, owed := s.rows(node, batch, func(i int) bool {
			event := batch[i].Event.ID
			receipts[i] = store.Receipt{Event: event}
			if len(batch[i].DedupeKey) > 0 && !fresh[event] {
				receipts[i].Duplicate = true
			}
			return !receipts[i].Duplicate
		})
		if err := s.hot.events.exec(ctx, tx, events); err != nil {
			return err
		}
		if err := s.hot.owed.exec(ctx, tx, owed); err != nil {
			return err
		}
		return s.countRepeats(ctx, tx, batch, receipts)
	})
	if err != nil {
		return nil, err
	}
	return receipts, nil
}

// claimKeys gives the events whose dedupe keys were not known before.
func (s *Store) claimKeys(ctx context.Context, tx *sql.Tx, batch []store.Arrival) (map[waypost.EventID]bool, error) {
	leaders := sqlstore.Leaders(batch)
	fresh := make(map[waypost.EventID]bool, len(leaders))
	values := make([]any, 0, 2*len(leaders))
	for _, i := range leaders {
		values = append(values, batch[i].DedupeKey, int64(batch[i].Event.ID))
	}
	claimed, err := s.hot.dedupe.change(ctx, tx, values)
	if err != nil {
		return nil, err
	}
	if claimed == int64(len(leaders)) {
		for _, i := range leaders {
			fresh[batch[i].Event.ID] = true
		}
		return fresh, nil
	}
	err = s.hot.claimed.query(ctx, tx, func(rows *sql.Rows) error {
		var id waypost.EventID
		err := rows.Scan(&id)
		fresh[id] = true
		return err
	}, values)
	return fresh, err
}

// rows are the values to insert for the arrivals that are to be stored.
func (s *Store) rows(node waypost.NodeID, batch []store.Arrival, stored func(i int) bool) (events, owed []any) {
	now := s.Now()
	events = make([]any, 0, 12*len(batch))
	owed = make([]any, 0, 7*len(batch))
	var scratch []sqlstore.OwedRow
	for i := range batch {
		if !stored(i) {
			continue
		}
		e := &batch[i].Event
		events = append(events, int64(e.ID), sqlstore.Text(e.Type), string(e.State), int64(e.TenantID), int64(e.NumberID), int64(e.SourceID),
			sqlstore.Text(e.PhoneNumberID), sqlstore.Text(e.WABAID), e.Conversation, string(e.Form),
			sqlstore.Millis(e.OccurredAt), sqlstore.Bytes(e.Body))
		scratch = sqlstore.OwedRows(scratch[:0], node, &batch[i], now)
		for _, row := range scratch {
			owed = append(owed, int64(row.Event), int64(row.Endpoint), int64(row.Node), row.Due, int64(row.After), int64(0), int64(0))
		}
	}
	return events, owed
}

// countRepeats links each duplicate to the event that came first.
func (s *Store) countRepeats(ctx context.Context, tx *sql.Tx, batch []store.Arrival, receipts []store.Receipt) error {
	now := sqlstore.Millis(s.Now())
	for i := range receipts {
		if !receipts[i].Duplicate {
			continue
		}
		err := queryRow(ctx, tx, s.hot.firstSeen, batch[i].DedupeKey).Scan(&receipts[i].Event)
		if err != nil {
			return fmt.Errorf("find first event: %w", err)
		}
		if _, err := exec(ctx, tx, s.hot.repeat, int64(receipts[i].Event), now); err != nil {
			return err
		}
	}
	return nil
}

// Take implements store.Queue. ErrLeaseLost if the node's lease has run out.
func (s *Store) Take(ctx context.Context, node waypost.NodeID, endpoint waypost.EndpointID, now time.Time, limit int, order store.Order) ([]store.Owed, error) {
	var taken []store.Owed
	err := s.fenced(ctx, "take deliveries", node, func(ctx context.Context, tx *sql.Tx) error {
		var err error
		if taken, err = s.due(ctx, tx, endpoint, now, limit, order); err != nil {
			return err
		}
		values := make([]any, 0, 2*len(taken))
		for i := range taken {
			values = append(values, int64(taken[i].Event.ID), int64(endpoint))
		}
		return s.hot.hand.exec(ctx, tx, values, int64(node))
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

func (s *Store) due(ctx context.Context, tx *sql.Tx, endpoint waypost.EndpointID, now time.Time, limit int, order store.Order) ([]store.Owed, error) {
	statement := s.hot.oldest
	if order == store.NewestEvent {
		statement = s.hot.newest
	}
	rows, err := query(ctx, tx, statement, int64(endpoint), sqlstore.Millis(now), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var due []store.Owed
	for rows.Next() {
		one := store.Owed{Endpoint: endpoint}
		var body []byte
		event, err := sqlstore.ScanEvent(rows, &body, &one.Attempts, &one.Step)
		if err != nil {
			return nil, err
		}
		event.Body = body
		one.Event = &event
		due = append(due, one)
	}
	return due, rows.Err()
}
