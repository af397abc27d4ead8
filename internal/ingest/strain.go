package ingest

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// strain is how much longer commits have lately taken than commits of about as
// many events usually do. It does not rise because more comes in, which makes
// batches larger, but because something else is in their way.
type strain struct {
	usual [12]time.Duration // by the size of the batch; only the committer uses it

	mean atomic.Uint64 // bits of a moving mean, as a float64
	at   atomic.Int64  // of the last commit, in Unix nanoseconds
}

// strainFor is how long what was measured says something about the present.
const strainFor = 250 * time.Millisecond

// add takes in a commit that has ended now. What is usual falls quickly and rises
// slowly, so it stays at the quick ones of its size.
func (s *strain) add(events int, took time.Duration, now time.Time) {
	usual := &s.usual[min(bits.Len(uint(events)), len(s.usual)-1)]
	switch {
	case *usual == 0:
		*usual = took
	case took < *usual:
		*usual -= (*usual - took) / 8
	default:
		*usual += (took - *usual) / 4096
	}
	mean := float64(took) / float64(max(*usual, 1))
	if now.UnixNano()-s.at.Load() <= int64(strainFor) {
		before := math.Float64frombits(s.mean.Load())
		mean = before + (mean-before)/8
	}
	s.mean.Store(math.Float64bits(mean))
	s.at.Store(now.UnixNano())
}

// Strain is how many times longer commits have lately taken than they usually do;
// 0 if there were none.
func (c *Committer) Strain() float64 {
	if time.Now().UnixNano()-c.strain.at.Load() > int64(strainFor) {
		return 0
	}
	return math.Float64frombits(c.strain.mean.Load())
}
