package api

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// auditView is one entry of the audit trail.
type auditView struct {
	ID       string          `json:"id"`
	At       moment          `json:"at"`
	Actor    string          `json:"actor" doc:"admin: through this API; a dialect and the id of a key: through that provider's settings API; engine: the gateway itself"`
	Action   string          `json:"action" doc:"what was done, for example endpoint.update"`
	Target   string          `json:"target" doc:"the id of what it was done to"`
	TenantID string          `json:"tenant_id,omitempty"`
	Detail   json.RawMessage `json:"detail" doc:"figures and the names of changed members; failed: the act of the entry before it did not succeed"`
}

func showAudit(entry *store.AuditEntry) auditView {
	return auditView{
		ID:       auditID(entry.ID),
		At:       moment(waypost.EventID(entry.ID).Time()), // all ids tell the time alike
		Actor:    entry.Actor,
		Action:   entry.Action,
		Target:   entry.Target,
		TenantID: showID(entry.TenantID),
		Detail:   entry.Detail,
	}
}

// An entry's id is written like the others, with a prefix of its own.
const auditPrefix, eventPrefix = "aud_", "evt_"

func auditID(id int64) string {
	return auditPrefix + strings.TrimPrefix(waypost.EventID(id).String(), eventPrefix)
}

func parseAuditID(text string) (int64, error) {
	rest, ok := strings.CutPrefix(text, auditPrefix)
	if !ok {
		return 0, waypost.Errorf(waypost.KindNotFound, "no audit entry has the id %q", text)
	}
	id, err := waypost.ParseEventID(eventPrefix + rest)
	return int64(id), err
}

func (s *service) registerAudit(r *registrar) {
	add(r, call{
		path: "/audit", id: "list-audit", summary: "List what was done by hand, and what the gateway did by itself",
		detail: "Each change made through this API or a provider's settings API has an entry from before it was made. " +
			"A change that did not succeed has another one, of the same action and target, with failed in its detail; a " +
			"purge has a second one from when it ended.",
	}, s.listAudit)
}

type auditFilter struct {
	TenantID string `query:"tenant_id"`
	Action   string `query:"action" doc:"for example endpoint.purge"`
	Target   string `query:"target" doc:"the id of an endpoint, a number, a key, …"`
	Paging
}

func (s *service) listAudit(ctx context.Context, f *auditFilter) (*answer[pageView[auditView]], error) {
	var in input
	filter := store.AuditFilter{
		TenantID: filterID(&in, "tenant_id", f.TenantID, waypost.ParseTenantID),
		Before:   filterID(&in, "cursor", f.Cursor, parseAuditID),
		Action:   in.plainText("action", f.Action),
		Target:   in.plainText("target", f.Target),
		Limit:    oneMore(f.Limit),
	}
	if err := in.err(); err != nil {
		return nil, err
	}
	entries, err := s.settings.AuditTrail(ctx, filter)
	if err != nil {
		return nil, err
	}
	return recordPage(entries, f.Limit, showAudit, func(entry *store.AuditEntry) string { return auditID(entry.ID) }), nil
}
