package store

import (
	"context"
	"encoding/json"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Audit is who did what by hand.
type Audit interface {
	// Record appends an entry; it is on disk when Record returns.
	Record(ctx context.Context, entry AuditEntry) error
	// AuditTrail lists newest first.
	AuditTrail(ctx context.Context, f AuditFilter) ([]AuditEntry, error)
}

// AuditEntry is one act.
type AuditEntry struct {
	ID       int64            // from the node's sequence, so it tells the time
	TenantID waypost.TenantID // 0: concerns the installation
	Actor    string           // "admin", or "<dialect>:<key id>" for a provider's settings API
	Action   string           // "endpoint.purge": what, and what was done
	Target   string           // the id of what it was done to
	Detail   json.RawMessage  // figures and changed members, never secrets; an object
}

// AuditFilter selects entries. Zero members do not filter.
type AuditFilter struct {
	TenantID waypost.TenantID
	Action   string
	Target   string
	Before   int64 // continue below this id
	Limit    int   // at most 1000
}
