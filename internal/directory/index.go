package directory

import (
	"cmp"
	"slices"
	"strings"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// index is the state of a Directory. Rows are replaced and never written to;
// the lists of ids stay inside and are changed in place.
type index struct {
	tenants   map[waypost.TenantID]*waypost.Tenant
	numbers   map[waypost.NumberID]*waypost.Number
	sources   map[sourceKey]*waypost.Source
	endpoints map[waypost.EndpointID]*waypost.Endpoint

	numberByMetaID map[string]waypost.NumberID
	// The lists below are in the order of ids, which is that of creation.
	numbersByPhone map[string][]waypost.NumberID
	numbersByWABA  map[string][]waypost.NumberID
	numbersOf      map[waypost.TenantID][]waypost.NumberID
	endpointsOf    map[waypost.TenantID][]waypost.EndpointID // living ones
	scopes         map[scope][]waypost.EndpointID            // living ones, by what they are owed
}

// sourceKey names a source: each kind has names of its own.
type sourceKey struct {
	kind waypost.SourceKind
	name string
}

// scope is what an endpoint is owed: one number's events, one business
// account's, or (both empty) the whole tenant's.
type scope struct {
	tenant waypost.TenantID
	number waypost.NumberID
	waba   string
}

func scopeOf(e *waypost.Endpoint) scope {
	if e.NumberID != 0 {
		return scope{tenant: e.TenantID, number: e.NumberID}
	}
	return scope{tenant: e.TenantID, waba: e.WABAID}
}

func newIndex() index {
	return index{
		tenants:        map[waypost.TenantID]*waypost.Tenant{},
		numbers:        map[waypost.NumberID]*waypost.Number{},
		sources:        map[sourceKey]*waypost.Source{},
		endpoints:      map[waypost.EndpointID]*waypost.Endpoint{},
		numberByMetaID: map[string]waypost.NumberID{},
		numbersByPhone: map[string][]waypost.NumberID{},
		numbersByWABA:  map[string][]waypost.NumberID{},
		numbersOf:      map[waypost.TenantID][]waypost.NumberID{},
		endpointsOf:    map[waypost.TenantID][]waypost.EndpointID{},
		scopes:         map[scope][]waypost.EndpointID{},
	}
}

// apply takes the changes in and tells which endpoints are among them.
func (x *index) apply(changes *store.Changes) []waypost.EndpointID {
	var touched []waypost.EndpointID
	// Rows are copied out, so that a snapshot does not keep the whole answer of
	// the store in memory.
	for _, tenant := range changes.Tenants {
		x.tenants[tenant.ID] = &tenant
	}
	for _, source := range changes.Sources {
		x.sources[sourceKey{source.Kind, source.Name}] = &source
	}
	for _, number := range changes.Numbers {
		x.putNumber(&number)
	}
	for _, endpoint := range changes.Endpoints {
		x.putEndpoint(&endpoint)
		touched = append(touched, endpoint.ID)
	}
	return touched
}

func (x *index) putNumber(n *waypost.Number) {
	if old := x.numbers[n.ID]; old != nil {
		if x.numberByMetaID[old.PhoneNumberID] == old.ID {
			delete(x.numberByMetaID, old.PhoneNumberID)
		}
		drop(x.numbersByPhone, old.Phone, old.ID)
		drop(x.numbersByWABA, old.WABAID, old.ID)
	}
	x.numbers[n.ID] = n
	add(x.numbersOf, n.TenantID, n.ID)
	if n.PhoneNumberID != "" {
		x.numberByMetaID[n.PhoneNumberID] = n.ID
	}
	if n.Phone != "" {
		add(x.numbersByPhone, n.Phone, n.ID)
	}
	if n.WABAID != "" {
		add(x.numbersByWABA, n.WABAID, n.ID)
	}
}

func (x *index) putEndpoint(e *waypost.Endpoint) {
	if old := x.endpoints[e.ID]; old != nil && old.DeletedAt.IsZero() {
		drop(x.scopes, scopeOf(old), old.ID)
		drop(x.endpointsOf, old.TenantID, old.ID)
	}
	if !e.DeletedAt.IsZero() {
		x.endpoints[e.ID] = tombstone(e)
		return
	}
	x.endpoints[e.ID] = compact(e)
	add(x.scopes, scopeOf(e), e.ID)
	add(x.endpointsOf, e.TenantID, e.ID)
}

// add puts an id into one of the ordered lists. New ids are the highest, so
// this is an append as a rule.
func add[K comparable, ID ~int64](lists map[K][]ID, key K, id ID) {
	if i, found := slices.BinarySearch(lists[key], id); !found {
		lists[key] = slices.Insert(lists[key], i, id)
	}
}

// drop takes an id out of one of the ordered lists.
func drop[K comparable, ID ~int64](lists map[K][]ID, key K, id ID) {
	i, found := slices.BinarySearch(lists[key], id)
	switch {
	case !found:
	case len(lists[key]) == 1:
		delete(lists, key)
	default:
		lists[key] = slices.Delete(lists[key], i, i+1)
	}
}

// tombstone is what is still needed of a deleted endpoint.
func tombstone(e *waypost.Endpoint) *waypost.Endpoint {
	return &waypost.Endpoint{
		ID: e.ID, TenantID: e.TenantID, NumberID: e.NumberID, WABAID: e.WABAID, Dialect: e.Dialect, Slot: e.Slot,
		State: e.State, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt, DeletedAt: e.DeletedAt,
	}
}

// compact drops what an empty map or list costs; there may be very many endpoints.
func compact(e *waypost.Endpoint) *waypost.Endpoint {
	if len(e.Headers) == 0 {
		e.Headers = nil
	}
	if len(e.Options) == 0 {
		e.Options = nil
	}
	if len(e.Events) == 0 {
		e.Events = nil
	}
	if len(e.Secrets) == 0 {
		e.Secrets = nil
	}
	return e
}

func (x *index) owner(phoneNumberID, wabaID, phone string) (waypost.TenantID, waypost.NumberID) {
	if phoneNumberID != "" {
		if n := x.numbers[x.numberByMetaID[phoneNumberID]]; n != nil {
			return n.TenantID, n.ID
		}
		return 0, 0
	}
	if n := x.numberByPhone(wabaID, phone); n != nil {
		return n.TenantID, n.ID
	}
	return x.tenantOfWABA(wabaID), 0
}

// numberByPhone is the one number with the phone that the business account
// does not speak against.
func (x *index) numberByPhone(wabaID, phone string) *waypost.Number {
	var found *waypost.Number
	for _, id := range x.numbersByPhone[phone] {
		n := x.numbers[id]
		if wabaID != "" && n.WABAID != "" && n.WABAID != wabaID {
			continue
		}
		if found != nil {
			return nil
		}
		found = n
	}
	return found
}

func (x *index) tenantOfWABA(wabaID string) waypost.TenantID {
	var tenant waypost.TenantID
	for _, id := range x.numbersByWABA[wabaID] {
		n := x.numbers[id]
		if tenant != 0 && n.TenantID != tenant {
			return 0
		}
		tenant = n.TenantID
	}
	return tenant
}

func (x *index) candidates(tenant waypost.TenantID, number waypost.NumberID, wabaID string) []*waypost.Endpoint {
	if tenant == 0 {
		return nil
	}
	var found []*waypost.Endpoint
	gather := func(s scope) {
		for _, id := range x.scopes[s] {
			found = append(found, x.endpoints[id])
		}
	}
	if number != 0 {
		gather(scope{tenant: tenant, number: number})
	} else {
		for _, id := range x.numbersByWABA[wabaID] {
			gather(scope{tenant: tenant, number: id})
		}
	}
	if n := x.numbers[number]; n != nil {
		wabaID = cmp.Or(wabaID, n.WABAID)
	}
	if wabaID != "" {
		gather(scope{tenant: tenant, waba: wabaID})
	}
	gather(scope{tenant: tenant})
	return found
}

// digits strips a displayed phone ("+1 555-010-0000") to what Number.Phone holds.
func digits(phone string) string {
	isDigit := func(r rune) bool { return r >= '0' && r <= '9' }
	if strings.IndexFunc(phone, func(r rune) bool { return !isDigit(r) }) < 0 {
		return phone
	}
	return strings.Map(func(r rune) rune {
		if isDigit(r) {
			return r
		}
		return -1
	}, phone)
}
