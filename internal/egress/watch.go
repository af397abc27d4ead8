package egress

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// watch notes how far an exchange got and when. Its fields are atomic because
// the transport's goroutines may still report after the exchange is over.
type watch struct {
	start     time.Time
	connected atomic.Int64 // nanoseconds since start; 0: not reached
	sent      atomic.Int64
	firstByte atomic.Int64
	conn      atomic.Pointer[httptrace.GotConnInfo]
}

func (w *watch) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			w.mark(&w.connected)
			w.conn.Store(&info)
		},
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				w.mark(&w.sent)
			}
		},
		GotFirstResponseByte: func() { w.mark(&w.firstByte) },
	})
}

func (w *watch) mark(phase *atomic.Int64) { phase.Store(max(1, int64(time.Since(w.start)))) }

// answer completes a with what was watched.
func (w *watch) answer(a Answer) Answer {
	a.Duration = time.Since(w.start)
	a.Phases = waypost.Phases{
		Connected: milliseconds(&w.connected),
		Sent:      milliseconds(&w.sent),
		FirstByte: milliseconds(&w.firstByte),
	}
	if info := w.conn.Load(); info != nil {
		a.Reused = info.Reused
		a.Address = info.Conn.RemoteAddr().String()
	}
	return a
}

func milliseconds(phase *atomic.Int64) float64 { // to a microsecond, which is all that means anything
	return float64(phase.Load()/1000) / 1000
}
