package egress

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestDeadlinesAreSharedAndNearlyExact: none comes before its exchange's end, or much
// after it, and one exchange after the other with the same limit mostly have the same.
func TestDeadlinesAreSharedAndNearlyExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "limit"))
		start := born.Add(time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "start")))
		different := map[time.Time]bool{}
		for i := range time.Duration(64) {
			began := start.Add(i * limit / 640)
			w := watch{start: began, until: began.Add(limit)}
			late := w.latest().Sub(w.until)
			if late <= 0 || late > max(limit/64, 1) {
				t.Fatalf("a limit of %s ends %s late", limit, late)
			}
			different[w.latest()] = true
		}
		if limit > time.Microsecond && len(different) > 9 {
			t.Errorf("%d deadlines in a tenth of the limit", len(different))
		}
	})
	if got := (&watch{start: time.Now()}).latest(); !got.IsZero() {
		t.Errorf("an exchange without a limit has to end at %s", got)
	}
}
