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
	candidates := r.Candidates(event.TenantID, event.NumberID, event.WABAID)
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
		return append(targets, wanted(event, choose(d.router, event, endpoints))...)
	}
	for _, endpoint := range endpoints {
		if endpoint.URL != "" && endpoint.Wants(event.Type) {
			targets = append(targets, dialect.Target{Endpoint: endpoint})
		}
	}
	return targets
}

// choose asks the dialect which of its endpoints are owed the event. One number's
// endpoints depend on each other and not on another number's, so an event of a
// whole business account is put to the dialect number by number.
func choose(router dialect.Router, event *waypost.Event, endpoints []*waypost.Endpoint) []dialect.Target {
	var numbers []waypost.NumberID
	for _, endpoint := range endpoints {
		if endpoint.NumberID != 0 && !slices.Contains(numbers, endpoint.NumberID) {
			numbers = append(numbers, endpoint.NumberID)
		}
	}
	if len(numbers) <= 1 {
		return router.Route(event, endpoints)
	}
	var targets []dialect.Target
	for _, number := range numbers {
		own := make([]*waypost.Endpoint, 0, len(endpoints))
		for _, endpoint := range endpoints {
			if endpoint.NumberID == 0 || endpoint.NumberID == number {
				own = append(own, endpoint)
			}
		}
		for _, target := range router.Route(event, own) {
			if !owedTo(targets, target.Endpoint) { // one that serves several numbers is owed it once
				targets = append(targets, target)
			}
		}
	}
	return targets
}

// wanted drops what the endpoints' own event filters keep out. The filter comes
// after the dialect's choice, so that an endpoint which does not want an event
// is not replaced by another; and nobody waits for one that is not owed it.
func wanted(event *waypost.Event, targets []dialect.Target) []dialect.Target {
	targets = slices.DeleteFunc(targets, func(t dialect.Target) bool { return !t.Endpoint.Wants(event.Type) })
	for i := range targets {
		if targets[i].After != nil && !owedTo(targets, targets[i].After) {
			targets[i].After = nil
		}
	}
	return targets
}

func owedTo(targets []dialect.Target, endpoint *waypost.Endpoint) bool {
	return slices.ContainsFunc(targets, func(t dialect.Target) bool { return t.Endpoint.ID == endpoint.ID })
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
