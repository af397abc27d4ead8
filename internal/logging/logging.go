// Package logging writes log lines cheaply. A busy gateway writes two for each
// event, and a system call for each would cost as much as encoding them does.
//
// Lines of level Info and below are gathered and written together, after a tenth
// of a second at the latest. A line of Warn and above is written at once, with all
// that came before it. Lines keep their order, and none is split. What is gathered
// is lost when the program ends without Flush.
package logging

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	maxGathered = 32 << 10
	maxDelay    = 100 * time.Millisecond
)

// Writer gathers what is written to it. Its methods are safe for concurrent use.
type Writer struct {
	out io.Writer

	mu       sync.Mutex
	gathered []byte
	due      *time.Timer // nil before the first line
}

// NewWriter makes a writer to out, which is never written to by two at a time.
func NewWriter(out io.Writer) *Writer { return &Writer{out: out} }

// Write takes in whole lines. Its error is that of writing what had been gathered.
func (w *Writer) Write(lines []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := len(w.gathered) == 0
	w.gathered = append(w.gathered, lines...)
	switch {
	case len(w.gathered) >= maxGathered:
		return len(lines), w.flush()
	case !first:
	case w.due == nil:
		w.due = time.AfterFunc(maxDelay, func() { _ = w.Flush() }) // there is nobody to tell
	default:
		w.due.Reset(maxDelay)
	}
	return len(lines), nil
}

// Flush writes what was gathered.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flush()
}

func (w *Writer) flush() error {
	if len(w.gathered) == 0 {
		return nil
	}
	_, err := w.out.Write(w.gathered)
	if w.gathered = w.gathered[:0]; cap(w.gathered) > 2*maxGathered {
		w.gathered = nil
	}
	return err
}

// Handler makes a handler out of one that writes to w: what matters is written at once.
func (w *Writer) Handler(lines slog.Handler) slog.Handler { return handler{lines, w} }

type handler struct {
	slog.Handler
	writer *Writer
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if err == nil && r.Level >= slog.LevelWarn {
		err = h.writer.Flush()
	}
	return err
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.writer}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.writer}
}
