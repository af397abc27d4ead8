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
		waited := func(waits ...time.Duration) {
			var batch []*submission
			for _, wait := range waits {
				batch = append(batch, &submission{since: time.Now().Add(-wait)})
			}
			c.strain.add(batch, time.Now())
		}
		if got := c.Strain(); got != 0 {
			t.Errorf("%s before anything came", got)
		}
		waited(time.Millisecond, 3*time.Millisecond)
		if got := c.Strain(); got != 2*time.Millisecond {
			t.Errorf("%s after the first batch", got)
		}
		waited(10 * time.Millisecond)
		if got := c.Strain(); got != 3*time.Millisecond {
			t.Errorf("%s after a slower one", got)
		}
		for range 100 {
			waited(10 * time.Millisecond)
		}
		if got := c.Strain(); got < 9*time.Millisecond || got > 10*time.Millisecond {
			t.Errorf("%s after many slower ones", got)
		}
		<-time.After(2 * strainFor)
		if got := c.Strain(); got != 0 {
			t.Errorf("%s when nobody has waited for long", got)
		}
		waited(time.Millisecond)
		if got := c.Strain(); got != time.Millisecond {
			t.Errorf("%s: what was long ago counts", got)
		}
		c.gap.Stop()
	})
}
