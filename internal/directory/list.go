package directory

import (
	"cmp"
	"maps"
	"slices"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Tenants lists the tenants, newest first.
func (d *Directory) Tenants() []*waypost.Tenant {
	return list(d, d.index.tenants, nil)
}

// Numbers lists the numbers that keep admits, newest first.
func (d *Directory) Numbers(keep func(*waypost.Number) bool) []*waypost.Number {
	return list(d, d.index.numbers, keep)
}

// Endpoints lists the endpoints that keep admits, newest first. Deleted ones
// are left out.
func (d *Directory) Endpoints(keep func(*waypost.Endpoint) bool) []*waypost.Endpoint {
	return list(d, d.index.endpoints, func(e *waypost.Endpoint) bool {
		return e.DeletedAt.IsZero() && keep(e)
	})
}

// Sources lists the sources, newest first.
func (d *Directory) Sources() []*waypost.Source {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.SortedFunc(maps.Values(d.index.sources), func(a, b *waypost.Source) int {
		return cmp.Compare(b.ID, a.ID)
	})
}

// NumbersOf lists the numbers of a tenant, oldest first.
func (d *Directory) NumbersOf(tenant waypost.TenantID) []*waypost.Number {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return gather(d.index.numbers, d.index.numbersOf[tenant])
}

// EndpointsOf lists the endpoints of a tenant, oldest first, without deleted ones.
func (d *Directory) EndpointsOf(tenant waypost.TenantID) []*waypost.Endpoint {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return gather(d.index.endpoints, d.index.endpointsOf[tenant])
}

func gather[ID comparable, Row any](rows map[ID]*Row, ids []ID) []*Row {
	found := make([]*Row, len(ids))
	for i, id := range ids {
		found[i] = rows[id]
	}
	return found
}

// list copies out what keep admits (nil: all) and sorts it without holding up
// the writers.
func list[ID ~int64, Row any](d *Directory, rows map[ID]*Row, keep func(*Row) bool) []*Row {
	type entry struct {
		id  ID
		row *Row
	}
	var kept []entry
	d.mu.RLock()
	for id, row := range rows {
		if keep == nil || keep(row) {
			kept = append(kept, entry{id, row})
		}
	}
	d.mu.RUnlock()
	slices.SortFunc(kept, func(a, b entry) int { return cmp.Compare(b.id, a.id) })
	sorted := make([]*Row, len(kept))
	for i := range kept {
		sorted[i] = kept[i].row
	}
	return sorted
}
