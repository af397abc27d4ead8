package settings

import (
	"context"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// The key of a number's V2 API is told to the tenant with each step of the
// number's onboarding, so its text has to be known again after it was made.
// Nothing is kept for that: the text is derived from a secret of the gateway and
// the key's id, and whether it is the key in force shows in the digest. A key
// that was made under a secret which is gone is not told, and works on.

// toldDialect is the dialect whose keys are told.
const toldDialect = "99digital"

// keyText makes the text of a new key. The same seed gives a key that is told
// the same text again.
func (s *Service) keyText(dialectID, seed string) waypost.Secret {
	if dialectID != toldDialect || len(s.secrets) == 0 {
		return newKeyText()
	}
	return derivedKeyText(s.secrets[0], seed)
}

// textAgain is the text of a key, or "" when it is not known.
func (s *Service) textAgain(key *waypost.Key) waypost.Secret {
	for _, secret := range s.secrets {
		for _, seed := range []string{key.ID.String(), firstKeySeed(key.NumberID)} {
			if text := derivedKeyText(secret, seed); digest(text.Reveal()) == key.Digest {
				return text
			}
		}
	}
	return ""
}

// firstKeySeed is what a number's first key is derived from where it is made
// here: should two nodes make it at once, it is the same.
func firstKeySeed(number waypost.NumberID) string { return number.String() }

// keyToTell is the text of the number's key, "" if it is not known. A number
// that never had a key gets one; one whose key was revoked does not.
func (s *Service) keyToTell(ctx context.Context, n *waypost.Number) (waypost.Secret, error) {
	if _, ok := s.dialects[toldDialect]; !ok || len(s.secrets) == 0 {
		return "", nil
	}
	keys, err := s.store.KeysOf(ctx, n.TenantID)
	if err != nil {
		return "", err
	}
	for i := range keys {
		if keys[i].Dialect == toldDialect && keys[i].NumberID == n.ID {
			return s.textAgain(&keys[i]), nil
		}
	}
	text := s.keyText(toldDialect, firstKeySeed(n.ID))
	first := waypost.Key{
		ID:        waypost.KeyID(s.newID()),
		Dialect:   toldDialect,
		TenantID:  n.TenantID,
		NumberID:  n.ID,
		Digest:    digest(text.Reveal()),
		CreatedAt: s.now(),
	}
	created := act{"key.create", n.TenantID, first.ID, keyDetail(&first)}
	return text, s.do(ctx, created, func() error { return s.store.CreateKey(ctx, first) })
}
