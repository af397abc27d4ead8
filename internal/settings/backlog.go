package settings

import (
	"context"
	"fmt"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Resumption says how what was held goes out. The zero value: oldest first, all
// of it.
type Resumption struct {
	Order waypost.Drain
	// SkipOlderThan, if not nil, is the age from which on events do not go out
	// any more but end as exhausted with waypost.ReasonSkipped.
	SkipOlderThan *time.Duration
}

// Resume makes an endpoint active, whatever had stopped it, and sets how its
// backlog goes out; for an active endpoint it does only the latter.
func (s *Service) Resume(ctx context.Context, id waypost.EndpointID, r Resumption) (waypost.Endpoint, error) {
	var faults []waypost.FieldError
	if r.Order != waypost.DrainOldest && r.Order != waypost.DrainNewest {
		faults = append(faults, waypost.FieldError{Field: "order", Message: "must be oldest or newest"})
	}
	told := detail{"order": orderText(r.Order)}
	var skipBefore waypost.EventID
	if r.SkipOlderThan != nil {
		if *r.SkipOlderThan < 0 {
			faults = append(faults, waypost.FieldError{Field: "skip_older_than", Message: "must not be negative"})
		}
		skipBefore = waypost.FirstEventID(s.now().Add(-*r.SkipOlderThan))
		told["skip_before"] = timeText(skipBefore.Time())
	}
	if err := invalid(faults); err != nil {
		return waypost.Endpoint{}, err
	}
	return s.actOn(ctx, "endpoint.resume", id, told, func(e *waypost.Endpoint) error {
		e.State, e.StateReason = waypost.EndpointActive, ""
		e.Drain, e.SkipBefore = r.Order, skipBefore
		return nil
	})
}

func orderText(d waypost.Drain) string {
	if d == waypost.DrainOldest {
		return "oldest"
	}
	return string(d)
}

func timeText(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// Backlog counts what is owed to an endpoint, of events accepted before a time
// (zero: of all), in nodes' hands or not.
func (s *Service) Backlog(ctx context.Context, id waypost.EndpointID, before time.Time) (store.Backlog, error) {
	if _, err := s.Endpoint(ctx, id); err != nil {
		return store.Backlog{}, err
	}
	var bound waypost.EventID
	if !before.IsZero() {
		bound = waypost.FirstEventID(before)
	}
	return s.store.Backlog(ctx, id, bound)
}

// purgeStep is how many deliveries are given up in one transaction, so that
// nothing else waits for a purge for long.
const purgeStep = 200

// Purged is what a purge did.
type Purged struct {
	Count int // given up
	Left  int // that were in a node's hand, or came back, and are still owed
}

// Purge gives up what is owed to an endpoint of events accepted before a time and
// is in nobody's hand, as exhausted with waypost.ReasonPurged. It gives up no
// more than was confirmed: KindConflict, and nothing is done, if by now there is
// more of it.
//
// Once begun it goes on if the caller goes away. The trail holds an entry from
// before it began and one from when it ended; where the second is missing the
// gateway was stopped in between, and purging again is right.
func (s *Service) Purge(ctx context.Context, id waypost.EndpointID, before time.Time, confirmed int) (Purged, error) {
	e, err := s.Endpoint(ctx, id)
	if err != nil {
		return Purged{}, err
	}
	if before.After(s.now()) {
		return Purged{}, waypost.Invalid(waypost.FieldError{Field: "before", Message: "must not lie in the future"})
	}
	bound := waypost.FirstEventID(before)
	backlog, err := s.store.Backlog(ctx, id, bound)
	if err != nil {
		return Purged{}, err
	}
	if backlog.Count > confirmed {
		return Purged{}, waypost.Errorf(waypost.KindConflict,
			"%d deliveries would be dropped now, but %d were confirmed; look again and confirm that count", backlog.Count, confirmed)
	}
	purge := act{"endpoint.purge", e.TenantID, id, detail{"before": timeText(before), "count": backlog.Count}}
	if err := s.announce(ctx, purge); err != nil {
		return Purged{}, err
	}
	return s.purge(context.WithoutCancel(ctx), purge, id, bound, confirmed)
}

// purge does what was announced and notes what came of it.
func (s *Service) purge(ctx context.Context, a act, id waypost.EndpointID, before waypost.EventID, atMost int) (Purged, error) {
	var purged Purged
	var err error
	for purged.Count < atMost && err == nil {
		step, dropped := min(purgeStep, atMost-purged.Count), 0
		dropped, err = s.store.Drop(ctx, id, before, waypost.ReasonPurged, s.now(), step)
		purged.Count += dropped
		if dropped < step {
			break
		}
	}
	a.detail = detail{"before": a.detail["before"], "purged": purged.Count}
	if err == nil {
		var left store.Backlog
		left, err = s.store.Backlog(ctx, id, before)
		purged.Left = left.Count
		a.detail["left"] = left.Count
	}
	if err != nil {
		a.detail["failed"] = true
		err = fmt.Errorf("purge, after %d deliveries: %w", purged.Count, err)
	}
	s.note(ctx, a)
	return purged, err
}

// admit lets an endpoint take an event again that it was once resumed without:
// who retries an older one wants it delivered. What the resume was to skip must
// be gone by then, or it would go out too.
func (s *Service) admit(ctx context.Context, id waypost.EndpointID, event waypost.EventID) error {
	e := s.directory.Endpoint(id)
	if e == nil || event >= e.SkipBefore {
		return nil
	}
	backlog, err := s.store.Backlog(ctx, id, e.SkipBefore)
	if err != nil {
		return err
	}
	if backlog.Count > 0 {
		return waypost.Errorf(waypost.KindConflict,
			"endpoint %s still gives up what is older than it was resumed for; try again in a moment, or resume it without skipping", id)
	}
	skipBefore := e.SkipBefore
	_, err = s.edit(ctx, id, func(e *waypost.Endpoint) error {
		if e.SkipBefore == skipBefore {
			e.SkipBefore = 0
		}
		return nil
	})
	return err
}
