package ingest

import (
	"sync/atomic"
	"time"
)

// strainFor is how long what was measured says something about the present.
const strainFor = 250 * time.Millisecond

// strain is how long requests have lately waited for their commit, its own time
// included: a moving mean over batches.
type strain struct {
	mean atomic.Int64 // nanoseconds
	at   atomic.Int64 // of the last batch, in Unix nanoseconds
}

// add takes in a batch that was committed now.
func (s *strain) add(batch []*submission, now time.Time) {
	var sum time.Duration
	for _, one := range batch {
		sum += now.Sub(one.since)
	}
	mean := int64(sum) / int64(len(batch))
	if before := s.mean.Load(); now.UnixNano()-s.at.Load() <= int64(strainFor) {
		mean = before + (mean-before)/8
	}
	s.mean.Store(mean)
	s.at.Store(now.UnixNano())
}

// Strain is how long requests have lately waited to be committed; 0 if there were
// none.
func (c *Committer) Strain() time.Duration {
	if time.Now().UnixNano()-c.strain.at.Load() > int64(strainFor) {
		return 0
	}
	return time.Duration(c.strain.mean.Load())
}
