package settings

import (
	"context"
	"maps"
	"slices"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// account is what one credential of a settings API may read and change: the
// slots of one dialect in one tenant. Everything it does goes through place,
// which is where tenants are kept apart.
type account struct {
	service *Service
	dialect registered
	key     waypost.Key
	tenant  waypost.Tenant
	number  *waypost.Number
}

// Tenant implements dialect.Account.
func (a *account) Tenant() waypost.Tenant {
	t := a.tenant
	t.Secrets = maps.Clone(t.Secrets)
	return t
}

// Number implements dialect.Account.
func (a *account) Number() *waypost.Number {
	if a.number == nil {
		return nil
	}
	n := *a.number
	return &n
}

// Numbers implements dialect.Account; oldest first.
func (a *account) Numbers(context.Context) ([]waypost.Number, error) {
	own := a.service.directory.NumbersOf(a.tenant.ID)
	numbers := make([]waypost.Number, len(own))
	for i, n := range own {
		numbers[i] = *n
	}
	return numbers, nil
}

// Endpoints implements dialect.Account.
func (a *account) Endpoints(context.Context) ([]waypost.Endpoint, error) {
	var own []waypost.Endpoint
	for _, e := range a.service.directory.EndpointsOf(a.tenant.ID) {
		if e.Dialect == a.dialect.info.ID && e.Slot != "" {
			own = append(own, clone(e))
		}
	}
	return own, nil
}

// Change implements dialect.Account.
func (a *account) Change(ctx context.Context, place dialect.Place, edit func(*waypost.Endpoint) error) (waypost.Endpoint, error) {
	if err := a.mayUse(ctx, place); err != nil {
		return waypost.Endpoint{}, err
	}
	ctx = a.by(ctx)
	// Twice: another node may have filled or emptied the place a moment ago,
	// which shows only in the write.
	e, err := a.put(ctx, place, edit)
	if kind := waypost.KindOf(err); kind == waypost.KindConflict || kind == waypost.KindNotFound {
		a.service.written(ctx)
		e, err = a.put(ctx, place, edit)
	}
	return e, err
}

func (a *account) put(ctx context.Context, place dialect.Place, edit func(*waypost.Endpoint) error) (waypost.Endpoint, error) {
	if present := a.at(place); present != nil {
		return a.service.actOn(ctx, "endpoint.update", present.ID, detail{}, func(e *waypost.Endpoint) error { return a.apply(e, edit) })
	}
	e := a.service.newEndpoint(a.dialect.info, a.tenant.ID)
	e.NumberID, e.WABAID, e.Slot = place.NumberID, place.WABAID, place.Slot
	if err := a.apply(&e, edit); err != nil {
		return waypost.Endpoint{}, err
	}
	if err := a.service.create(ctx, &e); err != nil {
		return waypost.Endpoint{}, err
	}
	return clone(&e), nil
}

// apply makes the settings API's edit and takes over what it may set.
func (a *account) apply(e *waypost.Endpoint, edit func(*waypost.Endpoint) error) error {
	edited := clone(e)
	if err := edit(&edited); err != nil {
		return err
	}
	faults := fieldsOf(dialect.CheckEndpoint(a.dialect.info, &edited, a.service.trusted))
	if len(faults) == 0 && edited.URL != "" {
		faults = a.service.urlFaults(a.dialect.info, edited.URL)
	}
	if err := invalid(faults); err != nil {
		return err
	}
	e.URL, e.Headers, e.Options, e.Events = edited.URL, edited.Headers, edited.Options, edited.Events
	return nil
}

// Remove implements dialect.Account.
func (a *account) Remove(ctx context.Context, place dialect.Place) error {
	if err := a.mayUse(ctx, place); err != nil {
		return err
	}
	e := a.at(place)
	if e == nil {
		a.service.written(ctx)
		e = a.at(place)
	}
	if e == nil {
		return waypost.Errorf(waypost.KindNotFound, "nothing is set here")
	}
	return a.service.DeleteEndpoint(a.by(ctx), e.ID)
}

// by names who acts: the key, or that of which the token is.
func (a *account) by(ctx context.Context) context.Context {
	id := a.key.ID
	if a.service.isToken(a.key) {
		keys, err := a.service.store.KeysOf(ctx, a.tenant.ID)
		if err != nil {
			a.service.log.WarnContext(ctx, "the key of a token was not found; the audit trail names the token", "error", err)
		}
		for i := range keys {
			if keys[i].Dialect == a.key.Dialect && !a.service.isToken(keys[i]) {
				id = keys[i].ID
			}
		}
	}
	return By(ctx, a.dialect.info.ID+":"+id.String())
}

// mayUse keeps tenants apart: a number or business account in a place must be
// the tenant's own.
func (a *account) mayUse(ctx context.Context, place dialect.Place) error {
	if place.Slot == "" {
		return waypost.Errorf(waypost.KindInternal, "a place without a slot")
	}
	if !IsPlainText(place.Slot) {
		return waypost.Invalid(waypost.FieldError{Field: "name", Message: plainTextFault})
	}
	if place.NumberID != 0 {
		n := look(ctx, a.service, a.service.directory.Number, place.NumberID)
		if n == nil || n.TenantID != a.tenant.ID {
			return waypost.Errorf(waypost.KindForbidden, "the number belongs to another account")
		}
	}
	if place.WABAID != "" && !slices.ContainsFunc(a.service.directory.NumbersOf(a.tenant.ID), func(n *waypost.Number) bool {
		return n.WABAID == place.WABAID
	}) {
		return waypost.Errorf(waypost.KindForbidden, "the business account belongs to another account")
	}
	return nil
}

func (a *account) at(place dialect.Place) *waypost.Endpoint {
	return a.service.inSlot(a.tenant.ID, a.dialect.info.ID, place)
}

// inSlot is the endpoint in a place, or nil.
func (s *Service) inSlot(tenant waypost.TenantID, dialectID string, place dialect.Place) *waypost.Endpoint {
	for _, e := range s.directory.EndpointsOf(tenant) {
		if e.Dialect == dialectID && e.Slot == place.Slot && e.NumberID == place.NumberID && e.WABAID == place.WABAID {
			return e
		}
	}
	return nil
}
