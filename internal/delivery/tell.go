package delivery

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// teller writes a log line of each attempt. Most lines have most of their members
// in common with many others; those are formatted once.
type teller struct {
	log *slog.Logger

	mu       sync.RWMutex
	handlers map[common]slog.Handler
}

// common is what many lines share.
type common struct {
	dialect string
	attempt int
	status  int
	outcome waypost.Outcome
	reason  waypost.Reason
}

// maxHandlers bounds how many of them are remembered.
const maxHandlers = 256

func newTeller(log *slog.Logger) *teller {
	return &teller{log: log, handlers: map[common]slog.Handler{}}
}

// attempted tells of an attempt; nextAt is when there will be another, if there
// will.
func (t *teller) attempted(dialect string, a *waypost.Attempt, nextAt time.Time) {
	if !t.log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	// Log would look up its caller, which nobody is shown. Five members have room
	// in the record itself.
	record := slog.NewRecord(time.Now(), slog.LevelInfo, "delivery.attempted", 0)
	record.AddAttrs(
		slog.String("delivery", a.Delivery.String()),
		slog.String("event", a.Delivery.Event.String()),
		slog.String("endpoint", a.Delivery.Endpoint.String()),
		slog.Float64("duration_ms", float64(a.Duration.Microseconds())/1000),
	)
	if a.Outcome == waypost.OutcomeRetry {
		record.AddAttrs(slog.Time("next_at", nextAt.UTC()))
	}
	handler := t.handler(common{dialect, a.N, a.Status, a.Outcome, a.Reason})
	_ = handler.Handle(context.Background(), record) // there is nobody to tell
}

// handler writes lines that have this in common.
func (t *teller) handler(c common) slog.Handler {
	t.mu.RLock()
	h := t.handlers[c]
	t.mu.RUnlock()
	if h != nil {
		return h
	}
	h = t.log.Handler().WithAttrs([]slog.Attr{
		slog.String("dialect", c.dialect),
		slog.Int("attempt", c.attempt),
		slog.Int("status", c.status),
		slog.String("outcome", string(c.outcome)),
		slog.String("reason", string(c.reason)),
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.handlers) >= maxHandlers {
		clear(t.handlers)
	}
	t.handlers[c] = h
	return h
}
