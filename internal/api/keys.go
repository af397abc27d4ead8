package api

import (
	"context"
	"net/http"

	"github.com/waypost-gateway/waypost/internal/settings"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// keyView is a key as it is shown. The members of a new key that hold its text
// and what comes with it are named by the dialect, so both kinds are maps with
// these members always: id, dialect, tenant_id, created_at.
type keyView map[string]any

func showKey(k waypost.Key) keyView {
	view := keyView{
		"id":         k.ID.String(),
		"dialect":    k.Dialect,
		"tenant_id":  k.TenantID.String(),
		"created_at": moment(k.CreatedAt),
	}
	if k.NumberID != 0 {
		view["number_id"] = k.NumberID.String()
	}
	if !k.ExpiresAt.IsZero() {
		view["expires_at"] = moment(k.ExpiresAt)
	}
	return view
}

// showNewKey shows the key's text, this once.
func showNewKey(k *settings.NewKey) keyView {
	view := showKey(k.Key)
	member := k.Spec.KeyMember
	if member == "" {
		member = "key"
	}
	view[member] = k.Text.Reveal()
	if k.Spec.AccountMember != "" {
		view[k.Spec.AccountMember] = k.Account
	}
	if k.Spec.SecretMember != "" {
		view[k.Spec.SecretMember] = k.TenantSecret.Reveal()
	}
	return view
}

type keyCreate struct {
	Dialect  string `json:"dialect" doc:"a dialect with a settings API"`
	NumberID string `json:"number_id,omitempty" doc:"for dialects with a key per number"`
	TenantID string `json:"tenant_id,omitempty" doc:"for dialects with a key per tenant"`
}

func (s *service) registerKeys(r *registrar) {
	add(r, call{
		method: http.MethodPost, path: "/keys", id: "create-key", status: http.StatusCreated,
		summary: "Make a key for a provider's settings API",
		detail: "The key is shown this once, as key (99digital-partner: client_id and client_secret; connectly adds " +
			"business_id and signing_secret). The earlier key of the same dialect and holder is revoked; " +
			"for 360dialog the number's webhook is removed with it.",
	}, s.createKey)
	add(r, call{path: "/keys", id: "list-keys", summary: "List living keys, without their text"}, s.listKeys)
	add(r, call{
		method: http.MethodDelete, path: "/keys/{id}", id: "revoke-key", status: http.StatusNoContent,
		summary: "Revoke a key",
	}, s.revokeKey)
}

func (s *service) createKey(ctx context.Context, in *struct{ Body keyCreate }) (*answer[keyView], error) {
	tenant, err := refID("tenant_id", in.Body.TenantID, waypost.ParseTenantID)
	if err != nil {
		return nil, err
	}
	number, err := refID("number_id", in.Body.NumberID, waypost.ParseNumberID)
	if err != nil {
		return nil, err
	}
	key, err := s.settings.CreateKey(ctx, in.Body.Dialect, tenant, number)
	return shown(showNewKey, &key, err)
}

type keyFilter struct {
	TenantID string `query:"tenant_id"`
	NumberID string `query:"number_id"`
	Dialect  string `query:"dialect"`
	Paging
}

func (s *service) listKeys(ctx context.Context, f *keyFilter) (*answer[pageView[keyView]], error) {
	var in input
	tenant := filterID(&in, "tenant_id", f.TenantID, waypost.ParseTenantID)
	number := filterID(&in, "number_id", f.NumberID, waypost.ParseNumberID)
	if err := in.err(); err != nil {
		return nil, err
	}
	keys, err := s.settings.Keys(ctx, tenant)
	if err != nil {
		return nil, err
	}
	var rows []waypost.Key
	for _, key := range keys {
		if admits(number, key.NumberID) && admits(f.Dialect, key.Dialect) {
			rows = append(rows, key)
		}
	}
	return page(f.Paging, rows, func(k waypost.Key) waypost.KeyID { return k.ID }, waypost.ParseKeyID, showKey)
}

func (s *service) revokeKey(ctx context.Context, in *struct {
	ID string `path:"id"`
},
) (*none, error) {
	id, err := waypost.ParseKeyID(in.ID)
	if err != nil {
		return nil, err
	}
	return &none{}, s.settings.RevokeKey(ctx, id)
}
