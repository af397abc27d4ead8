package settings

import (
	"context"
	"regexp"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

var sourceName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// PutSource makes a source or replaces the one of its kind with this name;
// replaced tells which. ID and CreatedAt are filled in, and so is the tenant of
// a source that is bound to a number.
func (s *Service) PutSource(ctx context.Context, source waypost.Source) (_ waypost.Source, replaced bool, err error) {
	if err := s.completeSource(ctx, &source); err != nil {
		return waypost.Source{}, false, err
	}
	source.ID, source.CreatedAt = waypost.SourceID(s.newID()), s.now()
	named := func(name string) *waypost.Source { return s.directory.Source(source.Kind, name) }
	if old := look(ctx, s, named, source.Name); old != nil {
		source.ID, source.CreatedAt, replaced = old.ID, old.CreatedAt, true
	}
	put := act{"source.put", source.TenantID, source.ID, detail{"kind": source.Kind, "name": source.Name, "replaced": replaced}}
	if err := s.do(ctx, put, func() error { return s.store.PutSource(ctx, source) }); err != nil {
		return waypost.Source{}, false, err
	}
	s.written(ctx)
	return source, replaced, nil
}

func (s *Service) completeSource(ctx context.Context, source *waypost.Source) error {
	if source.NumberID != 0 {
		n, err := s.Number(ctx, source.NumberID)
		if err != nil {
			return err
		}
		if source.TenantID == 0 {
			source.TenantID = n.TenantID
		}
		if source.TenantID != n.TenantID {
			return waypost.Invalid(waypost.FieldError{Field: "number_id", Message: "belongs to another tenant"})
		}
	}
	if source.TenantID != 0 {
		if _, err := s.Tenant(ctx, source.TenantID); err != nil {
			return err
		}
	}
	return invalid(sourceFaults(source))
}

func sourceFaults(source *waypost.Source) []waypost.FieldError {
	var faults []waypost.FieldError
	refuse := func(wrong bool, field, message string) {
		if wrong {
			faults = append(faults, waypost.FieldError{Field: field, Message: message})
		}
	}
	refuse(!sourceName.MatchString(source.Name), "name", "must be 1 to 64 of a-z, 0-9, - and _: it is part of the ingest URL")
	secretMember := "app_secrets"
	switch source.Kind {
	case waypost.SourceMeta:
		refuse(source.NumberID != 0, "number_id", "a Meta source serves many numbers; leave it out")
	case waypost.SourceOnPrem:
		secretMember = "token"
		refuse(source.VerifyToken != "", "verify_token", "an On-Premises source has none")
	default:
		refuse(true, "kind", "must be meta or onprem")
	}
	refuse(len(source.Secrets) == 0, secretMember, "is needed: without it nothing can be authenticated")
	for _, secret := range source.Secrets {
		refuse(signingSecretFault("", secret.Reveal()) != "", secretMember, signingSecretFault("", secret.Reveal()))
	}
	return faults
}
