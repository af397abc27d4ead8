package ingest

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestStrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := NewCommitter(nil, nil, nil)
		commit := func(events int, took time.Duration) { c.strain.add(events, took, time.Now()) }
		within := func(least, most float64) {
			t.Helper()
			if got := c.Strain(); got < least || got > most {
				t.Errorf("%.2f, want %.2f to %.2f", got, least, most)
			}
		}
		within(0, 0)
		for range 100 { // small ones and large ones, each as long as such take
			commit(1, time.Millisecond)
			commit(200, 9*time.Millisecond)
		}
		within(1, 1.01)
		for range 100 {
			commit(1, 5*time.Millisecond)
		}
		within(4.5, 5)
		for range 100 {
			commit(200, 9*time.Millisecond)
		}
		within(1, 1.01)
		<-time.After(2 * strainFor)
		within(0, 0)
		commit(1, time.Millisecond)
		within(0.9, 1)
		c.late.Stop()
	})
}
