package app

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestGrantedMemory(t *testing.T) {
	t.Parallel()
	const without = math.MaxInt64
	for name, tt := range map[string]struct {
		groups string
		files  map[string]string
		want   int64
	}{
		"version 2":                 {"0::/a/b\n", map[string]string{"a/b/memory.max": "max\n", "a/memory.max": "7000\n"}, 7000},
		"the group's own":           {"0::/a/b\n", map[string]string{"a/b/memory.max": "5000\n", "a/memory.max": "7000\n"}, 5000},
		"a path of the host's":      {"0::/docker/17\n", map[string]string{"memory.max": "9000\n"}, 9000},
		"version 1":                 {"11:cpu,cpuacct:/x\n9:memory:/x\n1:name=systemd:/x\n", map[string]string{"memory/x/memory.limit_in_bytes": "4096\n", "memory.max": "1\n"}, 4096},
		"version 1, no limit":       {"9:memory:/\n", map[string]string{"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 9223372036854771712},
		"both, memory in version 1": {"9:memory:/x\n0::/x\n", map[string]string{"memory/x/memory.limit_in_bytes": "4096\n"}, 4096},
		"no limit":                  {"0::/\n", map[string]string{"memory.max": "max\n"}, without},
		"no controller":             {"0::/\n", nil, without},
		"nonsense":                  {"nonsense", map[string]string{"memory.max": "nonsense"}, without},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, content := range tt.files {
				file = filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			list := filepath.Join(dir, "list")
			if err := os.WriteFile(list, []byte(tt.groups), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := granted(list, dir); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
	if got := granted(filepath.Join(t.TempDir(), "none"), "/"); got != without {
		t.Errorf("without a list: %d", got)
	}
}

func TestIdleMemory(t *testing.T) {
	t.Parallel()
	var memory idleMemory
	begin := allocated()
	memory.allocated = begin
	if memory.giveBack(begin + worthwhile - 1) {
		t.Error("it collects for next to nothing")
	}
	if !memory.giveBack(begin+worthwhile) || memory.giveBack(begin+worthwhile+1) {
		t.Error("it collects not once, when it is worth it")
	}
	garbage := make([]byte, 1<<20)
	if now := allocated(); now < begin+uint64(len(garbage)) {
		t.Errorf("%d bytes allocated after %d and %d more", now, begin, len(garbage))
	}
}
