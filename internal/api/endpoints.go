package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// endpointView is an endpoint as it is shown.
type endpointView struct {
	ID          string            `json:"id"`
	TenantID    string            `json:"tenant_id"`
	NumberID    string            `json:"number_id,omitempty"`
	WABAID      string            `json:"waba_id,omitempty"`
	Dialect     string            `json:"dialect"`
	Slot        string            `json:"slot" doc:"place in a provider's API (number, waba, multi:<name>, topic:<topic>); empty: made here"`
	URL         string            `json:"url" doc:"a password in it is shown as xxxxx; sent back like that it stays as it is"`
	Headers     map[string]string `json:"headers" doc:"names of the headers that are sent; the values are not shown"`
	Events      []string          `json:"events"`
	Options     map[string]any    `json:"options"`
	Policy      policyView        `json:"policy"`
	InFlight    int               `json:"in_flight" doc:"how many requests may be under way to it at a time, over all nodes"`
	Secret      string            `json:"secret,omitempty" doc:"shown this once, in the answer to its creation"`
	PublicKey   string            `json:"public_key,omitempty" doc:"what the receiver checks signatures with, where the dialect signs with a key pair"`
	State       string            `json:"state" enum:"active,paused,tripped,disabled"`
	StateReason string            `json:"state_reason,omitempty"`
	Drain       string            `json:"drain" enum:"oldest,newest" doc:"the order in which a backlog goes out, as the last resume set it"`
	SkipBefore  moment            `json:"skip_before,omitzero" doc:"events accepted before it do not go out any more but end as exhausted, as the last resume set it"`
	CreatedAt   moment            `json:"created_at"`
	UpdatedAt   moment            `json:"updated_at"`
}

// policyView is a policy in full.
type policyView struct {
	Timeout  string   `json:"timeout"`
	Schedule []string `json:"schedule" doc:"waits before each retry, in order"`
	Success  string   `json:"success" enum:"200,2xx"`
}

func (s *service) showEndpoint(e *waypost.Endpoint) endpointView {
	view := endpointView{
		ID:          e.ID.String(),
		TenantID:    e.TenantID.String(),
		NumberID:    showID(e.NumberID),
		WABAID:      e.WABAID,
		Dialect:     e.Dialect,
		Slot:        e.Slot,
		URL:         settings.ShownURL(e.URL),
		Headers:     showHeaders(e.Headers),
		Events:      showEvents(e.Events),
		Options:     s.showOptions(e),
		PublicKey:   s.settings.PublicKey(e),
		Policy:      showPolicy(s.settings.Policy(e)),
		InFlight:    s.settings.InFlight(e),
		State:       string(e.State),
		StateReason: e.StateReason,
		Drain:       cmp.Or(string(e.Drain), drainOldest),
		CreatedAt:   moment(e.CreatedAt),
		UpdatedAt:   moment(e.UpdatedAt),
	}
	if e.SkipBefore != 0 {
		view.SkipBefore = moment(e.SkipBefore.Time())
	}
	return view
}

// drainOldest is waypost.DrainOldest as it is written.
const drainOldest = "oldest"

func showHeaders(headers map[string]waypost.Secret) map[string]string {
	view := make(map[string]string, len(headers))
	for name := range headers {
		view[name] = placeholder
	}
	return view
}

func showEvents(events []string) []string {
	if len(events) == 0 {
		return []string{"*"}
	}
	return events
}

// showOptions shows what is set and the defaults of what is not.
func (s *service) showOptions(e *waypost.Endpoint) map[string]any {
	view := map[string]any{}
	info, _ := s.settings.Info(e.Dialect)
	for _, option := range info.Options {
		value, isSet := e.Options[option.Name]
		switch {
		case option.Internal:
		case isSet && option.Secret:
			view[option.Name] = placeholder
		case isSet:
			view[option.Name] = value
		case option.Default != nil:
			view[option.Name] = option.Default
		}
	}
	return view
}

func showPolicy(p waypost.Policy) policyView {
	view := policyView{Timeout: showDuration(p.Timeout), Success: string(p.Success), Schedule: make([]string, len(p.Schedule))}
	for i, wait := range p.Schedule {
		view.Schedule[i] = showDuration(wait)
	}
	return view
}

// EndpointFields are what both POST and PATCH may set.
type EndpointFields struct {
	NumberID *string            `json:"number_id,omitempty" doc:"only events of this number"`
	WABAID   *string            `json:"waba_id,omitempty" doc:"only events of this business account"`
	Headers  map[string]*string `json:"headers,omitempty" doc:"sent with every hook; PATCH merges by name, and null takes one away"`
	Events   *[]string          `json:"events,omitempty" doc:"event types or patterns such as whatsapp.message.*; default [\"*\"]"`
	Options  map[string]any     `json:"options,omitempty" doc:"the dialect's own; PATCH merges by name, and null takes one back to its default"`
	Policy   *PolicyFields      `json:"policy,omitempty" doc:"what departs from the dialect's default; PATCH merges by member"`
	Secret   *string            `json:"secret,omitempty" doc:"signing secret, for dialects that have one per endpoint; made if left out"`
	InFlight InFlight           `json:"in_flight,omitzero"`
}

// InFlight is in_flight as it was sent: left out, null, or a number.
type InFlight struct{ sent *int }

// UnmarshalJSON implements json.Unmarshaler. What is no number the schema refuses.
func (f *InFlight) UnmarshalJSON(text []byte) error {
	var number float64
	_ = json.Unmarshal(text, &number) // null leaves 0, which is the default
	sent := int(number)
	f.sent = &sent
	return nil
}

// Schema implements huma.SchemaProvider.
func (InFlight) Schema(huma.Registry) *huma.Schema {
	least, most := 1.0, 1000.0
	return &huma.Schema{
		Type: huma.TypeInteger, Nullable: true, Minimum: &least, Maximum: &most,
		Description: "how many requests may be under way to it at a time, over all nodes; null: as many as the installation's default",
	}
}

// PolicyFields are what an endpoint sets of its policy.
type PolicyFields struct {
	Timeout  *string   `json:"timeout,omitempty" doc:"over connect, request and the whole answer, for example 5s"`
	Schedule *[]string `json:"schedule,omitempty" doc:"waits before each retry, in order; [] means no retry"`
	Success  *string   `json:"success,omitempty" enum:"200,2xx" doc:"which statuses mean received"`
}

type endpointCreate struct {
	TenantID string `json:"tenant_id"`
	Dialect  string `json:"dialect"`
	URL      string `json:"url"`
	EndpointFields
}

type endpointPatch struct {
	TenantID *string `json:"tenant_id,omitempty" doc:"can't be changed"`
	Dialect  *string `json:"dialect,omitempty" doc:"can't be changed"`
	URL      *string `json:"url,omitempty" doc:"empty: what is owed is held until there is a URL again"`
	EndpointFields
}

// change reads the members into the words of package settings.
func (f EndpointFields) change(url *string) (settings.EndpointChange, error) {
	var in input
	change := settings.EndpointChange{
		WABAID:   f.WABAID,
		URL:      url,
		Headers:  secretsOf(f.Headers),
		Events:   f.Events,
		Options:  f.Options,
		Policy:   f.Policy.change(&in),
		Secret:   secretOf(f.Secret),
		InFlight: f.InFlight.sent,
	}
	var missing error
	if f.NumberID != nil {
		var number waypost.NumberID
		number, missing = refID("number_id", *f.NumberID, waypost.ParseNumberID)
		change.NumberID = &number
	}
	if err := in.err(); err != nil {
		return change, err
	}
	return change, missing
}

func (f *PolicyFields) change(in *input) (change waypost.PolicyChange) {
	if f == nil {
		return change
	}
	change.Success = (*waypost.Success)(f.Success)
	change.Timeout = in.duration("policy.timeout", f.Timeout)
	if f.Schedule != nil {
		schedule := make([]time.Duration, len(*f.Schedule))
		for i, text := range *f.Schedule {
			if wait := in.duration(fmt.Sprintf("policy.schedule[%d]", i), &text); wait != nil {
				schedule[i] = *wait
			}
		}
		change.Schedule = &schedule
	}
	return change
}

// endpointCreation is the call that makes an endpoint.
type endpointCreation struct{ Body endpointCreate }

// Resolve implements huma.Resolver.
func (in *endpointCreation) Resolve(ctx huma.Context) []error {
	tenant, missing := refID("tenant_id", in.Body.TenantID, waypost.ParseTenantID)
	change, err := in.Body.change(&in.Body.URL)
	return findings(missing, err, serviceOf(ctx).settings.CheckNewEndpoint(ctx.Context(), tenant, in.Body.Dialect, change))
}

// endpointUpdate is the call that changes an endpoint.
type endpointUpdate struct {
	ID   string `path:"id"`
	Body endpointPatch
}

// Resolve implements huma.Resolver.
func (in *endpointUpdate) Resolve(ctx huma.Context) []error {
	s := serviceOf(ctx)
	id, err := waypost.ParseEndpointID(in.ID)
	if err != nil {
		return nil // the call itself says so
	}
	present, err := s.settings.Endpoint(ctx.Context(), id)
	if err != nil {
		return nil
	}
	change, err := in.Body.change(in.Body.URL)
	return findings(in.Body.fixed(present), err, s.settings.CheckEndpointChange(ctx.Context(), id, change))
}

// fixed refuses to change what can't be changed.
func (p *endpointPatch) fixed(present *waypost.Endpoint) error {
	var in input
	if p.TenantID != nil && *p.TenantID != present.TenantID.String() {
		in.refuse("tenant_id", "can't be changed; make another endpoint")
	}
	if p.Dialect != nil && *p.Dialect != present.Dialect {
		in.refuse("dialect", "can't be changed; make another endpoint")
	}
	return in.err()
}

// endpointPath names an endpoint.
type endpointPath struct {
	ID string `path:"id"`
}

func (s *service) registerEndpoints(r *registrar) {
	add(r, call{
		method: http.MethodPost, path: "/endpoints", id: "create-endpoint", status: http.StatusCreated,
		summary: "Create an endpoint",
	}, s.createEndpoint)
	add(r, call{
		path: "/endpoints", id: "list-endpoints",
		summary: "List endpoints, those made through a provider's API too",
	}, s.listEndpoints)
	add(r, call{path: "/endpoints/{id}", id: "get-endpoint", summary: "Show an endpoint"}, s.getEndpoint)
	add(r, call{
		method: http.MethodPatch, path: "/endpoints/{id}", id: "update-endpoint",
		summary: "Change an endpoint; members that are left out stay as they are",
	}, s.updateEndpoint)
	add(r, call{
		method: http.MethodDelete, path: "/endpoints/{id}", id: "delete-endpoint", status: http.StatusNoContent,
		summary: "Delete an endpoint; what it is still owed is given up and stays visible",
	}, s.deleteEndpoint)
	add(r, call{
		method: http.MethodPost, path: "/endpoints/{id}/pause", id: "pause-endpoint",
		summary: "Stop deliveries; what is owed is held",
	}, s.pauseEndpoint)
	add(r, call{
		method: http.MethodPost, path: "/endpoints/{id}/rotate-secret", id: "rotate-endpoint-secret",
		summary: "Make a new signing secret; the old one signs as well until overlap has passed",
	}, s.rotateSecret)
}

func (s *service) createEndpoint(ctx context.Context, in *endpointCreation) (*answer[endpointView], error) {
	tenant, err := refID("tenant_id", in.Body.TenantID, waypost.ParseTenantID)
	if err != nil {
		return nil, err
	}
	change, err := in.Body.change(&in.Body.URL)
	if err != nil {
		return nil, err
	}
	e, err := s.settings.CreateEndpoint(ctx, tenant, in.Body.Dialect, change)
	if err != nil {
		return nil, err
	}
	view := s.showEndpoint(&e)
	if len(e.Secrets) > 0 {
		view.Secret = e.Secrets[0].Value.Reveal()
	}
	return &answer[endpointView]{Body: view}, nil
}

func (s *service) updateEndpoint(ctx context.Context, in *endpointUpdate) (*answer[endpointView], error) {
	id, err := waypost.ParseEndpointID(in.ID)
	if err != nil {
		return nil, err
	}
	change, err := in.Body.change(in.Body.URL)
	if err != nil {
		return nil, err
	}
	e, err := s.settings.UpdateEndpoint(ctx, id, change)
	return shown(s.showEndpoint, &e, err)
}

func (s *service) getEndpoint(ctx context.Context, in *endpointPath) (*answer[endpointView], error) {
	id, err := waypost.ParseEndpointID(in.ID)
	if err != nil {
		return nil, err
	}
	e, err := s.settings.Endpoint(ctx, id)
	return shown(s.showEndpoint, e, err)
}

func (s *service) deleteEndpoint(ctx context.Context, in *endpointPath) (*none, error) {
	id, err := waypost.ParseEndpointID(in.ID)
	if err != nil {
		return nil, err
	}
	return &none{}, s.settings.DeleteEndpoint(ctx, id)
}

func (s *service) pauseEndpoint(ctx context.Context, in *endpointPath) (*answer[endpointView], error) {
	id, err := waypost.ParseEndpointID(in.ID)
	if err != nil {
		return nil, err
	}
	e, err := s.settings.Pause(ctx, id)
	return shown(s.showEndpoint, &e, err)
}

type rotation struct {
	Overlap *string `json:"overlap,omitempty" doc:"how long the old secret signs as well; default 24h"`
}

type secretView struct {
	Secret string `json:"secret" doc:"the new secret, shown this once"`
}

const defaultOverlap = 24 * time.Hour

func (s *service) rotateSecret(ctx context.Context, in *struct {
	ID   string `path:"id"`
	Body *rotation
},
) (*answer[secretView], error) {
	id, err := waypost.ParseEndpointID(in.ID)
	if err != nil {
		return nil, err
	}
	overlap := defaultOverlap
	if in.Body != nil {
		var body input
		if given := body.duration("overlap", in.Body.Overlap); given != nil {
			overlap = *given
		}
		if err := body.err(); err != nil {
			return nil, err
		}
	}
	secret, err := s.settings.RotateSecret(ctx, id, overlap)
	if err != nil {
		return nil, err
	}
	return &answer[secretView]{Body: secretView{Secret: secret.Reveal()}}, nil
}

type endpointFilter struct {
	TenantID string `query:"tenant_id"`
	NumberID string `query:"number_id"`
	WABAID   string `query:"waba_id"`
	Dialect  string `query:"dialect"`
	State    string `query:"state" enum:"active,paused,tripped,disabled"`
	Paging
}

func (s *service) listEndpoints(_ context.Context, f *endpointFilter) (*answer[pageView[endpointView]], error) {
	var in input
	tenant := filterID(&in, "tenant_id", f.TenantID, waypost.ParseTenantID)
	number := filterID(&in, "number_id", f.NumberID, waypost.ParseNumberID)
	if err := in.err(); err != nil {
		return nil, err
	}
	rows := s.settings.Endpoints(func(e *waypost.Endpoint) bool {
		return admits(tenant, e.TenantID) && admits(number, e.NumberID) && admits(f.WABAID, e.WABAID) &&
			admits(f.Dialect, e.Dialect) && admits(f.State, string(e.State))
	})
	return page(f.Paging, rows, func(e *waypost.Endpoint) waypost.EndpointID { return e.ID }, waypost.ParseEndpointID, s.showEndpoint)
}
