//go:build unix

package egress

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// sinkVariable makes this test binary run as the receiver of a benchmark, so
// that the CPU time of a benchmark's own process is the client's.
const sinkVariable = "WAYPOST_EGRESS_SINK"

func TestMain(m *testing.M) {
	if os.Getenv(sinkVariable) == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(1)
	}
	fmt.Println(l.Addr()) //nolint:forbidigo // tells the parent process where to send
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		os.Exit(0)
	}()
	_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"status":"ok"}`)
	}))
}

func sink(b *testing.B) (url string) {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	command := exec.Command(self)
	command.Env = append(os.Environ(), sinkVariable+"=1")
	stdin, err := command.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = command.Wait()
	})
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return "http://" + strings.TrimSpace(address) + "/webhooks/in"
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkSend posts hooks of usual size and large ones, 64 at a time, with
// Send and with net/http's transport behind the same dialer.
func BenchmarkSend(b *testing.B) {
	header := []Field{
		{"Content-Type", "application/json"},
		{"User-Agent", "Waypost"},
		{"X-Signature", "sha256=" + strings.Repeat("0123456789abcdef", 4)},
	}
	ways := []struct {
		name string
		send func(c *Client, ctx context.Context, r Request) Answer
	}{
		{"net-http", (*Client).sendWithNetHTTP},
		{"direct", (*Client).Send},
	}
	for name, size := range map[string]int{"1.5KB": 1500, "3MB": 3 << 20} {
		for _, way := range ways {
			b.Run(name+"/"+way.name, func(b *testing.B) {
				c := newClient(b, Options{})
				r := Request{URL: sink(b), Header: header, Body: bytes.Repeat([]byte("x"), size), Timeout: time.Minute}
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				parallel(b, func() error { return way.send(c, ctx, r).Err })
			})
		}
	}
}

// parallel runs do b.N times, 64 at a time, and reports the CPU time of each.
func parallel(b *testing.B, do func() error) {
	b.Helper()
	b.ReportAllocs()
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	var failed atomic.Pointer[error]
	before := cpuTime(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := do(); err != nil {
				failed.Store(&err)
			}
		}
	})
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
}
