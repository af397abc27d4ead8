package api

import (
	"context"
	"net/http"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// sourceView is a source as it is shown.
type sourceView struct {
	ID             string `json:"id"`
	Name           string `json:"name" doc:"part of the ingest URL"`
	Kind           string `json:"kind"`
	TenantID       string `json:"tenant_id,omitempty"`
	NumberID       string `json:"number_id,omitempty"`
	Secrets        int    `json:"secrets" doc:"how many app secrets or tokens are accepted; they are not shown"`
	VerifyTokenSet bool   `json:"verify_token_set"`
	CreatedAt      moment `json:"created_at"`
}

func showSource(s *waypost.Source) sourceView {
	return sourceView{
		ID:             s.ID.String(),
		Name:           s.Name,
		Kind:           string(s.Kind),
		TenantID:       showID(s.TenantID),
		NumberID:       showID(s.NumberID),
		Secrets:        len(s.Secrets),
		VerifyTokenSet: s.VerifyToken != "",
		CreatedAt:      moment(s.CreatedAt),
	}
}

type sourcePut struct {
	Kind        string   `json:"kind" enum:"meta,onprem"`
	Name        string   `json:"name" doc:"part of the ingest URL"`
	TenantID    string   `json:"tenant_id,omitempty" doc:"who owns what can't be routed by number"`
	NumberID    string   `json:"number_id,omitempty" doc:"onprem: the number this client serves; left out: each request tells"`
	Token       *string  `json:"token,omitempty" doc:"onprem: what the client shows"`
	AppSecrets  []string `json:"app_secrets,omitempty" doc:"meta: any of these may have signed a request"`
	VerifyToken *string  `json:"verify_token,omitempty" doc:"meta: what the hub challenge must carry"`
}

func (s *service) registerSources(r *registrar) {
	add(r, call{
		method: http.MethodPost, path: "/sources", id: "put-source", status: http.StatusCreated, also: http.StatusOK,
		summary: "Create a source, or replace the one of its kind with this name",
		detail:  "Answers 201 for a new source and 200 for a replaced one.",
	}, s.putSource)
	add(r, call{path: "/sources", id: "list-sources", summary: "List sources"}, s.listSources)
}

type sourceAnswer struct {
	Status int
	Body   sourceView
}

func (s *service) putSource(ctx context.Context, in *struct{ Body sourcePut }) (*sourceAnswer, error) {
	source, err := in.Body.source()
	if err != nil {
		return nil, err
	}
	source, replaced, err := s.settings.PutSource(ctx, source)
	if err != nil {
		return nil, err
	}
	out := &sourceAnswer{Status: http.StatusCreated, Body: showSource(&source)}
	if replaced {
		out.Status = http.StatusOK
	}
	return out, nil
}

func (p sourcePut) source() (waypost.Source, error) {
	source := waypost.Source{Name: p.Name, Kind: waypost.SourceKind(p.Kind)}
	var in input
	if p.Token != nil && source.Kind != waypost.SourceOnPrem {
		in.refuse("token", "is for On-Premises sources")
	}
	if len(p.AppSecrets) > 0 && source.Kind != waypost.SourceMeta {
		in.refuse("app_secrets", "are for Meta sources")
	}
	if err := in.err(); err != nil {
		return source, err
	}
	var err error
	if source.TenantID, err = refID("tenant_id", p.TenantID, waypost.ParseTenantID); err != nil {
		return source, err
	}
	if source.NumberID, err = refID("number_id", p.NumberID, waypost.ParseNumberID); err != nil {
		return source, err
	}
	if p.Token != nil {
		source.Secrets = []waypost.Secret{waypost.Secret(*p.Token)}
	}
	for _, text := range p.AppSecrets {
		source.Secrets = append(source.Secrets, waypost.Secret(text))
	}
	if p.VerifyToken != nil {
		source.VerifyToken = waypost.Secret(*p.VerifyToken)
	}
	return source, nil
}

func (s *service) listSources(_ context.Context, in *struct{ Paging }) (*answer[pageView[sourceView]], error) {
	return page(in.Paging, s.settings.Sources(), func(s *waypost.Source) waypost.SourceID { return s.ID }, waypost.ParseSourceID, showSource)
}
