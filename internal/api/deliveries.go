package api

import (
	"context"
	"net/http"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const maxLimit = 1000

// deliveryView is a delivery in a list.
type deliveryView struct {
	ID            string  `json:"id"`
	EventID       string  `json:"event_id"`
	EndpointID    string  `json:"endpoint_id"`
	State         string  `json:"state" enum:"pending,held,delivered,exhausted"`
	Attempts      int     `json:"attempts" doc:"requests made so far"`
	NextAttemptAt *moment `json:"next_attempt_at" nullable:"true" doc:"null once settled, and while it waits for another delivery"`
	LastStatus    int     `json:"last_status" doc:"of the last attempt; 0: none, or no answer"`
	Reason        string  `json:"reason,omitempty" doc:"of the last attempt, or why it was given up"`
}

func showDelivery(d *waypost.Delivery) deliveryView {
	view := deliveryView{
		ID:         d.ID.String(),
		EventID:    d.ID.Event.String(),
		EndpointID: d.ID.Endpoint.String(),
		State:      string(d.State),
		Attempts:   d.Attempts,
		LastStatus: d.LastStatus,
		Reason:     string(d.Reason),
	}
	if !d.NextAttemptAt.IsZero() {
		at := moment(d.NextAttemptAt)
		view.NextAttemptAt = &at
	}
	return view
}

func (s *service) registerDeliveries(r *registrar) {
	add(r, call{path: "/deliveries", id: "list-deliveries", summary: "List deliveries"}, s.listDeliveries)
	add(r, call{path: "/deliveries/{id}", id: "get-delivery", summary: "Show a delivery"}, s.getDelivery)
	add(r, call{
		method: http.MethodPost, path: "/deliveries/{id}/retry", id: "retry-delivery", status: http.StatusAccepted,
		summary: "Make a delivery due now; a settled one starts its schedule anew",
	}, s.retryDelivery)
}

type deliveryFilter struct {
	EndpointID string `query:"endpoint_id"`
	EventID    string `query:"event_id"`
	State      string `query:"state" enum:"pending,held,delivered,exhausted"`
	Paging
}

func (s *service) listDeliveries(ctx context.Context, f *deliveryFilter) (*answer[pageView[deliveryView]], error) {
	var in input
	filter := store.DeliveryFilter{
		EndpointID: filterID(&in, "endpoint_id", f.EndpointID, waypost.ParseEndpointID),
		EventID:    filterID(&in, "event_id", f.EventID, waypost.ParseEventID),
		Before:     filterID(&in, "cursor", f.Cursor, waypost.ParseDeliveryID),
		State:      waypost.DeliveryState(f.State),
		Limit:      oneMore(f.Limit),
	}
	if err := in.err(); err != nil {
		return nil, err
	}
	deliveries, err := s.records.Deliveries(ctx, filter)
	if err != nil {
		return nil, err
	}
	return recordPage(deliveries, f.Limit, showDelivery, func(d *waypost.Delivery) string { return d.ID.String() }), nil
}

func (s *service) getDelivery(ctx context.Context, in *struct {
	ID string `path:"id"`
},
) (*answer[deliveryView], error) {
	id, err := waypost.ParseDeliveryID(in.ID)
	if err != nil {
		return nil, err
	}
	d, err := s.records.Delivery(ctx, id)
	return shown(showDelivery, &d, err)
}

func (s *service) retryDelivery(ctx context.Context, in *struct {
	ID string `path:"id"`
},
) (*answer[deliveryView], error) {
	id, err := waypost.ParseDeliveryID(in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.settings.RetryDelivery(ctx, id); err != nil {
		return nil, err
	}
	d, err := s.records.Delivery(ctx, id)
	return shown(showDelivery, &d, err)
}

// oneMore is how many records to ask for so as to know whether there is
// another page. At the store's own limit a full page may be followed by an
// empty one.
func oneMore(limit int) int { return min(limit+1, maxLimit) }

// recordPage shows records that were read with oneMore.
func recordPage[Row, View any](rows []Row, limit int, show func(*Row) View, cursor func(*Row) string) *answer[pageView[View]] {
	out := &answer[pageView[View]]{Body: pageView[View]{Data: []View{}}}
	if len(rows) > limit || len(rows) == maxLimit {
		rows = rows[:limit]
		out.Body.Next = cursor(&rows[limit-1])
	}
	for i := range rows {
		out.Body.Data = append(out.Body.Data, show(&rows[i]))
	}
	return out
}
