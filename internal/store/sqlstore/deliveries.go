package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"math"
	"slices"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// lastAttempt selects a column of the last attempt of the delivery in row d.
func lastAttempt(column, otherwise string) string {
	return `COALESCE((SELECT a.` + column + ` FROM attempts a
	WHERE a.event_id = d.event_id AND a.endpoint_id = d.endpoint_id ORDER BY a.n DESC LIMIT 1), ` + otherwise + `)`
}

// A delivery is in exactly one of three places: it is owed, or given up, or, in
// neither table, its last attempt was received. Each query below gives the
// columns that scanDelivery reads, from one of them.
var (
	owedDeliveries = `SELECT d.event_id, d.endpoint_id, ` + openState + `, d.attempts,
	CASE WHEN d.after_endpoint = 0 THEN d.due ELSE 0 END, ` +
		lastAttempt("status", "0") + `, ` + lastAttempt("reason", "''") + `
FROM deliveries d LEFT JOIN endpoints e ON e.id = d.endpoint_id`

	exhaustedDeliveries = `SELECT d.event_id, d.endpoint_id, 'exhausted', d.attempts, 0, ` +
		lastAttempt("status", "0") + `, d.reason
FROM exhausted d`

	deliveredDeliveries = `SELECT d.event_id, d.endpoint_id, 'delivered', d.n, 0, d.status, d.reason
FROM attempts d`
)

// openState tells pending from held; it agrees with waypost.Endpoint.Open.
const openState = `CASE WHEN e.state = 'active' AND e.url <> '' AND e.deleted_at = 0 THEN 'pending' ELSE 'held' END`

// lastReceived keeps, of the attempts d, those that settled their delivery.
const lastReceived = `d.outcome = 'delivered'
AND NOT EXISTS (SELECT 1 FROM attempts b WHERE b.event_id = d.event_id AND b.endpoint_id = d.endpoint_id AND b.n > d.n)
AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.event_id = d.event_id AND o.endpoint_id = d.endpoint_id)
AND NOT EXISTS (SELECT 1 FROM exhausted x WHERE x.endpoint_id = d.endpoint_id AND x.event_id = d.event_id)`

func scanDelivery(row scanner) (waypost.Delivery, error) {
	var d waypost.Delivery
	var due int64
	err := row.Scan(&d.ID.Event, &d.ID.Endpoint, &d.State, &d.Attempts, &due, &d.LastStatus, &d.Reason)
	d.NextAttemptAt = FromMillis(due)
	return d, err
}

// Delivery implements store.Log.
func (s *Store) Delivery(ctx context.Context, id waypost.DeliveryID) (waypost.Delivery, error) {
	list, err := s.Deliveries(ctx, store.DeliveryFilter{EventID: id.Event, EndpointID: id.Endpoint, Limit: 1})
	if err != nil {
		return waypost.Delivery{}, err
	}
	if len(list) == 0 {
		return waypost.Delivery{}, waypost.Errorf(waypost.KindNotFound, "no delivery has the id %q", id)
	}
	return list[0], nil
}

// Deliveries implements store.Log. What is owed, given up and received is listed
// from one moment, so that a delivery which is just being settled is neither
// missing nor there twice.
func (s *Store) Deliveries(ctx context.Context, f store.DeliveryFilter) ([]waypost.Delivery, error) {
	f.Limit = clampLimit(f.Limit)
	if f.Before == (waypost.DeliveryID{}) {
		f.Before = waypost.DeliveryID{Event: math.MaxInt64, Endpoint: math.MaxInt64}
	}
	var all []waypost.Delivery
	err := s.view(ctx, "list deliveries", func(tx *sql.Tx) error {
		all = nil
		for _, list := range sources(f.State) {
			some, err := list(ctx, tx, f)
			if err != nil {
				return err
			}
			all = append(all, some...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	sortNewestFirst(all)
	return all[:min(len(all), f.Limit)], nil
}

type deliverySource func(context.Context, *sql.Tx, store.DeliveryFilter) ([]waypost.Delivery, error)

// sources are the places where deliveries of a state are found.
func sources(state waypost.DeliveryState) []deliverySource {
	switch state {
	case waypost.DeliveryPending, waypost.DeliveryHeld:
		return []deliverySource{listOwed}
	case waypost.DeliveryExhausted:
		return []deliverySource{listExhausted}
	case waypost.DeliveryDelivered:
		return []deliverySource{listDelivered}
	default:
		return []deliverySource{listOwed, listExhausted, listDelivered}
	}
}

// deliveryConditions are those that all sources share.
func deliveryConditions(f store.DeliveryFilter) *conditions {
	c := &conditions{}
	if f.EventID != 0 {
		c.add("d.event_id = ?", int64(f.EventID))
	}
	if f.EndpointID != 0 {
		c.add("d.endpoint_id = ?", int64(f.EndpointID))
	}
	c.add("(d.event_id, d.endpoint_id) < (?, ?)", int64(f.Before.Event), int64(f.Before.Endpoint))
	return c
}

func listDeliveries(ctx context.Context, tx *sql.Tx, from string, c *conditions, limit int) ([]waypost.Delivery, error) {
	query := from + c.where() + ` ORDER BY d.event_id DESC, d.endpoint_id DESC LIMIT ` + c.arg(limit)
	return collect(ctx, tx, scanDelivery, query, c.args...)
}

func listOwed(ctx context.Context, tx *sql.Tx, f store.DeliveryFilter) ([]waypost.Delivery, error) {
	c := deliveryConditions(f)
	if f.State != "" {
		c.add(openState+" = ?", string(f.State))
	}
	return listDeliveries(ctx, tx, owedDeliveries, c, f.Limit)
}

func listExhausted(ctx context.Context, tx *sql.Tx, f store.DeliveryFilter) ([]waypost.Delivery, error) {
	return listDeliveries(ctx, tx, exhaustedDeliveries, deliveryConditions(f), f.Limit)
}

func listDelivered(ctx context.Context, tx *sql.Tx, f store.DeliveryFilter) ([]waypost.Delivery, error) {
	if f.EndpointID != 0 && f.EventID == 0 {
		return walkDelivered(ctx, tx, f)
	}
	c := deliveryConditions(f)
	c.add(lastReceived)
	return listDeliveries(ctx, tx, deliveredDeliveries, c, f.Limit)
}

// walkDelivered lists what one endpoint received. Attempts have no index by
// endpoint, which every delivery would pay for; instead it walks the tenant's
// events, of which it looks at walkStep at a time.
func walkDelivered(ctx context.Context, tx *sql.Tx, f store.DeliveryFilter) ([]waypost.Delivery, error) {
	var tenant int64
	err := tx.QueryRowContext(ctx, `SELECT COALESCE((SELECT tenant_id FROM endpoints WHERE id = $1), 0)`, int64(f.EndpointID)).Scan(&tenant)
	if err != nil || tenant == 0 {
		return nil, err
	}
	var received []waypost.Delivery
	for high := int64(f.Before.Event); len(received) < f.Limit; {
		var low, count int64
		err := tx.QueryRowContext(ctx, `SELECT COALESCE(MIN(id), 0), COUNT(*) FROM
	(SELECT id FROM events WHERE tenant_id = $1 AND id <= $2 ORDER BY id DESC LIMIT $3) step`,
			tenant, high, walkStep).Scan(&low, &count)
		if err != nil || count == 0 {
			return received, err
		}
		c := deliveryConditions(f)
		c.add(lastReceived)
		c.add(`d.event_id IN (SELECT id FROM events WHERE tenant_id = ? AND id BETWEEN ? AND ?)`, tenant, low, high)
		some, err := listDeliveries(ctx, tx, deliveredDeliveries, c, f.Limit-len(received))
		if err != nil {
			return nil, err
		}
		received = append(received, some...)
		high = low - 1
	}
	return received, nil
}

func sortNewestFirst(deliveries []waypost.Delivery) {
	slices.SortFunc(deliveries, func(a, b waypost.Delivery) int {
		return cmp.Or(cmp.Compare(b.ID.Event, a.ID.Event), cmp.Compare(b.ID.Endpoint, a.ID.Endpoint))
	})
}
