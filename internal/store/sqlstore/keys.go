package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

const selectKeys = `SELECT id, dialect, tenant_id, number_id, digest, account, created_at, expires_at FROM keys`

func scanKey(row scanner) (waypost.Key, error) {
	var k waypost.Key
	var digest []byte
	var created, expires int64
	err := row.Scan(&k.ID, &k.Dialect, &k.TenantID, &k.NumberID, &digest, &k.Account, &created, &expires)
	if err == nil && copy(k.Digest[:], digest) != len(k.Digest) {
		err = fmt.Errorf("key %s has a digest of %d bytes", k.ID, len(digest))
	}
	k.CreatedAt, k.ExpiresAt = FromMillis(created), FromMillis(expires)
	return k, err
}

// CreateKey implements store.Settings. A key that expires is a short-lived token:
// it revokes nothing and only clears away the owner's expired ones. KindConflict
// if the digest or the account is taken.
func (s *Store) CreateKey(ctx context.Context, k waypost.Key) error {
	return s.configure(ctx, "create key", func(ctx context.Context, tx *sql.Tx, _ int64) error {
		revoked := &conditions{}
		revoked.add("dialect = ?", k.Dialect)
		revoked.add("number_id = ?", int64(k.NumberID))
		if k.NumberID == 0 {
			revoked.add("tenant_id = ?", int64(k.TenantID))
		}
		if !k.ExpiresAt.IsZero() {
			revoked.add("expires_at <> 0 AND expires_at <= ?", Millis(k.CreatedAt))
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM keys`+revoked.where(), revoked.args...); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `
INSERT INTO keys (id, dialect, tenant_id, number_id, digest, account, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			int64(k.ID), k.Dialect, int64(k.TenantID), int64(k.NumberID), k.Digest[:], k.Account,
			Millis(k.CreatedAt), Millis(k.ExpiresAt))
		return s.unique(err, "the %s account %q has a key already", k.Dialect, k.Account)
	})
}

// KeyByDigest implements store.Settings. A key that has expired is still given;
// its ExpiresAt says so.
func (s *Store) KeyByDigest(ctx context.Context, dialect string, digest [32]byte) (waypost.Key, error) {
	k, err := scanKey(s.read.QueryRowContext(ctx, selectKeys+` WHERE dialect = $1 AND digest = $2`, dialect, digest[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return waypost.Key{}, waypost.Errorf(waypost.KindNotFound, "no such key")
	}
	return k, s.Explain("read key", err)
}

// KeysOf implements store.Settings.
func (s *Store) KeysOf(ctx context.Context, tenant waypost.TenantID) ([]waypost.Key, error) {
	keys, err := collect(ctx, s.read, scanKey, selectKeys+` WHERE tenant_id = $1 ORDER BY id`, int64(tenant))
	return keys, s.Explain("list keys", err)
}
