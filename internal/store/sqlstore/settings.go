package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// configure is a settings write: a transaction that gets the next revision. The
// revision's row stays locked to the end, so writes follow each other, commit
// order is revision order, and what an edit reads nobody else is changing.
func (s *Store) configure(ctx context.Context, verb string, change func(ctx context.Context, tx *sql.Tx, revision int64) error) error {
	return s.Update(ctx, verb, func(ctx context.Context, tx *sql.Tx) error {
		var revision int64
		err := tx.QueryRowContext(ctx, `UPDATE settings_revision SET revision = revision + 1 RETURNING revision`).Scan(&revision)
		if err != nil {
			return err
		}
		if err := change(ctx, tx, revision); err != nil {
			return err
		}
		return s.notify(ctx, tx)
	})
}

// Revision implements store.Settings.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	var revision int64
	err := s.read.QueryRowContext(ctx, `SELECT revision FROM settings_revision`).Scan(&revision)
	return revision, s.Explain("read settings revision", err)
}

// Changes implements store.Settings.
func (s *Store) Changes(ctx context.Context, since int64) (store.Changes, error) {
	var changes store.Changes
	what := Changed(since)
	err := s.view(ctx, "read settings", func(tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, `SELECT revision FROM settings_revision`).Scan(&changes.Revision); err != nil {
			return err
		}
		var err error
		if changes.Tenants, err = collect(ctx, tx, s.scanTenant, selectTenants+what, since); err != nil {
			return err
		}
		if changes.Numbers, err = collect(ctx, tx, s.scanNumber, selectNumbers+what, since); err != nil {
			return err
		}
		if changes.Sources, err = collect(ctx, tx, s.scanSource, selectSources+what, since); err != nil {
			return err
		}
		endpoints := selectEndpoints + what
		if since <= 0 {
			endpoints = selectEndpoints + ` WHERE revision > $1
AND (deleted_at = 0 OR EXISTS (SELECT 1 FROM (` + owedEvents("endpoints.id", "9223372036854775807") + `) owed)) ORDER BY id`
		}
		changes.Endpoints, err = collect(ctx, tx, s.scanEndpoint, endpoints, since)
		return err
	})
	if err != nil {
		return store.Changes{}, err
	}
	return changes, nil
}

// Changed selects the rows of settings that were written after a revision ($1). In
// the order of ids they would be found by reading all that there are, so only all
// of them come in that order.
func Changed(since int64) string {
	if since <= 0 {
		return ` WHERE revision > $1 ORDER BY id`
	}
	return ` WHERE revision > $1 ORDER BY revision, id`
}

// Value implements store.Settings.
func (s *Store) Value(ctx context.Context, name string) (string, error) {
	var value string
	err := s.read.QueryRowContext(ctx, `SELECT value FROM facts WHERE name = $1`, name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, s.Explain("read value", err)
}

// SetValue implements store.Settings.
func (s *Store) SetValue(ctx context.Context, name, value string) error {
	return s.configure(ctx, "set value", func(ctx context.Context, tx *sql.Tx, _ int64) error {
		return putFact(ctx, tx, name, value)
	})
}

func putFact(ctx context.Context, tx *sql.Tx, name, value string) error {
	_, err := tx.ExecContext(ctx, `
INSERT INTO facts (name, value) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return err
}

const selectTenants = `SELECT id, name, reference, sealed, created_at FROM tenants`

func (s *Store) scanTenant(row scanner) (waypost.Tenant, error) {
	var t waypost.Tenant
	var sealed []byte
	var created int64
	if err := row.Scan(&t.ID, &t.Name, &t.Reference, &sealed, &created); err != nil {
		return t, err
	}
	t.CreatedAt = FromMillis(created)
	var secrets sealedTenant
	err := s.open(sealed, &secrets, t.ID)
	t.Secrets = conceal(secrets.Secrets)
	return t, err
}

// CreateTenant implements store.Settings.
func (s *Store) CreateTenant(ctx context.Context, t waypost.Tenant) error {
	return s.configure(ctx, "create tenant", func(ctx context.Context, tx *sql.Tx, revision int64) error {
		sealed, err := s.seal(sealedTenant{Secrets: reveal(t.Secrets)}, t.ID)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
INSERT INTO tenants (id, name, reference, sealed, created_at, revision) VALUES ($1, $2, $3, $4, $5, $6)`,
			int64(t.ID), t.Name, t.Reference, sealed, Millis(t.CreatedAt), revision)
		return s.unique(err, "tenant %s exists already", t.ID)
	})
}

// UpdateTenant implements store.Settings. Like all edits, edit runs inside the
// transaction: it must not call the store, and it may be run again.
func (s *Store) UpdateTenant(ctx context.Context, id waypost.TenantID, edit func(*waypost.Tenant) error) (waypost.Tenant, error) {
	var t waypost.Tenant
	err := s.configure(ctx, "update tenant", func(ctx context.Context, tx *sql.Tx, revision int64) error {
		var err error
		if t, err = s.scanTenant(tx.QueryRowContext(ctx, selectTenants+` WHERE id = $1`, int64(id))); err != nil {
			return found(err, "tenant", id)
		}
		if err := edit(&t); err != nil {
			return err
		}
		t.ID = id
		sealed, err := s.seal(sealedTenant{Secrets: reveal(t.Secrets)}, id)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx,
			`UPDATE tenants SET name = $2, reference = $3, sealed = $4, revision = $5 WHERE id = $1`,
			int64(id), t.Name, t.Reference, sealed, revision)
		return err
	})
	if err != nil {
		return waypost.Tenant{}, err
	}
	return t, nil
}

const selectNumbers = `SELECT id, tenant_id, phone, phone_number_id, waba_id, reference, sealed, lifecycle, daily_limit, created_at FROM numbers`

func (s *Store) scanNumber(row scanner) (waypost.Number, error) {
	var n waypost.Number
	var sealed []byte
	var created int64
	err := row.Scan(&n.ID, &n.TenantID, &n.Phone, &n.PhoneNumberID, &n.WABAID, &n.Reference, &sealed, &n.Lifecycle, &n.DailyLimit, &created)
	if err != nil {
		return n, err
	}
	n.CreatedAt = FromMillis(created)
	var secrets sealedNumber
	err = s.open(sealed, &secrets, n.ID)
	n.AccessToken = waypost.Secret(secrets.AccessToken)
	return n, err
}

// CreateNumber implements store.Settings.
func (s *Store) CreateNumber(ctx context.Context, n waypost.Number) error {
	return s.configure(ctx, "create number", func(ctx context.Context, tx *sql.Tx, revision int64) error {
		sealed, err := s.seal(sealedNumber{AccessToken: n.AccessToken.Reveal()}, n.ID)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
INSERT INTO numbers (id, tenant_id, phone, phone_number_id, waba_id, reference, sealed, lifecycle, daily_limit, created_at, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			int64(n.ID), int64(n.TenantID), n.Phone, n.PhoneNumberID, n.WABAID, n.Reference, sealed,
			string(n.Lifecycle), n.DailyLimit, Millis(n.CreatedAt), revision)
		return s.unique(err, "another number has the phone_number_id %q", n.PhoneNumberID)
	})
}

// UpdateNumber implements store.Settings.
func (s *Store) UpdateNumber(ctx context.Context, id waypost.NumberID, edit func(*waypost.Number) error) (waypost.Number, error) {
	var n waypost.Number
	err := s.configure(ctx, "update number", func(ctx context.Context, tx *sql.Tx, revision int64) error {
		var err error
		if n, err = s.scanNumber(tx.QueryRowContext(ctx, selectNumbers+` WHERE id = $1`, int64(id))); err != nil {
			return found(err, "number", id)
		}
		if err := edit(&n); err != nil {
			return err
		}
		n.ID = id
		sealed, err := s.seal(sealedNumber{AccessToken: n.AccessToken.Reveal()}, id)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
UPDATE numbers SET tenant_id = $2, phone = $3, phone_number_id = $4, waba_id = $5, reference = $6,
	sealed = $7, lifecycle = $8, daily_limit = $9, revision = $10
WHERE id = $1`,
			int64(id), int64(n.TenantID), n.Phone, n.PhoneNumberID, n.WABAID, n.Reference, sealed,
			string(n.Lifecycle), n.DailyLimit, revision)
		return s.unique(err, "another number has the phone_number_id %q", n.PhoneNumberID)
	})
	if err != nil {
		return waypost.Number{}, err
	}
	return n, nil
}

const selectSources = `SELECT id, name, kind, tenant_id, number_id, sealed, created_at FROM sources`

func (s *Store) scanSource(row scanner) (waypost.Source, error) {
	var source waypost.Source
	var sealed []byte
	var created int64
	err := row.Scan(&source.ID, &source.Name, &source.Kind, &source.TenantID, &source.NumberID, &sealed, &created)
	if err != nil {
		return source, err
	}
	source.CreatedAt = FromMillis(created)
	var secrets sealedSource
	err = s.open(sealed, &secrets, source.ID)
	for _, text := range secrets.Secrets {
		source.Secrets = append(source.Secrets, waypost.Secret(text))
	}
	source.VerifyToken = waypost.Secret(secrets.VerifyToken)
	return source, err
}

// PutSource implements store.Settings. A source that is replaced keeps its id
// and its date, because stored events name it.
func (s *Store) PutSource(ctx context.Context, source waypost.Source) error {
	return s.configure(ctx, "put source", func(ctx context.Context, tx *sql.Tx, revision int64) error {
		id := source.ID
		err := tx.QueryRowContext(ctx, `SELECT id FROM sources WHERE kind = $1 AND name = $2`, string(source.Kind), source.Name).Scan(&id)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		secrets := sealedSource{VerifyToken: source.VerifyToken.Reveal()}
		for _, secret := range source.Secrets {
			secrets.Secrets = append(secrets.Secrets, secret.Reveal())
		}
		sealed, err := s.seal(secrets, id)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
INSERT INTO sources (id, name, kind, tenant_id, number_id, sealed, created_at, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (kind, name) DO UPDATE SET tenant_id = excluded.tenant_id,
	number_id = excluded.number_id, sealed = excluded.sealed, revision = excluded.revision`,
			int64(id), source.Name, string(source.Kind), int64(source.TenantID), int64(source.NumberID),
			sealed, Millis(source.CreatedAt), revision)
		return s.unique(err, "source %s exists already under another name", id)
	})
}
