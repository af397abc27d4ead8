package delivery

import (
	"sync/atomic"
	"time"
)

// clock is the time that due times are compared with: that of the wall, but it
// never steps back. What was put off by a clock that has been set back since
// would else stand still for as long. Where the wall clock leaps ahead this one
// follows, since what the store makes due now it makes due by that clock.
type clock struct {
	wall func() time.Time

	began   time.Time // by the wall
	beganAt time.Time // the same moment, by a clock that nobody sets
	lead    atomic.Int64
}

func (c *clock) start(wall func() time.Time) {
	c.wall, c.began, c.beganAt = wall, wall().Round(0), time.Now()
}

func (c *clock) now() time.Time {
	wall := c.wall() // first, so that a break between the two is not taken for a leap
	steady := c.began.Add(time.Since(c.beganAt))
	for {
		lead := c.lead.Load()
		leap := wall.Sub(steady)
		if leap <= time.Duration(lead) || c.lead.CompareAndSwap(lead, int64(leap)) {
			return steady.Add(max(time.Duration(lead), leap))
		}
	}
}
