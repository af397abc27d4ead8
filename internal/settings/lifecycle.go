package settings

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/waypost-gateway/waypost/internal/lifecycle"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// How far a number has come is told to its tenant as platform.whatsapp events.
// It moves by hand, and by notices of Meta's as they come in. The second way
// loses nothing: a notice is followed before its request is answered, and a
// failure is answered like one of the store, so that Meta sends it again. That
// is safe because each step can be made twice: the event that is told has an
// idempotency key made of the notice and the number, and a number remembers the
// last notice it followed, so that one which is repeated after a newer one came
// moves nothing back.

// Publish stores an event that the gateway has to tell, durably. A repeat of the
// tenant's idempotency key (empty: none) gives the id of the first event.
type Publish func(ctx context.Context, tenant waypost.TenantID, number waypost.NumberID, eventType string, data json.RawMessage, idempotencyKey string) (waypost.EventID, error)

// extraInfo are the states in the provider's numbers.
var extraInfo = map[waypost.Lifecycle]int{
	waypost.LifecycleOnboarded: 1,
	waypost.LifecycleReceiving: 2,
	waypost.LifecycleReady:     3,
	waypost.LifecycleDeleted:   4,
	waypost.LifecycleFailed:    5,
}

// inUse reports whether a number in this state is, or will be, of use: then the
// tenant is told its daily limit and its key too.
func inUse(state waypost.Lifecycle) bool {
	return state == waypost.LifecycleOnboarded || state == waypost.LifecycleReceiving || state == waypost.LifecycleReady
}

// whatsappData is the data of platform.whatsapp, in the provider's names.
type whatsappData struct {
	WhatsApp   string `json:"whatsapp"`
	Reference  string `json:"whatsapp_reference,omitempty"`
	ExtraInfo  int    `json:"whatsapp_extra_info"`
	DailyLimit *int64 `json:"daily_limit,omitempty"`
	APIKey     string `json:"whatsapp_apiKey,omitempty"`
}

// SetLifecycle sets how far a number has come, and its daily limit if one is
// given, and tells its tenant, also when nothing changes. An error of kind
// KindUnavailable may come after the number was changed; the call can be made
// again.
func (s *Service) SetLifecycle(ctx context.Context, id waypost.NumberID, state waypost.Lifecycle, dailyLimit *int64) (waypost.Number, error) {
	if extraInfo[state] == 0 {
		return waypost.Number{}, waypost.Invalid(waypost.FieldError{Field: "state", Message: "must be one of onboarded, receiving, ready, deleted, failed"})
	}
	s.moving.Lock()
	defer s.moving.Unlock()
	before, err := s.Number(ctx, id)
	if err != nil {
		return waypost.Number{}, err
	}
	n, change := *before, NumberChange{Lifecycle: &state, DailyLimit: dailyLimit}
	if err := applyNumber(&n, change); err != nil {
		return waypost.Number{}, err
	}
	told := numberDetail(before, &n)
	told["state"] = state
	err = s.do(ctx, act{"number.lifecycle", n.TenantID, id, told}, func() error {
		if n, err = s.putNumber(ctx, id, change); err != nil {
			return err
		}
		return s.tell(ctx, &n, dailyLimit, "")
	})
	return n, err
}

// Follow moves the lifecycle of the numbers that a notice of Meta's is about.
// It may be called again for the same event, and must be after an error. Other
// events it ignores.
func (s *Service) Follow(ctx context.Context, event *waypost.Event) error {
	change := lifecycle.Of(event)
	if change.Empty() || event.TenantID == 0 {
		return nil
	}
	s.moving.Lock()
	defer s.moving.Unlock()
	if err := s.directory.CatchUp(ctx); err != nil { // what is compared to must be what is stored
		return err
	}
	for _, n := range s.concerned(event, change) {
		if err := s.follow(ctx, n, event.ID, change); err != nil {
			return fmt.Errorf("move lifecycle of %s by %s: %w", n.ID, event.ID, err)
		}
	}
	return nil
}

// concerned are the numbers that a notice is about.
func (s *Service) concerned(event *waypost.Event, change lifecycle.Change) []*waypost.Number {
	var numbers []*waypost.Number
	for _, n := range s.directory.NumbersOf(event.TenantID) {
		if n.ID == event.NumberID || event.NumberID == 0 && change.WholeAccount && n.WABAID == event.WABAID && n.WABAID != "" {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

func (s *Service) follow(ctx context.Context, n *waypost.Number, notice waypost.EventID, change lifecycle.Change) error {
	last, err := s.followed(ctx, n.ID)
	if err != nil {
		return err
	}
	change = last.newer(change, notice)
	if change.Empty() {
		return nil
	}
	after := change.Apply(*n)
	changed := after.Lifecycle != n.Lifecycle || after.DailyLimit != n.DailyLimit
	if changed && (inUse(after.Lifecycle) || after.Lifecycle != n.Lifecycle) {
		if err := s.tell(ctx, &after, change.DailyLimit, "lifecycle:"+notice.String()+":"+n.ID.String()); err != nil {
			return err
		}
	}
	if changed {
		if _, err := s.putNumber(ctx, n.ID, NumberChange{Lifecycle: &after.Lifecycle, DailyLimit: &after.DailyLimit}); err != nil {
			return err
		}
		told := numberDetail(n, &after)
		told["state"], told["notice"] = after.Lifecycle, notice.String()
		s.note(ctx, act{"number.lifecycle", n.TenantID, n.ID, told})
	}
	return s.setFollowed(ctx, n.ID, last.with(change, notice))
}

// tell publishes where a number stands. limit, if not nil, is known whatever
// the number says: its zero means unknown.
func (s *Service) tell(ctx context.Context, n *waypost.Number, limit *int64, idempotencyKey string) error {
	if s.publish == nil {
		return nil
	}
	told := whatsappData{WhatsApp: n.Phone, Reference: n.Reference, ExtraInfo: extraInfo[n.Lifecycle]}
	if inUse(n.Lifecycle) {
		if told.DailyLimit = limit; limit == nil && n.DailyLimit > 0 {
			told.DailyLimit = &n.DailyLimit
		}
		key, err := s.keyToTell(ctx, n)
		if err != nil {
			return err
		}
		told.APIKey = key.Reveal()
	}
	data, err := json.Marshal(told)
	if err != nil {
		return fmt.Errorf("write data: %w", err)
	}
	_, err = s.publish(ctx, n.TenantID, n.ID, waypost.TypePlatformWhatsApp, data, idempotencyKey)
	return err
}

// followed is what moved a number's lifecycle and its limit last.
type followed struct {
	State int64 `json:"state"`
	Limit int64 `json:"limit"`
}

// newer leaves of a change what no later notice has overtaken.
func (f followed) newer(change lifecycle.Change, notice waypost.EventID) lifecycle.Change {
	if f.State >= int64(notice) {
		change.State = ""
	}
	if f.Limit >= int64(notice) {
		change.DailyLimit = nil
	}
	return change
}

func (f followed) with(change lifecycle.Change, notice waypost.EventID) followed {
	if change.State != "" {
		f.State = int64(notice)
	}
	if change.DailyLimit != nil {
		f.Limit = int64(notice)
	}
	return f
}

func (s *Service) followed(ctx context.Context, n waypost.NumberID) (followed, error) {
	var f followed
	text, err := s.store.Value(ctx, followedName(n))
	if err != nil || text == "" {
		return f, err
	}
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return f, fmt.Errorf("read %s: %w", followedName(n), err)
	}
	return f, nil
}

func (s *Service) setFollowed(ctx context.Context, n waypost.NumberID, f followed) error {
	text, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("write %s: %w", followedName(n), err)
	}
	return s.store.SetValue(ctx, followedName(n), string(text))
}

// followedName is the name of the value that keeps what a number followed.
func followedName(n waypost.NumberID) string { return "lifecycle:" + n.String() }
