package directory

import (
	"cmp"
	"slices"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Router tells what an event is owed to: a Directory that also knows the
// dialects and asks each about its own endpoints.
type Router struct {
	*Directory
	dialects map[string]routes
}

// routes is what routing needs of one dialect; Info is too big to build per event.
type routes struct {
	events []string
	router dialect.Router // nil: every endpoint with a URL
}

// NewRouter makes a router over the directory.
func NewRouter(directory *Directory, dialects []dialect.Dialect) *Router {
	r := &Router{Directory: directory, dialects: make(map[string]routes, len(dialects))}
	for _, d := range dialects {
		info := d.Info()
		router, _ := d.(dialect.Router)
		r.dialects[info.ID] = routes{events: info.Events, router: router}
	}
	return r
}

// Route picks the endpoints that are owed the event, as things stand now.
func (r *Router) Route(event *waypost.Event) []dialect.Target {
	candidates := r.Candidates(event.TenantID, event.NumberID, event.WABAID, event.Type)
	if len(candidates) == 0 {
		return nil
	}
	slices.SortStableFunc(candidates, func(a, b *waypost.Endpoint) int { return cmp.Compare(a.Dialect, b.Dialect) })
	targets := make([]dialect.Target, 0, len(candidates))
	for len(candidates) > 0 {
		n := 1
		for n < len(candidates) && candidates[n].Dialect == candidates[0].Dialect {
			n++
		}
		targets = r.routeDialect(targets, event, candidates[:n:n])
		candidates = candidates[n:]
	}
	return targets
}

// routeDialect adds the targets among the endpoints of one dialect.
func (r *Router) routeDialect(targets []dialect.Target, event *waypost.Event, endpoints []*waypost.Endpoint) []dialect.Target {
	d, known := r.dialects[endpoints[0].Dialect]
	if !known || !waypost.MatchType(d.events, event.Type) {
		return targets
	}
	if d.router != nil {
		return append(targets, d.router.Route(event, endpoints)...)
	}
	for _, endpoint := range endpoints {
		if endpoint.URL != "" {
			targets = append(targets, dialect.Target{Endpoint: endpoint})
		}
	}
	return targets
}

// Owed is Route in the store's words.
func (r *Router) Owed(event *waypost.Event) []store.Owing {
	targets := r.Route(event)
	if len(targets) == 0 {
		return nil
	}
	owed := make([]store.Owing, len(targets))
	for i, target := range targets {
		owed[i].Endpoint = target.Endpoint.ID
		if target.After != nil {
			owed[i].After = target.After.ID
		}
	}
	return owed
}
