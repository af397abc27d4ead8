package app

import (
	"bytes"
	"context"
	"math"
	"os"
	"path"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// Garbage is collected when the heap has grown to five times what was live, not
// to twice: what is live here is small and most of what is allocated lives for
// one request. Near the limit it is collected as often as need be.
const (
	gcPercent = 400
	// mostMemory is what the process may come to use where nobody says: all that
	// is bounded by settings fits into it with their defaults.
	mostMemory = 1280 << 20
)

// TuneMemory sets how the process collects garbage so that it stays within so
// many bytes; 0: within what its control group grants, and mostMemory. A fifth is
// left for what the collector does not see, the caches of SQLite above all. GOGC
// and GOMEMLIMIT in the environment win.
func TuneMemory(limit int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if limit == 0 {
		limit = min(granted("/proc/self/cgroup", "/sys/fs/cgroup"), mostMemory)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit / 5 * 4)
	}
}

// granted is the memory that the control groups of the process allow it, by the
// file that lists them and where they are mounted; where there are none, or what
// they say can't be read, it is without end.
func granted(list, mount string) int64 {
	content, err := os.ReadFile(list)
	if err != nil {
		return math.MaxInt64
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(content)) {
		// "0::/path" is of version 2, "9:memory:/path" of version 1.
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, _ := strings.Cut(rest, ":")
		dir, file := mount, "memory.max"
		switch controllers {
		case "":
		case "memory":
			dir, file = path.Join(mount, "memory"), "memory.limit_in_bytes"
		default:
			continue
		}
		// A group is bound by those above it. In a container the path may be that
		// of the host, and only the group at the mount itself can be seen.
		for group = path.Join("/", group); ; group = path.Dir(group) {
			least = min(least, readLimit(path.Join(dir, group, file)))
			if group == "/" {
				break
			}
		}
	}
	return least
}

func readLimit(file string) int64 {
	content, err := os.ReadFile(file)
	if err != nil {
		return math.MaxInt64
	}
	limit, err := strconv.ParseInt(string(bytes.TrimSpace(content)), 10, 64)
	if err != nil || limit <= 0 { // "max", mostly
		return math.MaxInt64
	}
	return limit
}

// What a busy hour has left behind is given back to the system once there is
// little to do: the collector by itself keeps five times what is live, for the
// next busy hour.
const (
	quietLook  = 10 * time.Second
	quietBytes = 16 << 20 // allocated within that time; below, it is quiet
	worthwhile = 16 << 20 // allocated since memory was last given back
)

// idleMemory gives memory back. Its zero value has not done so yet.
type idleMemory struct{ allocated uint64 } // by the process, when it did

// giveBack collects garbage, if enough was allocated, and gives back what is free.
func (i *idleMemory) giveBack(allocated uint64) (done bool) {
	if allocated-i.allocated < worthwhile {
		return false
	}
	debug.FreeOSMemory()
	i.allocated = allocated
	return true
}

// watch gives memory back whenever it has become quiet, until ctx ends.
func (i *idleMemory) watch(ctx context.Context) error {
	ticker := time.NewTicker(quietLook)
	defer ticker.Stop()
	for before := allocated(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := allocated()
		if now-before < quietBytes {
			i.giveBack(now)
		}
		before = now
	}
}

// allocated is how many bytes the process has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
