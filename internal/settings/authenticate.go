package settings

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var (
	errBadKey  = waypost.Errorf(waypost.KindUnauthorized, "the key is missing, unknown or revoked")
	errExpired = waypost.Errorf(waypost.KindUnauthorized, "the key has expired")
	errNoPhone = waypost.Errorf(waypost.KindNotFound, "no number has this phone")
	errGuesses = waypost.Errorf(waypost.KindRateLimited, "too many bad keys came from this address; wait a while")
)

// Authenticate implements dialect.Admin. The store is asked for the key's
// digest, so neither how far a guess was right nor how long it is shows in the
// time it takes. Only bad credentials are counted against an address, and good
// ones get through from anywhere, unless the dialect blocks addresses.
func (s *Service) Authenticate(ctx context.Context, c dialect.Credential) (dialect.Account, error) {
	d, ok := s.dialects[c.Dialect]
	if !ok || d.info.Keys == nil {
		return nil, errBadKey
	}
	if d.guesses.Closed(c.Remote) {
		return nil, errGuesses
	}
	key, err := s.find(ctx, d.info.Keys, c)
	if isGuess(err) && d.guesses.Failed(c.Remote) {
		return nil, errGuesses
	}
	if err != nil {
		return nil, err
	}
	return s.accountOf(ctx, d, key)
}

// isGuess reports whether an error of find may be that of somebody who guesses.
// A token that ran out was a good one once.
func isGuess(err error) bool { return errors.Is(err, errBadKey) || errors.Is(err, errNoPhone) }

// find finds the key that the credential shows.
func (s *Service) find(ctx context.Context, spec *dialect.KeySpec, c dialect.Credential) (waypost.Key, error) {
	key, err := s.keyByText(ctx, spec, c)
	if err == nil && !s.belongs(ctx, spec, &key, c.Account) {
		err = errBadKey
	}
	if errors.Is(err, errBadKey) && spec.AccountIsPhone && !s.hasPhone(ctx, c.Account) {
		err = errNoPhone
	}
	return key, err
}

func (s *Service) keyByText(ctx context.Context, spec *dialect.KeySpec, c dialect.Credential) (waypost.Key, error) {
	switch {
	case c.Key == "":
		return waypost.Key{}, errBadKey
	case spec.Tokens && s.ranOut(c.Key):
		return waypost.Key{}, errExpired
	}
	key, err := s.store.KeyByDigest(ctx, c.Dialect, digest(c.Key))
	switch {
	case waypost.KindOf(err) == waypost.KindNotFound:
		return waypost.Key{}, errBadKey
	case err != nil:
		return waypost.Key{}, err
	case revoked(key):
		return waypost.Key{}, errBadKey
	case s.expired(key):
		return waypost.Key{}, errExpired
	}
	return key, nil
}

// belongs reports whether the account that was shown beside the key is the
// key's own. Where there are tokens, the account is also what tells a key,
// which must have one, from a token, which must not.
func (s *Service) belongs(ctx context.Context, spec *dialect.KeySpec, key *waypost.Key, account string) bool {
	if spec.AccountIsPhone {
		number := look(ctx, s, s.directory.Number, key.NumberID)
		return number != nil && number.Phone == account
	}
	if spec.Tokens && (account == "") != s.isToken(*key) {
		return false
	}
	return account == "" || subtle.ConstantTimeCompare([]byte(account), []byte(key.Account)) == 1
}

func (s *Service) hasPhone(ctx context.Context, phone string) bool {
	return look(ctx, s, func(phone string) *waypost.Number {
		for _, n := range s.directory.Numbers(func(n *waypost.Number) bool { return n.Phone == phone }) {
			return n
		}
		return nil
	}, phone) != nil
}

// accountOf is what the key speaks for.
func (s *Service) accountOf(ctx context.Context, d registered, key waypost.Key) (dialect.Account, error) {
	a := &account{service: s, dialect: d, key: key}
	tenant, err := s.Tenant(ctx, key.TenantID)
	if err != nil {
		return nil, &waypost.Error{Message: "the key's tenant is gone", Err: err}
	}
	a.tenant = *tenant
	if key.NumberID != 0 {
		number, err := s.Number(ctx, key.NumberID)
		if err != nil {
			return nil, &waypost.Error{Message: "the key's number is gone", Err: err}
		}
		n := *number
		a.number = &n
	}
	return a, nil
}

// Tokens are keys that expire. Their text tells when, in unix seconds, so that
// one which ran out is known as such after its row is gone: it is refused
// unseen, and is no guess.
const tokenPrefix = "wpt_"

// IssueToken implements dialect.Tokens.
func (s *Service) IssueToken(ctx context.Context, of dialect.Account, ttl time.Duration) (string, time.Time, error) {
	a, ok := of.(*account)
	if !ok || !a.dialect.info.Keys.Tokens {
		return "", time.Time{}, waypost.Errorf(waypost.KindInternal, "a token for an account that has none")
	}
	if err := s.roomForToken(ctx, a.tenant.ID, a.dialect.info.ID); err != nil {
		return "", time.Time{}, err
	}
	now := s.now()
	expires := now.Add(ttl).Truncate(time.Second)
	token := fmt.Sprintf("%s%d_%s", tokenPrefix, expires.Unix(), lowerBase32.EncodeToString(random(32)))
	key := waypost.Key{
		ID:        waypost.KeyID(s.newID()),
		Dialect:   a.dialect.info.ID,
		TenantID:  a.tenant.ID,
		Digest:    digest(token),
		CreatedAt: now,
		ExpiresAt: expires,
	}
	if a.number != nil {
		key.NumberID = a.number.ID
	}
	if err := s.store.CreateKey(ctx, key); err != nil {
		return "", time.Time{}, err
	}
	return token, expires, nil
}

// roomForToken bounds what somebody who asks for a new token with each call adds
// to the store.
func (s *Service) roomForToken(ctx context.Context, tenant waypost.TenantID, dialectID string) error {
	keys, err := s.store.KeysOf(ctx, tenant)
	if err != nil {
		return err
	}
	live := 0
	for _, key := range keys {
		if key.Dialect == dialectID && s.isToken(key) && !s.expired(key) {
			live++
		}
	}
	if live >= s.maxTokens {
		return waypost.Errorf(waypost.KindRateLimited, "%d tokens are alive already; use one of them until it expires", live)
	}
	return nil
}

// ranOut reports whether a token's text says that its time is over.
func (s *Service) ranOut(text string) bool {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return false
	}
	seconds, _, _ := strings.Cut(rest, "_")
	expires, err := strconv.ParseInt(seconds, 10, 64)
	return err == nil && !s.now().Before(time.Unix(expires, 0))
}

// isToken reports whether a key is a token.
func (s *Service) isToken(key waypost.Key) bool {
	spec := s.dialects[key.Dialect].info.Keys
	return spec != nil && spec.Tokens && !key.ExpiresAt.IsZero()
}
