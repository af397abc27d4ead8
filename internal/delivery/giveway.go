package delivery

import "time"

// giveWay is the pace at which deliveries are taken from the table while ingest
// feels it. A backlog takes all of the machine that it can get, and those who wait
// for an accept would wait for it too; so its pace falls while accepts take much
// longer than usual, and rises again when they don't. It never falls so far that
// the backlog comes to a stop. What came in a moment ago is not held up, be it that
// it is sent right after its commit or that it has been in the table since.
type giveWay struct {
	pace float64   // deliveries a second; 0: as they come
	next time.Time // no page before

	judgedAt time.Time
	taken    int // since then
}

const (
	judgeEvery  = 50 * time.Millisecond
	mostStrain  = 3
	oldAfter    = 10 * time.Second
	leastPace   = 1000
	noPace      = 100_000 // a pace that nothing reaches
	mostGivenUp = 0.5     // of the pace, each time it is judged
	mostRegain  = 1.04
)

// took books a page of n deliveries.
func (g *giveWay) took(n int, now time.Time) {
	g.taken += n
	if g.pace > 0 {
		if g.next.Before(now) {
			g.next = now
		}
		g.next = g.next.Add(time.Duration(float64(n) / g.pace * float64(time.Second)))
	}
}

// judge sets the pace by how many times longer than usual accepts have lately
// taken; 0: there were none.
func (g *giveWay) judge(strain float64, now time.Time) {
	since := now.Sub(g.judgedAt)
	if since < judgeEvery {
		return
	}
	taken := g.taken
	g.judgedAt, g.taken = now, 0
	switch {
	case strain == 0:
		g.pace = 0
	case strain > mostStrain:
		if g.pace == 0 {
			g.pace = float64(taken) / since.Seconds()
		}
		g.pace = max(g.pace*max(mostGivenUp, mostStrain/strain), leastPace)
	case g.pace > 0:
		if g.pace *= mostRegain; g.pace > noPace {
			g.pace = 0
		}
	}
}

// wait is how long the next page has to wait.
func (g *giveWay) wait(now time.Time) time.Duration {
	if g.pace == 0 {
		return 0
	}
	return g.next.Sub(now)
}
