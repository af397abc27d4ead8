package api

import (
	"context"
	"net/http"

	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// numberView is a number as it is shown.
type numberView struct {
	ID             string `json:"id"`
	TenantID       string `json:"tenant_id"`
	Phone          string `json:"phone" doc:"digits only"`
	PhoneNumberID  string `json:"phone_number_id" doc:"Meta's id; empty for a number that only an On-Premises client serves"`
	WABAID         string `json:"waba_id" doc:"WhatsApp business account; may be empty"`
	Reference      string `json:"reference,omitempty"`
	AccessTokenSet bool   `json:"access_token_set" doc:"whether there is an access token; it is never shown"`
	Lifecycle      string `json:"lifecycle" doc:"empty: not known"`
	DailyLimit     int64  `json:"daily_limit" doc:"conversations a day, as last reported; 0: not known"`
	CreatedAt      moment `json:"created_at"`
}

func showNumber(n *waypost.Number) numberView {
	return numberView{
		ID:             n.ID.String(),
		TenantID:       n.TenantID.String(),
		Phone:          n.Phone,
		PhoneNumberID:  n.PhoneNumberID,
		WABAID:         n.WABAID,
		Reference:      n.Reference,
		AccessTokenSet: n.AccessToken != "",
		Lifecycle:      string(n.Lifecycle),
		DailyLimit:     n.DailyLimit,
		CreatedAt:      moment(n.CreatedAt),
	}
}

// NumberFields are what both POST and PATCH may set. (Exported, as are the
// other parts of bodies, because huma only looks into exported fields.)
type NumberFields struct {
	PhoneNumberID *string `json:"phone_number_id,omitempty" doc:"Meta's id of the number"`
	WABAID        *string `json:"waba_id,omitempty" doc:"Meta's id of the WhatsApp business account"`
	Reference     *string `json:"reference,omitempty" doc:"the operator's own id for it"`
	AccessToken   *string `json:"access_token,omitempty" doc:"Graph API token, for media links; never shown"`
	Lifecycle     *string `json:"lifecycle,omitempty" enum:"onboarded,receiving,ready,deleted,failed"`
	DailyLimit    *int64  `json:"daily_limit,omitempty" minimum:"0"`
}

func (f NumberFields) change(phone *string) settings.NumberChange {
	return settings.NumberChange{
		Phone:         phone,
		PhoneNumberID: f.PhoneNumberID,
		WABAID:        f.WABAID,
		Reference:     f.Reference,
		AccessToken:   secretOf(f.AccessToken),
		Lifecycle:     (*waypost.Lifecycle)(f.Lifecycle),
		DailyLimit:    f.DailyLimit,
	}
}

type numberCreate struct {
	TenantID string `json:"tenant_id"`
	Phone    string `json:"phone" doc:"with the country code"`
	NumberFields
}

type numberPatch struct {
	Phone *string `json:"phone,omitempty" doc:"with the country code"`
	NumberFields
}

type lifecycleChange struct {
	State      string `json:"state" enum:"onboarded,receiving,ready,deleted,failed"`
	DailyLimit *int64 `json:"daily_limit,omitempty" minimum:"0" doc:"conversations a day"`
}

func (s *service) registerNumbers(r *registrar) {
	add(r, call{
		method: http.MethodPost, path: "/numbers", id: "create-number", status: http.StatusCreated,
		summary: "Create a WhatsApp business number of a tenant",
	}, s.createNumber)
	add(r, call{path: "/numbers", id: "list-numbers", summary: "List numbers"}, s.listNumbers)
	add(r, call{path: "/numbers/{id}", id: "get-number", summary: "Show a number"}, s.getNumber)
	add(r, call{
		method: http.MethodPatch, path: "/numbers/{id}", id: "update-number",
		summary: "Change a number; members that are left out stay as they are",
	}, s.updateNumber)
	add(r, call{
		method: http.MethodPost, path: "/numbers/{id}/lifecycle", id: "set-number-lifecycle",
		summary: "Set how far a number has come, and tell its tenant",
		detail: "Publishes a platform.whatsapp event each time it is called. With onboarded, receiving and ready the event " +
			"carries the daily limit, if known, and the number's 99digital key; a number that never had one gets one. " +
			"Notices of Meta's about the number or its business account move it, too.",
	}, s.setLifecycle)
}

func (s *service) createNumber(ctx context.Context, in *struct{ Body numberCreate }) (*answer[numberView], error) {
	tenant, err := refID("tenant_id", in.Body.TenantID, waypost.ParseTenantID)
	if err != nil {
		return nil, err
	}
	n, err := s.settings.CreateNumber(ctx, tenant, in.Body.change(&in.Body.Phone))
	return shown(showNumber, &n, err)
}

func (s *service) updateNumber(ctx context.Context, in *struct {
	ID   string `path:"id"`
	Body numberPatch
},
) (*answer[numberView], error) {
	id, err := waypost.ParseNumberID(in.ID)
	if err != nil {
		return nil, err
	}
	n, err := s.settings.UpdateNumber(ctx, id, in.Body.change(in.Body.Phone))
	return shown(showNumber, &n, err)
}

func (s *service) setLifecycle(ctx context.Context, in *struct {
	ID   string `path:"id"`
	Body lifecycleChange
},
) (*answer[numberView], error) {
	id, err := waypost.ParseNumberID(in.ID)
	if err != nil {
		return nil, err
	}
	n, err := s.settings.SetLifecycle(ctx, id, waypost.Lifecycle(in.Body.State), in.Body.DailyLimit)
	return shown(showNumber, &n, err)
}

func (s *service) getNumber(ctx context.Context, in *struct {
	ID string `path:"id"`
},
) (*answer[numberView], error) {
	id, err := waypost.ParseNumberID(in.ID)
	if err != nil {
		return nil, err
	}
	n, err := s.settings.Number(ctx, id)
	return shown(showNumber, n, err)
}

type numberFilter struct {
	TenantID      string `query:"tenant_id"`
	Phone         string `query:"phone"`
	PhoneNumberID string `query:"phone_number_id"`
	WABAID        string `query:"waba_id"`
	Lifecycle     string `query:"lifecycle" enum:"onboarded,receiving,ready,deleted,failed"`
	Paging
}

func (s *service) listNumbers(_ context.Context, f *numberFilter) (*answer[pageView[numberView]], error) {
	var in input
	tenant := filterID(&in, "tenant_id", f.TenantID, waypost.ParseTenantID)
	if err := in.err(); err != nil {
		return nil, err
	}
	rows := s.settings.Numbers(func(n *waypost.Number) bool {
		return admits(tenant, n.TenantID) && admits(f.Phone, n.Phone) && admits(f.PhoneNumberID, n.PhoneNumberID) &&
			admits(f.WABAID, n.WABAID) && admits(f.Lifecycle, string(n.Lifecycle))
	})
	return page(f.Paging, rows, func(n *waypost.Number) waypost.NumberID { return n.ID }, waypost.ParseNumberID, showNumber)
}

// admits reports whether a filter, if there is one, lets the value through.
func admits[T comparable](filter, value T) bool {
	var none T
	return filter == none || filter == value
}
