package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

const selectEndpoints = `SELECT id, tenant_id, number_id, waba_id, dialect, slot, url, events, policy, sealed,
	state, state_reason, created_at, updated_at, deleted_at, in_flight, drain, skip_before FROM endpoints`

func (s *Store) scanEndpoint(row scanner) (waypost.Endpoint, error) {
	var e waypost.Endpoint
	var events, policy string
	var sealed []byte
	var created, updated, deleted int64
	err := row.Scan(&e.ID, &e.TenantID, &e.NumberID, &e.WABAID, &e.Dialect, &e.Slot, &e.URL, &events, &policy, &sealed,
		&e.State, &e.StateReason, &created, &updated, &deleted, &e.InFlight, &e.Drain, &e.SkipBefore)
	if err != nil {
		return e, err
	}
	e.CreatedAt, e.UpdatedAt, e.DeletedAt = FromMillis(created), FromMillis(updated), FromMillis(deleted)
	if err := json.Unmarshal([]byte(events), &e.Events); err != nil {
		return e, fmt.Errorf("read event filter of %s: %w", e.ID, err)
	}
	if e.Policy, err = decodePolicy(policy); err != nil {
		return e, fmt.Errorf("read policy of %s: %w", e.ID, err)
	}
	var private sealedEndpoint
	if err := s.open(sealed, &private, e.ID); err != nil {
		return e, err
	}
	e.URL = together(e.URL, private.UserInfo)
	e.Headers, e.Options = conceal(private.Headers), private.Options
	for _, secret := range private.Secrets {
		e.Secrets = append(e.Secrets, waypost.SigningSecret{
			Value: waypost.Secret(secret.Value), ExpiresAt: FromMillis(secret.ExpiresAt),
		})
	}
	return e, nil
}

// endpointColumns encodes what is not a column of its own.
func (s *Store) endpointColumns(e *waypost.Endpoint) (url, events, policy string, sealed []byte, err error) {
	filter, err := json.Marshal(e.Events)
	if err != nil {
		return "", "", "", nil, err
	}
	if policy, err = encodePolicy(e.Policy); err != nil {
		return "", "", "", nil, err
	}
	url, userInfo := apart(e.URL)
	private := sealedEndpoint{Headers: reveal(e.Headers), Options: e.Options, UserInfo: userInfo}
	for _, secret := range e.Secrets {
		private.Secrets = append(private.Secrets, sealedSecret{
			Value: secret.Value.Reveal(), ExpiresAt: Millis(secret.ExpiresAt),
		})
	}
	sealed, err = s.seal(private, e.ID)
	return url, string(filter), policy, sealed, err
}

// CreateEndpoint implements store.Settings.
func (s *Store) CreateEndpoint(ctx context.Context, e waypost.Endpoint) error {
	return s.configure(ctx, "create endpoint", func(ctx context.Context, tx *sql.Tx, revision int64) error {
		url, events, policy, sealed, err := s.endpointColumns(&e)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
INSERT INTO endpoints (id, tenant_id, number_id, waba_id, dialect, slot, url, events, policy, sealed,
	state, state_reason, created_at, updated_at, deleted_at, revision, in_flight, drain, skip_before)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
			int64(e.ID), int64(e.TenantID), int64(e.NumberID), e.WABAID, e.Dialect, e.Slot, url, events, policy, sealed,
			string(e.State), e.StateReason, Millis(e.CreatedAt), Millis(e.UpdatedAt), Millis(e.DeletedAt), revision,
			e.InFlight, string(e.Drain), int64(e.SkipBefore))
		return s.unique(err, "the slot %q is taken by another endpoint", e.Slot)
	})
}

// UpdateEndpoint implements store.Settings. Setting DeletedAt deletes the
// endpoint and frees its slot.
func (s *Store) UpdateEndpoint(ctx context.Context, id waypost.EndpointID, edit func(*waypost.Endpoint) error) (waypost.Endpoint, error) {
	var e waypost.Endpoint
	err := s.configure(ctx, "update endpoint", func(ctx context.Context, tx *sql.Tx, revision int64) error {
		var err error
		row := tx.QueryRowContext(ctx, selectEndpoints+` WHERE id = $1 AND deleted_at = 0`, int64(id))
		if e, err = s.scanEndpoint(row); err != nil {
			return found(err, "endpoint", id)
		}
		if err := edit(&e); err != nil {
			return err
		}
		e.ID = id
		url, events, policy, sealed, err := s.endpointColumns(&e)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
UPDATE endpoints SET tenant_id = $2, number_id = $3, waba_id = $4, dialect = $5, slot = $6, url = $7, events = $8,
	policy = $9, sealed = $10, state = $11, state_reason = $12, updated_at = $13, deleted_at = $14, revision = $15,
	in_flight = $16, drain = $17, skip_before = $18
WHERE id = $1`,
			int64(id), int64(e.TenantID), int64(e.NumberID), e.WABAID, e.Dialect, e.Slot, url, events,
			policy, sealed, string(e.State), e.StateReason, Millis(e.UpdatedAt), Millis(e.DeletedAt), revision,
			e.InFlight, string(e.Drain), int64(e.SkipBefore))
		return s.unique(err, "the slot %q is taken by another endpoint", e.Slot)
	})
	if err != nil {
		return waypost.Endpoint{}, err
	}
	return e, nil
}
