package api

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/platform"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// eventView is an event in a list.
type eventView struct {
	ID            string `json:"id"`
	Type          string `json:"type"`
	State         string `json:"state" enum:"routed,unrouted,unparsed"`
	TenantID      string `json:"tenant_id,omitempty"`
	NumberID      string `json:"number_id,omitempty"`
	SourceID      string `json:"source_id,omitempty"`
	PhoneNumberID string `json:"phone_number_id,omitempty"`
	WABAID        string `json:"waba_id,omitempty"`
	ReceivedAt    moment `json:"received_at" doc:"when it was accepted"`
	OccurredAt    moment `json:"occurred_at,omitzero" doc:"as told by the event itself"`
}

func showEvent(e *waypost.Event) eventView {
	return eventView{
		ID:            e.ID.String(),
		Type:          e.Type,
		State:         string(e.State),
		TenantID:      showID(e.TenantID),
		NumberID:      showID(e.NumberID),
		SourceID:      showID(e.SourceID),
		PhoneNumberID: e.PhoneNumberID,
		WABAID:        e.WABAID,
		ReceivedAt:    moment(e.ReceivedAt()),
		OccurredAt:    moment(e.OccurredAt),
	}
}

// EventFields are the members of an event in a list, as part of the whole one.
type EventFields = eventView

// eventDetailView is one event with what became of it.
type eventDetailView struct {
	EventFields
	Duplicates int                 `json:"duplicates" doc:"repeats that were acknowledged and not stored"`
	Deliveries []eventDeliveryView `json:"deliveries"`
	Payload    json.RawMessage     `json:"payload,omitempty" doc:"the body as it was received, when it is JSON; API keys in it are not shown"`
	Raw        []byte              `json:"raw,omitempty" doc:"the body as it was received, when it is not JSON"`
	BodyPruned bool                `json:"body_pruned,omitempty" doc:"the body is no longer kept; such an event can't be delivered again"`
}

// eventDeliveryView is a delivery of the event with its attempts.
type eventDeliveryView struct {
	ID            string        `json:"id"`
	EventID       string        `json:"event_id"`
	EndpointID    string        `json:"endpoint_id"`
	State         string        `json:"state" enum:"pending,held,delivered,exhausted"`
	NextAttemptAt *moment       `json:"next_attempt_at" nullable:"true" doc:"null once settled, and while it waits for another delivery"`
	LastStatus    int           `json:"last_status"`
	Reason        string        `json:"reason,omitempty"`
	Attempts      []attemptView `json:"attempts"`
}

// attemptView is one HTTP request and what came of it.
type attemptView struct {
	N          int               `json:"n"`
	At         moment            `json:"at"`
	DurationMS int64             `json:"duration_ms"`
	Status     int               `json:"status" doc:"0: no answer"`
	Outcome    string            `json:"outcome" enum:"delivered,retry,exhausted"`
	Reason     string            `json:"reason"`
	Error      string            `json:"error,omitempty"`
	Address    string            `json:"address,omitempty" doc:"the address that was dialled"`
	Reused     bool              `json:"reused,omitempty" doc:"the connection was kept from an earlier attempt"`
	Phases     *waypost.Phases   `json:"phases,omitempty" doc:"milliseconds from the start to each phase"`
	Headers    map[string]string `json:"headers,omitempty" doc:"of the answer"`
	Response   string            `json:"response,omitempty" doc:"head of the answer's body"`
}

func showAttempt(a *waypost.Attempt) attemptView {
	view := attemptView{
		N:          a.N,
		At:         moment(a.At),
		DurationMS: a.Duration.Milliseconds(),
		Status:     a.Status,
		Outcome:    string(a.Outcome),
		Reason:     string(a.Reason),
		Error:      a.Detail.Error,
		Address:    a.Detail.Address,
		Reused:     a.Detail.Reused,
		Headers:    a.Detail.Headers,
		Response:   a.Detail.Response,
	}
	if a.Detail.Phases != (waypost.Phases{}) {
		view.Phases = &a.Detail.Phases
	}
	return view
}

type publication struct {
	TenantID       string          `json:"tenant_id"`
	NumberID       string          `json:"number_id,omitempty"`
	Type           string          `json:"type" doc:"lower-case words joined by dots, for example platform.whatsapp or order.paid"`
	Data           json.RawMessage `json:"data" doc:"any JSON value; kept as it is written. For platform.* types an object with the provider's own member names, which is checked; whatsapp_apiKey is kept sealed and only shown to receivers"`
	IdempotencyKey string          `json:"idempotency_key,omitempty" maxLength:"255" doc:"a repeat within 8 days gives the first id and delivers nothing"`
}

type publishedView struct {
	ID string `json:"id"`
}

type replayRequest struct {
	EndpointID string `json:"endpoint_id,omitempty" doc:"only to this endpoint"`
}

type replayView struct {
	ID         string   `json:"id"`
	Deliveries []string `json:"deliveries" doc:"ids of the deliveries that are now owed"`
}

func (s *service) registerEvents(r *registrar) {
	add(r, call{
		method: http.MethodPost, path: "/events", id: "publish-event", status: http.StatusAccepted, maxBody: maxPublish,
		summary: "Publish an event; it is stored durably before the answer",
	}, s.publish)
	add(r, call{path: "/events", id: "list-events", summary: "List events"}, s.listEvents)
	add(r, call{path: "/events/{id}", id: "get-event", summary: "Show an event, its deliveries and their attempts"}, s.getEvent)
	add(r, call{
		method: http.MethodPost, path: "/events/{id}/replay", id: "replay-event", status: http.StatusAccepted,
		summary: "Deliver an event once more, as endpoints are set now; an unrouted one is routed first",
	}, s.replayEvent)
}

var dotted = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$`)

func (p *publication) check() error {
	in := input{faults: platform.Check(p.Type, p.Data)}
	switch {
	case len(in.faults) > 0:
	case !dotted.MatchString(p.Type) || len(p.Type) > 128:
		in.refuse("type", "must be lower-case words joined by dots, for example order.paid")
	case strings.HasPrefix(p.Type, waypost.TypeFieldPrefix):
		in.refuse("type", "whatsapp.* types come from Meta only")
	}
	return in.err()
}

func (s *service) publish(ctx context.Context, in *struct{ Body publication }) (*answer[publishedView], error) {
	if err := in.Body.check(); err != nil {
		return nil, err
	}
	tenant, err := refID("tenant_id", in.Body.TenantID, waypost.ParseTenantID)
	if err != nil {
		return nil, err
	}
	number, err := refID("number_id", in.Body.NumberID, waypost.ParseNumberID)
	if err != nil {
		return nil, err
	}
	if err := s.settings.CheckOwner(ctx, tenant, number); err != nil {
		return nil, err
	}
	id, err := s.publisher.Publish(ctx, tenant, number, in.Body.Type, in.Body.Data, in.Body.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	return &answer[publishedView]{Body: publishedView{ID: id.String()}}, nil
}

type eventFilter struct {
	TenantID string    `query:"tenant_id"`
	NumberID string    `query:"number_id"`
	Type     string    `query:"type" doc:"a type, or a pattern such as whatsapp.message.*"`
	State    string    `query:"state" enum:"routed,unrouted,unparsed"`
	Since    time.Time `query:"since" doc:"accepted at or after"`
	Until    time.Time `query:"until" doc:"accepted before"`
	Paging
}

func (f *eventFilter) filter() (store.EventFilter, error) {
	var in input
	filter := store.EventFilter{
		TenantID: filterID(&in, "tenant_id", f.TenantID, waypost.ParseTenantID),
		NumberID: filterID(&in, "number_id", f.NumberID, waypost.ParseNumberID),
		Before:   filterID(&in, "cursor", f.Cursor, waypost.ParseEventID),
		Type:     f.Type,
		State:    waypost.EventState(f.State),
		Since:    f.Since,
		Until:    f.Until,
		Limit:    oneMore(f.Limit),
	}
	if f.Type != "" && waypost.CheckGlob(f.Type) != nil {
		in.refuse("type", "must be a type or a pattern such as whatsapp.message.*")
	}
	return filter, in.err()
}

func (s *service) listEvents(ctx context.Context, f *eventFilter) (*answer[pageView[eventView]], error) {
	filter, err := f.filter()
	if err != nil {
		return nil, err
	}
	events, err := s.records.Events(ctx, filter)
	if err != nil {
		return nil, err
	}
	return recordPage(events, f.Limit, showEvent, func(e *waypost.Event) string { return e.ID.String() }), nil
}

func (s *service) getEvent(ctx context.Context, in *struct {
	ID       string `path:"id"`
	WithBody bool   `query:"body" default:"true" doc:"whether to show the body"`
},
) (*answer[eventDetailView], error) {
	id, err := waypost.ParseEventID(in.ID)
	if err != nil {
		return nil, err
	}
	record, err := s.records.Event(ctx, id)
	if err != nil {
		return nil, err
	}
	view := eventDetailView{EventFields: showEvent(&record.Event), Duplicates: record.Duplicates, BodyPruned: len(record.Body) == 0}
	if view.Deliveries, err = s.eventDeliveries(ctx, id); err != nil {
		return nil, err
	}
	body := platform.Redact(&record.Event)
	switch {
	case !in.WithBody:
	case json.Valid(body):
		view.Payload = body
	default:
		view.Raw = body
	}
	return &answer[eventDetailView]{Body: view}, nil
}

// eventDeliveries are the event's deliveries, each with its attempts.
func (s *service) eventDeliveries(ctx context.Context, id waypost.EventID) ([]eventDeliveryView, error) {
	deliveries, err := s.records.Deliveries(ctx, store.DeliveryFilter{EventID: id, Limit: maxLimit})
	if err != nil {
		return nil, err
	}
	attempts, err := s.records.Attempts(ctx, id)
	if err != nil {
		return nil, err
	}
	byDelivery := make(map[waypost.DeliveryID][]attemptView, len(deliveries))
	for i := range deliveries {
		byDelivery[deliveries[i].ID] = []attemptView{} // an empty list rather than none
	}
	for i := range attempts {
		byDelivery[attempts[i].Delivery] = append(byDelivery[attempts[i].Delivery], showAttempt(&attempts[i]))
	}
	views := make([]eventDeliveryView, len(deliveries))
	for i := range deliveries {
		d := showDelivery(&deliveries[i])
		views[i] = eventDeliveryView{
			ID: d.ID, EventID: d.EventID, EndpointID: d.EndpointID, State: d.State,
			NextAttemptAt: d.NextAttemptAt, LastStatus: d.LastStatus, Reason: d.Reason,
			Attempts: byDelivery[deliveries[i].ID],
		}
	}
	return views, nil
}

func (s *service) replayEvent(ctx context.Context, in *struct {
	ID   string `path:"id"`
	Body *replayRequest
},
) (*answer[replayView], error) {
	id, err := waypost.ParseEventID(in.ID)
	if err != nil {
		return nil, err
	}
	var only waypost.EndpointID
	if in.Body != nil {
		if only, err = refID("endpoint_id", in.Body.EndpointID, waypost.ParseEndpointID); err != nil {
			return nil, err
		}
	}
	owed, err := s.settings.ReplayEvent(ctx, id, only)
	if err != nil {
		return nil, err
	}
	view := replayView{ID: id.String(), Deliveries: make([]string, len(owed))}
	for i, delivery := range owed {
		view.Deliveries[i] = delivery.String()
	}
	return &answer[replayView]{Body: view}, nil
}
