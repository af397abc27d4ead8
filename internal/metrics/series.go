package metrics

import (
	"maps"
	"sync"
	"sync/atomic"
)

// series remembers the metric of each combination of labels: looking one up by its
// labels takes several times as long as counting.
type series[K comparable, M any] struct {
	find func(K) M

	known atomic.Pointer[map[K]M] // of those asked for so far; copied to add one
	mu    sync.Mutex
}

func newSeries[K comparable, M any](find func(K) M) *series[K, M] {
	s := &series[K, M]{find: find}
	s.known.Store(&map[K]M{})
	return s
}

func (s *series[K, M]) of(labels K) M {
	if metric, ok := (*s.known.Load())[labels]; ok {
		return metric
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	more := maps.Clone(*s.known.Load())
	more[labels] = s.find(labels)
	s.known.Store(&more)
	return more[labels]
}
