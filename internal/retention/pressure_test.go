package retention

import (
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestAssess(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, c := range []struct {
		name    string
		usage   store.Usage
		limit   int64
		present Level
		want    Level
	}{
		{"no limit, nothing known", store.Usage{Used: 100 * gib, Free: -1, Size: -1}, 0, Calm, Calm},
		{"well below the limit", store.Usage{Used: 79, Free: -1, Size: -1}, 100, Calm, Calm},
		{"near the limit", store.Usage{Used: 80, Free: -1, Size: -1}, 100, Calm, Early},
		{"a little less does not end it", store.Usage{Used: 79, Free: -1, Size: -1}, 100, Early, Early},
		{"less does", store.Usage{Used: 78, Free: -1, Size: -1}, 100, Early, Calm},
		{"at the limit", store.Usage{Used: 95, Free: -1, Size: -1}, 100, Early, Full},
		{"a little below it", store.Usage{Used: 94, Free: -1, Size: -1}, 100, Full, Full},
		{"below it", store.Usage{Used: 93, Free: -1, Size: -1}, 100, Full, Early},
		{"straight to calm", store.Usage{Used: 10, Free: -1, Size: -1}, 100, Full, Calm},
		{"a large disk with room", store.Usage{Free: 2 * gib, Size: 1000 * gib}, 0, Calm, Calm},
		{"a large disk, twice the floor", store.Usage{Free: gib - 1, Size: 1000 * gib}, 0, Calm, Early},
		{"a large disk, the floor", store.Usage{Free: gib/2 - 1, Size: 1000 * gib}, 0, Calm, Full},
		{"a small disk with room", store.Usage{Free: 110, Size: 1000}, 0, Calm, Calm},
		{"a small disk, twice the floor", store.Usage{Free: 99, Size: 1000}, 0, Calm, Early},
		{"a small disk, the floor", store.Usage{Free: 49, Size: 1000}, 0, Calm, Full},
		{"a disk with a little more room", store.Usage{Free: 50, Size: 1000}, 0, Full, Full},
		{"a disk without any", store.Usage{Free: 0, Size: 1000}, 0, Calm, Full},
		{"the worse of both", store.Usage{Used: 81, Free: 0, Size: 1000}, 100, Calm, Full},
	} {
		if got := assess(&c.usage, c.limit, c.present); got != c.want {
			t.Errorf("%s: level %d, want %d", c.name, got, c.want)
		}
	}
}

// TestSlices goes from the oldest event to the youngest that may go, in steps that
// get smaller with what is left.
func TestSlices(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	oldest := now.AddDate(0, 0, -90)
	k := New(Options{Now: func() time.Time { return now }})
	k.usage.Oldest = waypost.FirstEventID(oldest)
	at, steps := waypost.EventID(0), 0
	for {
		next, more := k.slice(at)
		if !more {
			break
		}
		if next <= max(at, k.usage.Oldest) {
			t.Fatalf("from %s to %s", at.Time(), next.Time())
		}
		if first := next.Time().Sub(oldest); steps == 0 && (first > 6*24*time.Hour || first < 5*24*time.Hour) {
			t.Errorf("the first slice takes %v", first)
		}
		at = next
		steps++
	}
	if age := now.Sub(at.Time()); age < youngest || age >= youngest+leastSlice || steps > 300 {
		t.Errorf("after %d slices what is left is younger than %v", steps, age)
	}
}
