package delivery

import (
	"fmt"
	"slices"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// BreakerConfig says when a failing endpoint is held back. Zero members get
// their default.
type BreakerConfig struct {
	Failures   int           // attempts in a row that failed; default 20
	Deliveries int           // distinct deliveries among them; default 10
	Quiet      time.Duration // since the first of them; default 60 s
	Probe      time.Duration // first wait before a probe, doubling; default 30 s
	MaxProbe   time.Duration // the longest such wait; default 5 min
}

func (c *BreakerConfig) setDefaults() {
	setDefault(&c.Failures, 20)
	setDefault(&c.Deliveries, 10)
	setDefault(&c.Quiet, time.Minute)
	setDefault(&c.Probe, 30*time.Second)
	setDefault(&c.MaxProbe, 5*time.Minute)
}

// breaker watches one endpoint's attempts. It is closed while the endpoint is
// active; once it has said to trip, the endpoint's own state (kept in the
// store) says that it is open, and the breaker only times the probes. It never
// touches a delivery's ladder: what falls due meanwhile waits.
type breaker struct {
	failures   int
	since      time.Time // of the first failure in a row
	deliveries []waypost.DeliveryID
	last       time.Time // of the last failure

	probeAt time.Time
	wait    time.Duration // until the probe after that
}

// failed counts a failure and reports whether the endpoint should be tripped.
func (b *breaker) failed(c *BreakerConfig, id waypost.DeliveryID, now time.Time) bool {
	if b.failures == 0 {
		b.since = now
	}
	b.failures++
	b.last = now
	if len(b.deliveries) < c.Deliveries && !slices.Contains(b.deliveries, id) {
		b.deliveries = append(b.deliveries, id)
	}
	return b.failures >= c.Failures && len(b.deliveries) >= c.Deliveries && now.Sub(b.since) >= c.Quiet
}

// explain says for people why it tripped.
func (b *breaker) explain(r waypost.Reason, status int, now time.Time) string {
	what := string(r)
	if status != 0 {
		what = fmt.Sprintf("status %d", status)
	}
	return fmt.Sprintf("%d attempts in a row failed within %s, the last one with: %s",
		b.failures, now.Sub(b.since).Round(time.Second), what)
}

// reset forgets everything.
func (b *breaker) reset() { *b = breaker{} }

// open starts the timing of probes.
func (b *breaker) open(c *BreakerConfig, now time.Time) {
	*b = breaker{probeAt: now.Add(c.Probe), wait: min(2*c.Probe, c.MaxProbe)}
}

// probed puts off the next probe after one that failed.
func (b *breaker) probed(c *BreakerConfig, now time.Time) {
	b.probeAt = now.Add(b.wait)
	b.wait = min(2*b.wait, c.MaxProbe)
}
