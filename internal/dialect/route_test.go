package dialect

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestTargets(t *testing.T) {
	t.Parallel()
	one, two := &waypost.Endpoint{ID: 1, URL: "https://a.test"}, &waypost.Endpoint{ID: 2, URL: "https://b.test"}
	noURL := &waypost.Endpoint{ID: 3}
	got := Targets([]*waypost.Endpoint{one, noURL, two}, func(e *waypost.Endpoint) bool { return e != one })
	if diff := cmp.Diff([]Target{{Endpoint: two}}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
