package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// usage adds what this process has used.
func usage(a *answer) {
	var own syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &own) == nil {
		a.CPU = own.Utime.Nano() + own.Stime.Nano()
	}
	a.Resident, a.Peak = statusKilobytes("VmRSS:")<<10, statusKilobytes("VmHWM:")<<10
	a.Written = field("/proc/self/io", "write_bytes:")
}

func statusKilobytes(name string) int64 { return field("/proc/self/status", name) }

// field reads a number behind a name from a file of the kernel's; 0 if it is not
// there.
func field(file, name string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	_, after, found := bytes.Cut(text, []byte(name))
	if !found {
		return 0
	}
	fields := strings.Fields(string(after))
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[0], 10, 64)
	return n
}

// ticksPerSecond is the kernel's unit of CPU time in /proc; it has been 100 on
// every Linux that Go runs on.
const ticksPerSecond = 100

// machineBusy is the CPU time that all programs used so far, in nanoseconds.
func machineBusy() int64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var busy int64
	for i, f := range strings.Fields(line) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil || i == 4 || i == 5 || i > 8 { // idle, waiting for disks, and guests, which are counted already
			continue
		}
		busy += n
	}
	return busy * (1e9 / ticksPerSecond)
}

// serverUsage is the CPU time and the bytes written of a process and all its
// children.
func serverUsage(server int) (cpu, written int64) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || server == 0 {
		return 0, 0
	}
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		_, after, found := bytes.Cut(text, []byte(") "))
		fields := strings.Fields(string(after))
		if !found || len(fields) < 15 {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if parent, _ := strconv.Atoi(fields[1]); parent != server && pid != server {
			continue
		}
		used := []int{11, 12} // utime, stime
		if pid == server {
			used = append(used, 13, 14) // of children that have ended
		}
		for _, i := range used {
			n, _ := strconv.ParseInt(fields[i], 10, 64)
			cpu += n * (1e9 / ticksPerSecond)
		}
		written += field(filepath.Join(filepath.Dir(file), "io"), "write_bytes:")
	}
	return cpu, written
}

func cpuName() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(text), "model name")
	line, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(strings.TrimLeft(line, "\t: "))
}
