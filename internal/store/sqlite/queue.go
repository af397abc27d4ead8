package sqlite

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Accept implements store.Queue.
func (s *Store) Accept(ctx context.Context, node waypost.NodeID, batch []store.Arrival) ([]store.Receipt, error) {
	var receipts []store.Receipt
	err := s.fenced(ctx, "accept events", node, atOnce, func(w *writer) error {
		var err error
		if receipts, err = w.claimKeys(batch); err != nil {
			return err
		}
		events, owed := s.rows(w, node, batch, receipts)
		if err := w.events.exec(events); err != nil {
			return err
		}
		if err := w.owed.exec(owed); err != nil {
			return err
		}
		return s.countRepeats(w, receipts)
	})
	if err != nil {
		return nil, err
	}
	return receipts, nil
}

// rows are the values to insert for the arrivals that are no repeats.
func (s *Store) rows(w *writer, node waypost.NodeID, batch []store.Arrival, receipts []store.Receipt) (events, owed []driver.Value) {
	now := s.Now()
	events, owed = w.events.rows(len(batch)), w.owed.rows(len(batch))
	var scratch []sqlstore.OwedRow
	for i := range batch {
		if receipts[i].Duplicate {
			continue
		}
		e := &batch[i].Event
		events = append(events, int64(e.ID))
		events = like(w.events, events, sqlstore.Text(e.Type))
		events = like(w.events, events, string(e.State))
		events = like(w.events, events, int64(e.TenantID))
		events = like(w.events, events, int64(e.NumberID))
		events = like(w.events, events, int64(e.SourceID))
		events = like(w.events, events, sqlstore.Text(e.PhoneNumberID))
		events = like(w.events, events, sqlstore.Text(e.WABAID))
		events = append(events, e.Conversation)
		events = like(w.events, events, string(e.Form))
		events = append(events, sqlstore.Millis(e.OccurredAt), sqlstore.Bytes(e.Body))
		scratch = sqlstore.OwedRows(scratch[:0], node, &batch[i], now)
		for _, row := range scratch {
			owed = append(owed, int64(row.Event))
			owed = like(w.owed, owed, int64(row.Endpoint))
			owed = like(w.owed, owed, int64(row.Node))
			owed = like(w.owed, owed, row.Due)
			owed = like(w.owed, owed, int64(row.After))
		}
	}
	return events, owed
}

// countRepeats links each duplicate to the event that came first.
func (s *Store) countRepeats(w *writer, receipts []store.Receipt) error {
	now := sqlstore.Millis(s.Now())
	for i := range receipts {
		if !receipts[i].Duplicate {
			continue
		}
		if _, err := w.repeat.exec(int64(receipts[i].Event), now); err != nil {
			return err
		}
	}
	return nil
}

// Take implements store.Queue. ErrLeaseLost if the node's lease has run out.
func (s *Store) Take(ctx context.Context, node waypost.NodeID, endpoint waypost.EndpointID, now time.Time, limit int, order store.Order) ([]store.Owed, error) {
	var taken []store.Owed
	err := s.fenced(ctx, "take deliveries", node, soon, func(w *writer) error {
		var err error
		if taken, err = w.due(endpoint, now, limit, order); err != nil {
			return err
		}
		events := w.hand.rows(len(taken))
		for i := range taken {
			events = append(events, int64(taken[i].Event.ID))
		}
		return w.hand.exec(events, int64(node), int64(endpoint))
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

func (w *writer) due(endpoint waypost.EndpointID, now time.Time, limit int, order store.Order) (due []store.Owed, err error) {
	statement := w.oldest
	if order == store.NewestEvent {
		statement = w.newest
	}
	err = statement.query(func(r row) error {
		one := store.Owed{Endpoint: endpoint}
		var body []byte
		event, err := sqlstore.ScanEvent(r, &body, &one.Attempts, &one.Step)
		event.Body = body
		one.Event = &event
		due = append(due, one)
		return err
	}, int64(endpoint), sqlstore.Millis(now), int64(limit))
	return due, err
}
