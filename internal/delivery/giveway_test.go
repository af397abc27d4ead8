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
	for name, tt := range map[string]struct {
		usual, then time.Duration
		least, most float64 // pace after a minute of it; 0: none
	}{
		"nothing comes in":         {500 * time.Microsecond, 0, 0, 0},
		"as usual":                 {500 * time.Microsecond, 900 * time.Microsecond, 0, 0},
		"longer":                   {500 * time.Microsecond, 8 * time.Millisecond, leastPace, leastPace},
		"a store that takes long":  {20 * time.Millisecond, 30 * time.Millisecond, 0, 0},
		"and longer than it takes": {20 * time.Millisecond, 80 * time.Millisecond, leastPace, leastPace},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			var g giveWay
			step := func(strain time.Duration) {
				now = now.Add(judgeEvery)
				g.judge(strain, now)
				pace := min(could, g.pace)
				if g.pace == 0 {
					pace = could
				}
				g.took(int(pace*judgeEvery.Seconds()), now)
			}
			step(tt.usual)
			for range time.Minute / judgeEvery {
				step(tt.then)
			}
			if g.pace < tt.least || g.pace > tt.most {
				t.Errorf("the pace is %.0f", g.pace)
			}
			if wait := g.wait(now); (wait > 0) != (g.pace > 0) || wait > time.Second {
				t.Errorf("the next page waits %s", wait)
			}
			for range 2 * time.Minute / judgeEvery {
				step(tt.usual)
			}
			if g.pace != 0 {
				t.Errorf("the pace is still %.0f when all is as usual again", g.pace)
			}
		})
	}
}

// TestBacklogGivesWay has accepts take long: a backlog goes on slowly, new events
// go at once, and all of it goes when accepts are quick again.
func TestBacklogGivesWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var strain atomic.Int64
		strain.Store(int64(time.Millisecond))
		w := newWorld(t, func(c *Config) {
			c.Strain = func() time.Duration { return time.Duration(strain.Load()) }
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
		w.run()
		wait(100 * time.Millisecond)
		strain.Store(int64(50 * time.Millisecond))
		wait(2 * time.Second)
		before := w.table.owed()
		wait(5 * time.Second)
		if sent := before - w.table.owed(); sent < 4*leastPace || sent > 10*leastPace {
			t.Errorf("%d of the backlog sent in 5 s", sent)
		}
		id := w.accept(fresh)
		wait(100 * time.Millisecond)
		if len(w.table.history(id)) != 1 {
			t.Error("a new event waits with the backlog")
		}
		strain.Store(0)
		wait(10 * time.Second)
		if left := w.table.owed(); left != 0 {
			t.Errorf("%d are left", left)
		}
		w.shut()
	})
}
