package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// takeQueries pass over what another node is just taking. Each order has an index
// of its own, so however long the backlog is, it is not sorted.
var takeQueries = map[store.Order]string{
	store.OldestDue:   takeQuery("due, event_id"),
	store.NewestEvent: takeQuery("event_id DESC NULLS LAST"),
}

func takeQuery(order string) string {
	return `
WITH ready AS MATERIALIZED (
	SELECT event_id, endpoint_id FROM deliveries
	WHERE endpoint_id = $2 AND node_id = 0 AND after_endpoint = 0 AND due <= $3
	ORDER BY ` + order + ` LIMIT $4
	FOR UPDATE SKIP LOCKED
), taken AS (
	UPDATE deliveries d SET node_id = $1 FROM ready
	WHERE d.event_id = ready.event_id AND d.endpoint_id = ready.endpoint_id
	RETURNING d.event_id, d.due, d.attempts, d.step
)
SELECT ` + sqlstore.EventColumns + `, body, attempts, step
FROM taken JOIN events ON events.id = taken.event_id
ORDER BY ` + order
}

// Take implements store.Queue. ErrLeaseLost if the node's lease has run out.
func (s *Store) Take(ctx context.Context, node waypost.NodeID, endpoint waypost.EndpointID, now time.Time, limit int, order store.Order) ([]store.Owed, error) {
	var taken []store.Owed
	err := s.fenced(ctx, fencedWork{
		verb: "take deliveries",
		node: node,
		opening: func(b *pgx.Batch) {
			taken = nil
			b.Queue("SET LOCAL synchronous_commit TO off") // who has what in hand is worth nothing after a crash
			b.Queue(takeQueries[order], int64(node), int64(endpoint), sqlstore.Millis(now), limit).Query(read(func(rows pgx.Rows) error {
				one := store.Owed{Endpoint: endpoint}
				var body []byte
				event, err := sqlstore.ScanEvent(rows, &body, &one.Attempts, &one.Step)
				event.Body = body
				one.Event = &event
				taken = append(taken, one)
				return err
			}))
		},
	})
	if err != nil {
		hand := make([]waypost.DeliveryID, len(taken))
		for i := range taken {
			hand[i] = waypost.DeliveryID{Event: taken[i].Event.ID, Endpoint: endpoint}
		}
		s.doubts.noteIf(err, node, hand)
		return nil, err
	}
	return taken, nil
}
