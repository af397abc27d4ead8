package egress

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// watch notes how far an exchange got and when. The times are atomic because
// net/http's goroutines may still report after the exchange is over.
type watch struct {
	start     time.Time
	until     time.Time    // the end of the exchange at the latest; zero: only its context ends it
	shared    bool         // its context serves other exchanges as well
	connected atomic.Int64 // nanoseconds since start; 0: not reached
	sent      atomic.Int64
	firstByte atomic.Int64

	// Of the connection, and told by the goroutine that makes the exchange.
	address string
	reused  bool
}

// bound is ctx, ended at the latest when the exchange must.
func (w *watch) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if w.until.IsZero() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, w.until)
}

// ended is why the exchange can't go on: its context's error, or that its time
// is up.
func (w *watch) ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !w.until.IsZero() && !time.Now().Before(w.until) {
		return context.DeadlineExceeded
	}
	return nil
}

// latest is until, or up to a sixty-fourth of the time limit later: so most
// exchanges on a kept connection find its deadline set.
func (w *watch) latest() time.Time {
	if w.until.IsZero() {
		return w.until
	}
	step := max(w.until.Sub(w.start)/64, 1)
	return born.Add((w.until.Sub(born)/step + 1) * step)
}

// born is a moment that times are counted from: on the clock that nobody sets.
var born = time.Now()

// got notes that there is a connection.
func (w *watch) got(address string, reused bool) {
	w.address, w.reused = address, reused
	w.mark(&w.connected)
}

// onWire reports that the exchange got as far as a connection.
func (w *watch) onWire() bool { return w.connected.Load() != 0 }

func (w *watch) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			w.got(info.Conn.RemoteAddr().String(), info.Reused)
		},
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				w.mark(&w.sent)
			}
		},
		GotFirstResponseByte: func() { w.mark(&w.firstByte) },
	})
}

func (w *watch) mark(phase *atomic.Int64) { w.markAt(phase, time.Now()) }

func (w *watch) markAt(phase *atomic.Int64, at time.Time) {
	phase.Store(max(1, int64(at.Sub(w.start))))
}

// answer completes a with what was watched.
func (w *watch) answer(a Answer) Answer {
	a.Duration = time.Since(w.start)
	a.Phases = waypost.Phases{
		Connected: milliseconds(&w.connected),
		Sent:      milliseconds(&w.sent),
		FirstByte: milliseconds(&w.firstByte),
	}
	if w.onWire() {
		a.Address, a.Reused = w.address, w.reused
	}
	return a
}

func milliseconds(phase *atomic.Int64) float64 { // to a microsecond, which is all that means anything
	return float64(phase.Load()/1000) / 1000
}
