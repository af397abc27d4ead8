package delivery

import (
	"sync"
	"time"
)

// clock is the time that due times are compared with: that of the wall, but it
// never steps back. What was put off by a clock that has been set back since
// would else stand still for as long. Where the wall clock leaps ahead this one
// follows, since what the store makes due now it makes due by that clock.
type clock struct {
	wall func() time.Time

	mu     sync.Mutex
	anchor time.Time // by the wall
	at     time.Time // the same moment, by a clock that nobody sets
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall := c.wall().Round(0)
	at := time.Now()
	steady := c.anchor.Add(at.Sub(c.at))
	if c.at.IsZero() || wall.After(steady) {
		c.anchor, c.at = wall, at
		return wall
	}
	return steady
}
