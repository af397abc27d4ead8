package dialect

import "github.com/waypost-gateway/waypost/internal/waypost"

// Targets are the endpoints that have a URL and are owed the event, for
// Routers whose endpoints don't depend on each other.
func Targets(endpoints []*waypost.Endpoint, owed func(*waypost.Endpoint) bool) []Target {
	var targets []Target
	for _, endpoint := range endpoints {
		if endpoint.URL != "" && owed(endpoint) {
			targets = append(targets, Target{Endpoint: endpoint})
		}
	}
	return targets
}
