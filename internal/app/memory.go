package app

import (
	"os"
	"runtime/debug"
)

// Garbage is collected when the heap has grown to five times what was live, not
// to twice: what is live here is small and most of what is allocated lives for
// one request. Near the limit it is collected as often as need be.
const (
	gcPercent   = 400
	memoryLimit = 1 << 30
)

// TuneMemory sets how the process collects garbage. GOGC and GOMEMLIMIT in the
// environment win.
func TuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
