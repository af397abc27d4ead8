package ingest

import "sync/atomic"

// gate bounds how many bytes of requests are in memory at once. It never
// waits: who does not fit is told to come back.
type gate struct {
	limit int64
	held  atomic.Int64
}

func newGate(limit int64) *gate { return &gate{limit: limit} }

func (g *gate) enter(n int64) bool {
	if g.held.Add(n) > g.limit {
		g.held.Add(-n)
		return false
	}
	return true
}

func (g *gate) leave(n int64) { g.held.Add(-n) }
