package storetest

import (
	"encoding/json"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var auditTests = []test{
	{"an entry comes back as it was", auditRoundTrip},
	{"newest first, by filter, page by page", auditTrail},
}

// act records one and gives it as it must come back.
func (f *fixture) act(change func(*store.AuditEntry)) store.AuditEntry {
	f.tb.Helper()
	entry := store.AuditEntry{
		ID: f.ids.Next(), TenantID: f.tenant, Actor: "admin", Action: "endpoint.purge",
		Target: f.endpoints[0].String(), Detail: json.RawMessage(`{"dropped": 12, "note": "\u00fc"}`),
	}
	change(&entry)
	f.must(f.store.Record(f.ctx(), entry))
	return entry
}

func (f *fixture) trail(filter store.AuditFilter) []store.AuditEntry {
	f.tb.Helper()
	entries, err := f.store.AuditTrail(f.ctx(), filter)
	f.must(err)
	return entries
}

func auditRoundTrip(f *fixture) {
	f.equal("empty trail", f.trail(store.AuditFilter{}), []store.AuditEntry{})
	full := f.act(func(*store.AuditEntry) {})
	f.equal("entry", f.trail(store.AuditFilter{}), []store.AuditEntry{full})
	f.kind(f.store.Record(f.ctx(), full), waypost.KindConflict)

	bare := store.AuditEntry{ID: f.ids.Next(), Actor: "admin", Action: "token.rotate"}
	f.must(f.store.Record(f.ctx(), bare))
	bare.Detail = json.RawMessage(`{}`)
	f.equal("bare entry", f.trail(store.AuditFilter{Limit: 1}), []store.AuditEntry{bare})

	f.must(f.store.Close())
	f.store = f.open(f.tb)
	f.equal("after opening again", f.trail(store.AuditFilter{}), []store.AuditEntry{bare, full})
}

func auditTrail(f *fixture) {
	acts := []store.AuditEntry{
		f.act(func(*store.AuditEntry) {}),
		f.act(func(e *store.AuditEntry) { e.TenantID++ }),
		f.act(func(e *store.AuditEntry) { e.Action = "endpoint.pause" }),
		f.act(func(e *store.AuditEntry) { e.Target = f.endpoints[1].String() }),
		f.act(func(e *store.AuditEntry) { e.TenantID = 0 }),
	}
	for name, c := range map[string]struct {
		filter store.AuditFilter
		want   []int
	}{
		"none":             {store.AuditFilter{}, []int{4, 3, 2, 1, 0}},
		"tenant":           {store.AuditFilter{TenantID: f.tenant}, []int{3, 2, 0}},
		"action":           {store.AuditFilter{Action: "endpoint.pause"}, []int{2}},
		"target":           {store.AuditFilter{Target: f.endpoints[1].String()}, []int{3}},
		"tenant, before":   {store.AuditFilter{TenantID: f.tenant, Before: acts[3].ID}, []int{2, 0}},
		"limit":            {store.AuditFilter{Limit: 2}, []int{4, 3}},
		"limit, next page": {store.AuditFilter{Limit: 2, Before: acts[3].ID}, []int{2, 1}},
		"nothing":          {store.AuditFilter{Action: "endpoint"}, nil},
	} {
		var want []store.AuditEntry
		for _, i := range c.want {
			want = append(want, acts[i])
		}
		f.equal(name, f.trail(c.filter), want)
	}
}
