package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"

	"github.com/waypost-gateway/waypost/internal/store"
)

// Record implements store.Audit. KindConflict if the id is taken.
func (s *Store) Record(ctx context.Context, entry store.AuditEntry) error {
	detail := string(entry.Detail)
	if detail == "" {
		detail = "{}"
	}
	return s.Update(ctx, "record audit entry", func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx,
			`INSERT INTO audit (id, tenant_id, actor, action, target, detail) VALUES ($1, $2, $3, $4, $5, $6)`,
			entry.ID, int64(entry.TenantID), entry.Actor, entry.Action, entry.Target, detail)
		return err
	})
}

// AuditTrail implements store.Audit. Only tenant and time have an index: acts are
// made by hand, so there are few of them.
func (s *Store) AuditTrail(ctx context.Context, f store.AuditFilter) ([]store.AuditEntry, error) {
	var c conditions
	if f.TenantID != 0 {
		c.add("tenant_id = ?", int64(f.TenantID))
	}
	if f.Action != "" {
		c.add("action = ?", f.Action)
	}
	if f.Target != "" {
		c.add("target = ?", f.Target)
	}
	if f.Before != 0 {
		c.add("id < ?", f.Before)
	}
	query := `SELECT id, tenant_id, actor, action, target, detail FROM audit` + c.where() +
		` ORDER BY id DESC LIMIT ` + c.arg(clampLimit(f.Limit))
	entries, err := collect(ctx, s.read, scanAudit, query, c.args...)
	return entries, s.Explain("list audit entries", err)
}

func scanAudit(row scanner) (store.AuditEntry, error) {
	var entry store.AuditEntry
	var detail string
	err := row.Scan(&entry.ID, &entry.TenantID, &entry.Actor, &entry.Action, &entry.Target, &detail)
	entry.Detail = json.RawMessage(detail)
	return entry, err
}
