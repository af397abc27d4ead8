package settings

import (
	"context"
	"slices"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// RetryDelivery makes a delivery due now, a settled one with its schedule at
// the start.
func (s *Service) RetryDelivery(ctx context.Context, id waypost.DeliveryID) error {
	if _, err := s.store.Delivery(ctx, id); err != nil {
		return err
	}
	if err := s.admit(ctx, id.Endpoint, id.Event); err != nil {
		return err
	}
	var tenant waypost.TenantID
	if e := s.directory.Endpoint(id.Endpoint); e != nil {
		tenant = e.TenantID
	}
	err := s.do(ctx, act{"delivery.retry", tenant, id, nil}, func() error { return s.store.Retry(ctx, id, s.now()) })
	if err != nil {
		return err
	}
	s.onWork(id.Endpoint)
	return nil
}

// ReplayEvent owes a stored event again to all endpoints that would be owed it
// now, or to one of them. An unrouted event is first given its owner, if there
// is one by now, and a notice that no lifecycle has followed yet is followed. It
// returns the deliveries.
func (s *Service) ReplayEvent(ctx context.Context, id waypost.EventID, only waypost.EndpointID) ([]waypost.DeliveryID, error) {
	record, err := s.store.Event(ctx, id)
	if err != nil {
		return nil, err
	}
	event := record.Event
	if event.TenantID == 0 {
		if event.TenantID, event.NumberID = s.directory.Owner(event.PhoneNumberID, event.WABAID, ""); event.TenantID == 0 {
			return nil, waypost.Errorf(waypost.KindConflict, "no tenant owns this event yet; create the number with its phone_number_id first")
		}
	}
	told := detail{}
	if only != 0 {
		if _, err := s.Endpoint(ctx, only); err != nil {
			return nil, err
		}
		told["endpoint_id"] = only.String()
	}
	var ids []waypost.DeliveryID
	err = s.do(ctx, act{"event.replay", event.TenantID, id, told}, func() error {
		if record.TenantID == 0 {
			if err := s.store.Reroute(ctx, id, event.TenantID, event.NumberID); err != nil {
				return err
			}
			event.State = waypost.EventRouted
		}
		ids, err = s.replay(ctx, &event, only)
		return err
	})
	return ids, err
}

// replay owes an event that has an owner again.
func (s *Service) replay(ctx context.Context, event *waypost.Event, only waypost.EndpointID) ([]waypost.DeliveryID, error) {
	if err := s.Follow(ctx, event); err != nil {
		return nil, err
	}
	targets := s.router.Route(event)
	if only != 0 {
		targets = slices.DeleteFunc(targets, func(t dialect.Target) bool { return t.Endpoint.ID != only })
		if len(targets) == 0 {
			return nil, waypost.Errorf(waypost.KindConflict, "the endpoint does not take this event as it is set now")
		}
	}
	if len(targets) == 0 {
		return nil, nil
	}
	for _, target := range targets {
		if err := s.admit(ctx, target.Endpoint.ID, event.ID); err != nil {
			return nil, err
		}
	}
	owed, ids := owings(event.ID, targets)
	if err := s.store.Owe(ctx, event.ID, owed, s.now()); err != nil {
		return nil, err
	}
	for _, owing := range owed {
		s.onWork(owing.Endpoint)
	}
	return ids, nil
}

// owings are the targets in the store's words. A delivery only waits for one
// that is owed as well.
func owings(event waypost.EventID, targets []dialect.Target) ([]store.Owing, []waypost.DeliveryID) {
	among := func(e *waypost.Endpoint) bool {
		return e != nil && slices.ContainsFunc(targets, func(t dialect.Target) bool { return t.Endpoint.ID == e.ID })
	}
	owed := make([]store.Owing, len(targets))
	ids := make([]waypost.DeliveryID, len(targets))
	for i, target := range targets {
		owed[i].Endpoint = target.Endpoint.ID
		if among(target.After) {
			owed[i].After = target.After.ID
		}
		ids[i] = waypost.DeliveryID{Event: event, Endpoint: target.Endpoint.ID}
	}
	return owed, ids
}
