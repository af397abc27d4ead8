package logging

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkLine writes what is told of each request, to a file.
func BenchmarkLine(b *testing.B) {
	file, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = file.Close() })
	w := NewWriter(file)
	for name, handler := range map[string]slog.Handler{
		"at-once":  slog.NewTextHandler(file, nil),
		"gathered": w.Handler(slog.NewTextHandler(w, nil)),
	} {
		b.Run(name, func(b *testing.B) {
			log := slog.New(handler).With("component", "http")
			b.ReportAllocs()
			for b.Loop() {
				log.LogAttrs(b.Context(), slog.LevelInfo, "http.request",
					slog.String("request", "0a1b2c3d-4f"),
					slog.String("method", "POST"),
					slog.String("route", "POST /ingest/meta/{source}"),
					slog.Int("status", 200),
					slog.Float64("duration_ms", 1.234),
					slog.Int64("bytes", 3),
					slog.String("remote", "127.0.0.1"))
			}
		})
	}
}
