package delivery

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// TestGiveWay judges every 50 ms what a table gives that could give 10,000 a second.
func TestGiveWay(t *testing.T) {
	t.Parallel()
	const could = 10_000
	for name, tt := range map[string]struct{ strain, pace float64 }{
		"nothing comes in": {0, 0},
		"as usual":         {1, 0},
		"a little longer":  {2, 0},
		"longer":           {4, leastPace},
		"much longer":      {100, leastPace},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			var g giveWay
			step := func(strain float64) {
				now = now.Add(judgeEvery)
				g.judge(strain, now)
				pace := min(could, g.pace)
				if g.pace == 0 {
					pace = could
				}
				g.took(int(pace*judgeEvery.Seconds()), now)
			}
			step(1)
			for range time.Minute / judgeEvery {
				step(tt.strain)
			}
			if g.pace != tt.pace {
				t.Errorf("the pace is %.0f, want %.0f", g.pace, tt.pace)
			}
			if wait := g.wait(now); (wait > 0) != (g.pace > 0) || wait > time.Second {
				t.Errorf("the next page waits %s", wait)
			}
			for range time.Minute / judgeEvery {
				step(1.2)
			}
			if g.pace != 0 {
				t.Errorf("the pace is still %.0f when all is as usual again", g.pace)
			}
		})
	}
}

// TestBacklogGivesWay has accepts take long: an old backlog goes slowly, what has
// just come in goes at once, and all of it goes when accepts are quick again.
func TestBacklogGivesWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var strain atomic.Int64
		strain.Store(50)
		w := newWorld(t, func(c *Config) {
			c.Strain = func() float64 { return float64(strain.Load()) }
			c.Limits.Memory = 1 << 20
		})
		w.setAnswer(after(time.Millisecond, 200))
		const endpoints, each = 20, 2000
		for i := range waypost.EndpointID(endpoints) {
			ep := w.endpoint(i + 1)
			for range each {
				w.table.insert(ep, 0)
			}
		}
		fresh := w.endpoint(endpoints + 1)
		wait(2 * oldAfter)
		w.run()
		wait(2 * time.Second)
		before := w.table.owed()
		wait(5 * time.Second)
		if sent := before - w.table.owed(); sent < 4*leastPace || sent > 10*leastPace {
			t.Errorf("%d of the backlog sent in 5 s", sent)
		}
		for range each {
			w.table.insert(fresh, 0)
		}
		w.engine.Wake(fresh)
		before = w.table.owed()
		wait(2 * time.Second)
		if sent := before - w.table.owed(); sent < each {
			t.Errorf("new events wait with the backlog: %d of both sent", sent)
		}
		strain.Store(0)
		wait(10 * time.Second)
		if left := w.table.owed(); left != 0 {
			t.Errorf("%d are left", left)
		}
		w.shut()
	})
}
