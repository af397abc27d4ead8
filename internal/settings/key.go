package settings

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// NewKey is a key just made. Its text is nowhere else.
type NewKey struct {
	waypost.Key
	Spec dialect.KeySpec
	Text waypost.Secret
	// TenantSecret is the tenant's signing secret; empty where the dialect's
	// keys come without one.
	TenantSecret waypost.Secret
}

// CreateKey makes a key of a dialect's settings API, for a number or for a
// whole tenant, as the dialect has it. The earlier key of the same dialect and
// holder is revoked. Account name and signing secret outlive keys.
func (s *Service) CreateKey(ctx context.Context, dialectID string, tenant waypost.TenantID, number waypost.NumberID) (NewKey, error) {
	spec, err := s.keySpec(dialectID)
	if err != nil {
		return NewKey{}, err
	}
	if tenant, err = s.holder(ctx, spec, tenant, number); err != nil {
		return NewKey{}, err
	}
	if dialectID == toldDialect {
		s.moving.Lock() // so that a number's first key is not made here and there at once
		defer s.moving.Unlock()
	}
	id := waypost.KeyID(s.newID())
	text := s.keyText(dialectID, id.String())
	made := NewKey{Spec: spec, Text: text, Key: waypost.Key{
		ID:        id,
		Dialect:   dialectID,
		TenantID:  tenant,
		NumberID:  number,
		Digest:    digest(text.Reveal()),
		CreatedAt: s.now(),
	}}
	created := act{"key.create", tenant, id, keyDetail(&made.Key)}
	err = s.do(ctx, created, func() error { return s.storeKey(ctx, &made) })
	if err != nil {
		return NewKey{}, err
	}
	s.written(ctx)
	return made, nil
}

// storeKey stores a new key with what belongs to it.
func (s *Service) storeKey(ctx context.Context, made *NewKey) (err error) {
	if made.Spec.AccountMember != "" {
		if made.Account, err = s.account(ctx, made.Dialect, made.TenantID, made.NumberID); err != nil {
			return err
		}
	}
	if made.Spec.SecretMember != "" {
		if made.TenantSecret, err = s.tenantSecret(ctx, made.Dialect, made.TenantID); err != nil {
			return err
		}
	}
	if err := s.store.CreateKey(ctx, made.Key); err != nil {
		return err
	}
	if made.Spec.ClearsWebhook {
		return s.clearWebhook(ctx, made.Dialect, made.TenantID, made.NumberID)
	}
	return nil
}

func keyDetail(key *waypost.Key) detail {
	told := detail{"dialect": key.Dialect}
	if key.NumberID != 0 {
		told["number_id"] = key.NumberID.String()
	}
	return told
}

func (s *Service) keySpec(dialectID string) (dialect.KeySpec, error) {
	d, ok := s.dialects[dialectID]
	if !ok || d.info.Keys == nil {
		return dialect.KeySpec{}, waypost.Invalid(waypost.FieldError{Field: "dialect", Message: "is not a dialect with a settings API"})
	}
	return *d.info.Keys, nil
}

// holder checks whom the key is for and gives the tenant.
func (s *Service) holder(ctx context.Context, spec dialect.KeySpec, tenant waypost.TenantID, number waypost.NumberID) (waypost.TenantID, error) {
	switch {
	case spec.PerNumber && number == 0:
		return 0, waypost.Invalid(waypost.FieldError{Field: "number_id", Message: "is needed: a key of this dialect speaks for one number"})
	case !spec.PerNumber && number != 0:
		return 0, waypost.Invalid(waypost.FieldError{Field: "number_id", Message: "a key of this dialect speaks for a whole tenant; give tenant_id"})
	case !spec.PerNumber && tenant == 0:
		return 0, waypost.Invalid(waypost.FieldError{Field: "tenant_id", Message: "is needed: a key of this dialect speaks for a whole tenant"})
	case !spec.PerNumber:
		_, err := s.Tenant(ctx, tenant)
		return tenant, err
	}
	n, err := s.Number(ctx, number)
	if err != nil {
		return 0, err
	}
	if tenant == 0 {
		tenant = n.TenantID
	}
	return tenant, s.owns(ctx, tenant, number)
}

// account is the public name beside the key: the holder's present one, or new.
func (s *Service) account(ctx context.Context, dialectID string, tenant waypost.TenantID, number waypost.NumberID) (string, error) {
	keys, err := s.store.KeysOf(ctx, tenant)
	if err != nil {
		return "", err
	}
	for _, key := range keys {
		if key.Dialect == dialectID && key.NumberID == number && key.Account != "" {
			return key.Account, nil
		}
	}
	return newAccountName(), nil
}

// tenantSecret is the tenant's signing secret for the dialect, made if there
// was none.
func (s *Service) tenantSecret(ctx context.Context, dialectID string, tenant waypost.TenantID) (waypost.Secret, error) {
	t, err := s.store.UpdateTenant(ctx, tenant, func(t *waypost.Tenant) error {
		if t.Secrets[dialectID] != "" {
			return nil
		}
		t.Secrets = maps.Clone(t.Secrets)
		if t.Secrets == nil {
			t.Secrets = map[string]waypost.Secret{}
		}
		t.Secrets[dialectID] = newSigningSecret("")
		return nil
	})
	return t.Secrets[dialectID], err
}

// clearWebhook empties the number's own webhook, as a provider does whose keys
// and webhooks belong together. What is owed is held until a URL is set again.
func (s *Service) clearWebhook(ctx context.Context, dialectID string, tenant waypost.TenantID, number waypost.NumberID) error {
	s.written(ctx)
	e := s.inSlot(tenant, dialectID, dialect.Place{NumberID: number, Slot: slotNumber})
	if e == nil {
		return nil
	}
	_, err := s.actOn(ctx, "endpoint.update", e.ID, detail{}, func(e *waypost.Endpoint) error {
		e.URL, e.Headers = "", nil
		return nil
	})
	return err
}

// slotNumber is the slot of a number's one webhook.
const slotNumber = "number"

// Keys lists the living keys of one tenant, or of all (0), newest first. Tokens
// are not among them: they come and go, and end with their key.
func (s *Service) Keys(ctx context.Context, tenant waypost.TenantID) ([]waypost.Key, error) {
	tenants := []waypost.TenantID{tenant}
	if tenant == 0 {
		tenants = nil
		for _, t := range s.directory.Tenants() {
			tenants = append(tenants, t.ID)
		}
	}
	var living []waypost.Key
	for _, id := range tenants {
		keys, err := s.store.KeysOf(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if !s.expired(key) && !revoked(key) && !s.isToken(key) {
				living = append(living, key)
			}
		}
	}
	slices.SortFunc(living, func(a, b waypost.Key) int { return cmp.Compare(b.ID, a.ID) })
	return living, nil
}

func (s *Service) expired(key waypost.Key) bool {
	return !key.ExpiresAt.IsZero() && !s.now().Before(key.ExpiresAt)
}

// RevokeKey ends a key. In its place stays one that nothing opens, so that the
// holder's next key has the same account name.
func (s *Service) RevokeKey(ctx context.Context, id waypost.KeyID) error {
	keys, err := s.Keys(ctx, 0)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(keys, func(key waypost.Key) bool { return key.ID == id })
	if i < 0 {
		return waypost.Errorf(waypost.KindNotFound, "no key has the id %q", id)
	}
	seal := keys[i]
	seal.ID = waypost.KeyID(s.newID())
	seal.Digest = revokedDigest(seal.ID)
	revoke := act{"key.revoke", seal.TenantID, id, keyDetail(&seal)}
	return s.do(ctx, revoke, func() error { return s.store.CreateKey(ctx, seal) })
}

// revokedDigest is half zeros and half the id: no text anybody could find has
// such a digest, and no two are alike.
func revokedDigest(id waypost.KeyID) (d [sha256.Size]byte) {
	binary.BigEndian.PutUint64(d[sha256.Size-8:], uint64(id))
	return d
}

func revoked(key waypost.Key) bool { return key.Digest == revokedDigest(key.ID) }

func digest(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }
