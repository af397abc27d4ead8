package settings

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

const maxText = 256 // of names and references

// TenantChange is what a caller sets on a tenant; nil members are left alone.
type TenantChange struct {
	Name      *string
	Reference *string
	// Secrets are merged by dialect; a nil value takes the secret away.
	Secrets map[string]*waypost.Secret
}

// CreateTenant makes a tenant. A name is needed.
func (s *Service) CreateTenant(ctx context.Context, change TenantChange) (waypost.Tenant, error) {
	t := waypost.Tenant{ID: waypost.TenantID(s.newID()), CreatedAt: s.now()}
	if err := s.applyTenant(&t, change); err != nil {
		return waypost.Tenant{}, err
	}
	created := act{"tenant.create", t.ID, t.ID, tenantDetail(&waypost.Tenant{}, &t)}
	if err := s.do(ctx, created, func() error { return s.store.CreateTenant(ctx, t) }); err != nil {
		return waypost.Tenant{}, err
	}
	s.written(ctx)
	return t, nil
}

// UpdateTenant changes a tenant.
func (s *Service) UpdateTenant(ctx context.Context, id waypost.TenantID, change TenantChange) (waypost.Tenant, error) {
	before, err := s.Tenant(ctx, id)
	if err != nil {
		return waypost.Tenant{}, err
	}
	t := *before
	if err := s.applyTenant(&t, change); err != nil {
		return waypost.Tenant{}, err
	}
	err = s.do(ctx, act{"tenant.update", id, id, tenantDetail(before, &t)}, func() error {
		t, err = s.store.UpdateTenant(ctx, id, func(t *waypost.Tenant) error { return s.applyTenant(t, change) })
		return err
	})
	if err != nil {
		return waypost.Tenant{}, err
	}
	s.written(ctx)
	return t, nil
}

func (s *Service) applyTenant(t *waypost.Tenant, change TenantChange) error {
	set(&t.Name, change.Name)
	set(&t.Reference, change.Reference)
	t.Name = strings.TrimSpace(t.Name)
	t.Secrets = maps.Clone(t.Secrets)
	var faults []waypost.FieldError
	if t.Name == "" || len(t.Name) > maxText {
		faults = append(faults, waypost.FieldError{Field: "name", Message: "must be 1 to 256 bytes"})
	}
	if !IsPlainText(t.Name) {
		faults = append(faults, waypost.FieldError{Field: "name", Message: plainTextFault})
	}
	if fault := referenceFault(t.Reference); fault != "" {
		faults = append(faults, waypost.FieldError{Field: "reference", Message: fault})
	}
	for _, id := range slices.Sorted(maps.Keys(change.Secrets)) {
		value := change.Secrets[id]
		if value == nil {
			delete(t.Secrets, id)
			continue
		}
		if fault := s.tenantSecretFault(id, value.Reveal()); fault != "" {
			faults = append(faults, waypost.FieldError{Field: "secrets." + id, Message: fault})
			continue
		}
		if t.Secrets == nil {
			t.Secrets = map[string]waypost.Secret{}
		}
		t.Secrets[id] = *value
	}
	return invalid(faults)
}

func (s *Service) tenantSecretFault(dialectID, text string) string {
	if _, ok := s.dialects[dialectID]; !ok {
		return "is not a dialect; there are " + strings.Join(s.order, ", ")
	}
	if isPlaceholder(text) {
		return placeholderFault
	}
	return signingSecretFault("", text)
}

// Answers show a placeholder where a secret is; one that comes back is a
// client that sends what it read, and must not become the secret.
const placeholderFault = "is only what answers show in place of the value; leave it out to keep the value"

func isPlaceholder(text string) bool { return text == waypost.Secret("").String() }

const plainTextFault = "must be UTF-8 without control characters"

// IsPlainText reports whether a text can be stored as such: each of the databases
// can hold it, and a terminal can show it.
func IsPlainText(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

func referenceFault(text string) string {
	switch {
	case len(text) > maxText:
		return "must be at most 256 bytes"
	case !IsPlainText(text):
		return plainTextFault
	}
	return ""
}

// NumberChange is what a caller sets on a number; nil members are left alone.
type NumberChange struct {
	Phone         *string
	PhoneNumberID *string
	WABAID        *string
	Reference     *string
	AccessToken   *waypost.Secret
	Lifecycle     *waypost.Lifecycle
	DailyLimit    *int64
}

// CreateNumber makes a number of a tenant. A phone is needed. KindConflict if
// another number has the phone_number_id.
func (s *Service) CreateNumber(ctx context.Context, tenant waypost.TenantID, change NumberChange) (waypost.Number, error) {
	if _, err := s.Tenant(ctx, tenant); err != nil {
		return waypost.Number{}, err
	}
	n := waypost.Number{ID: waypost.NumberID(s.newID()), TenantID: tenant, CreatedAt: s.now()}
	if err := applyNumber(&n, change); err != nil {
		return waypost.Number{}, err
	}
	created := act{"number.create", tenant, n.ID, numberDetail(&waypost.Number{}, &n)}
	if err := s.do(ctx, created, func() error { return s.store.CreateNumber(ctx, n) }); err != nil {
		return waypost.Number{}, err
	}
	s.written(ctx)
	return n, nil
}

// UpdateNumber changes a number.
func (s *Service) UpdateNumber(ctx context.Context, id waypost.NumberID, change NumberChange) (waypost.Number, error) {
	before, err := s.Number(ctx, id)
	if err != nil {
		return waypost.Number{}, err
	}
	n := *before
	if err := applyNumber(&n, change); err != nil {
		return waypost.Number{}, err
	}
	err = s.do(ctx, act{"number.update", n.TenantID, id, numberDetail(before, &n)}, func() error {
		n, err = s.putNumber(ctx, id, change)
		return err
	})
	return n, err
}

// putNumber is the one way in which a stored number is changed.
func (s *Service) putNumber(ctx context.Context, id waypost.NumberID, change NumberChange) (waypost.Number, error) {
	n, err := s.store.UpdateNumber(ctx, id, func(n *waypost.Number) error { return applyNumber(n, change) })
	if err != nil {
		return waypost.Number{}, err
	}
	s.written(ctx)
	return n, nil
}

const wabaFault = "must be Meta's id of the business account"

var metaID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// phoneFiller is what people put between the digits of a phone number.
var phoneFiller = strings.NewReplacer("+", "", " ", "", "-", "", ".", "", "(", "", ")", "")

func applyNumber(n *waypost.Number, change NumberChange) error {
	set(&n.Phone, change.Phone)
	set(&n.PhoneNumberID, change.PhoneNumberID)
	set(&n.WABAID, change.WABAID)
	set(&n.Reference, change.Reference)
	set(&n.AccessToken, change.AccessToken)
	set(&n.Lifecycle, change.Lifecycle)
	set(&n.DailyLimit, change.DailyLimit)
	n.Phone = phoneFiller.Replace(n.Phone)
	return invalid(numberFaults(n))
}

func numberFaults(n *waypost.Number) []waypost.FieldError {
	var faults []waypost.FieldError
	refuse := func(wrong bool, field, message string) {
		if wrong {
			faults = append(faults, waypost.FieldError{Field: field, Message: message})
		}
	}
	notDigit := func(r rune) bool { return r < '0' || r > '9' }
	refuse(len(n.Phone) < 5 || len(n.Phone) > 15 || strings.ContainsFunc(n.Phone, notDigit),
		"phone", "must be 5 to 15 digits with the country code")
	refuse(n.PhoneNumberID != "" && !metaID.MatchString(n.PhoneNumberID), "phone_number_id", "must be Meta's id of the number")
	refuse(n.WABAID != "" && !metaID.MatchString(n.WABAID), "waba_id", wabaFault)
	refuse(referenceFault(n.Reference) != "", "reference", referenceFault(n.Reference))
	refuse(len(n.AccessToken.Reveal()) > 4096, "access_token", "must be at most 4096 bytes")
	refuse(!slices.Contains(lifecycles, n.Lifecycle), "lifecycle", "must be one of onboarded, receiving, ready, deleted, failed")
	refuse(n.DailyLimit < 0, "daily_limit", "must not be negative")
	return faults
}

var lifecycles = []waypost.Lifecycle{
	waypost.LifecycleUnknown, waypost.LifecycleOnboarded, waypost.LifecycleReceiving,
	waypost.LifecycleReady, waypost.LifecycleDeleted, waypost.LifecycleFailed,
}

// set changes a value where a change is given.
func set[T any](value, change *T) {
	if change != nil {
		*value = *change
	}
}
