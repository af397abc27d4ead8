package api

import (
	"context"
	"net/http"

	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// tenantView is a tenant as it is shown.
type tenantView struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Reference string            `json:"reference,omitempty" doc:"the operator's own id for it"`
	Secrets   map[string]string `json:"secrets,omitempty" doc:"dialects with a signing secret of this tenant; the values are not shown"`
	CreatedAt moment            `json:"created_at"`
}

func showTenant(t *waypost.Tenant) tenantView {
	view := tenantView{ID: t.ID.String(), Name: t.Name, Reference: t.Reference, CreatedAt: moment(t.CreatedAt)}
	for dialect := range t.Secrets {
		if view.Secrets == nil {
			view.Secrets = map[string]string{}
		}
		view.Secrets[dialect] = placeholder
	}
	return view
}

type tenantCreate struct {
	Name      string            `json:"name" minLength:"1"`
	Reference *string           `json:"reference,omitempty" doc:"the operator's own id for it; free text"`
	Secrets   map[string]string `json:"secrets,omitempty" doc:"signing secrets by dialect, for dialects that have one per tenant"`
}

type tenantPatch struct {
	Name      *string            `json:"name,omitempty" minLength:"1"`
	Reference *string            `json:"reference,omitempty"`
	Secrets   map[string]*string `json:"secrets,omitempty" doc:"merged by dialect; null takes one away"`
}

func (s *service) registerTenants(r *registrar) {
	add(r, call{
		method: http.MethodPost, path: "/tenants", id: "create-tenant", status: http.StatusCreated,
		summary: "Create a tenant",
	}, s.createTenant)
	add(r, call{path: "/tenants", id: "list-tenants", summary: "List tenants"}, s.listTenants)
	add(r, call{path: "/tenants/{id}", id: "get-tenant", summary: "Show a tenant"}, s.getTenant)
	add(r, call{
		method: http.MethodPatch, path: "/tenants/{id}", id: "update-tenant",
		summary: "Change a tenant; members that are left out stay as they are",
	}, s.updateTenant)
}

func (s *service) createTenant(ctx context.Context, in *struct{ Body tenantCreate }) (*answer[tenantView], error) {
	change := settings.TenantChange{Name: &in.Body.Name, Reference: in.Body.Reference, Secrets: map[string]*waypost.Secret{}}
	for dialect, text := range in.Body.Secrets {
		change.Secrets[dialect] = secretOf(&text)
	}
	t, err := s.settings.CreateTenant(ctx, change)
	return shown(showTenant, &t, err)
}

func (s *service) updateTenant(ctx context.Context, in *struct {
	ID   string `path:"id"`
	Body tenantPatch
},
) (*answer[tenantView], error) {
	id, err := waypost.ParseTenantID(in.ID)
	if err != nil {
		return nil, err
	}
	change := settings.TenantChange{Name: in.Body.Name, Reference: in.Body.Reference, Secrets: secretsOf(in.Body.Secrets)}
	t, err := s.settings.UpdateTenant(ctx, id, change)
	return shown(showTenant, &t, err)
}

func (s *service) getTenant(ctx context.Context, in *struct {
	ID string `path:"id"`
},
) (*answer[tenantView], error) {
	id, err := waypost.ParseTenantID(in.ID)
	if err != nil {
		return nil, err
	}
	t, err := s.settings.Tenant(ctx, id)
	return shown(showTenant, t, err)
}

func (s *service) listTenants(_ context.Context, in *struct{ Paging }) (*answer[pageView[tenantView]], error) {
	return page(in.Paging, s.settings.Tenants(), func(t *waypost.Tenant) waypost.TenantID { return t.ID }, waypost.ParseTenantID, showTenant)
}

// shown makes the answer of a row, unless there is an error.
func shown[Row, View any](show func(*Row) View, row *Row, err error) (*answer[View], error) {
	if err != nil {
		return nil, err
	}
	return &answer[View]{Body: show(row)}, nil
}

func secretOf(text *string) *waypost.Secret {
	if text == nil {
		return nil
	}
	secret := waypost.Secret(*text)
	return &secret
}

func secretsOf(texts map[string]*string) map[string]*waypost.Secret {
	secrets := make(map[string]*waypost.Secret, len(texts))
	for name, text := range texts {
		secrets[name] = secretOf(text)
	}
	return secrets
}
