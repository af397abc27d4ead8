//go:build !linux

package bench

// Elsewhere than on Linux only rates and latencies are measured.

func usage(*answer)                        {}
func machineBusy() int64                   { return 0 }
func serverUsage(int) (cpu, written int64) { return 0, 0 }
func cpuName() string                      { return "" }
