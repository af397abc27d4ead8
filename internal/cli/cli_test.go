package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary the command "waypost" for the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"waypost": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		os.Exit(Run(ctx, os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
	}})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

func run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	empty := func(string) (string, bool) { return "", false }
	status = Run(t.Context(), args, empty, strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	tests := []struct {
		name string
		args []string
		want int
	}{
		{"version", []string{"version"}, 0},
		{"help", []string{"--help"}, 0},
		{"no command", nil, 2},
		{"an unknown flag", []string{"version", "--no-such"}, 2},
		{"a setting that makes no sense", []string{"config", "show", "--listen=x"}, 2},
		{"a file that is not there", []string{"config", "show", "--config=/nonexistent"}, 2},
		{"a scenario that is none", []string{"bench", "--only=thruput"}, 2},
		{"no runs", []string{"bench", "--pairs=0"}, 2},
		{"an address that is taken", []string{"serve", "--listen", listener.Addr().String(), "--data", t.TempDir()}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, _, stderr := run(t, tt.args...); got != tt.want || (got == 0) != (stderr == "") {
				t.Errorf("status %d, want %d; standard error:\n%s", got, tt.want, stderr)
			}
		})
	}
}

// TestServe starts a gateway on nothing, twice on the same data, and asks it to
// stop.
func TestServe(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	const made = "Admin token, shown this once: "
	if out := serveUntilUp(t, "--data", data); !strings.Contains(out, made) {
		t.Errorf("the first start shows no token:\n%s", out)
	}
	if out := serveUntilUp(t, "--data", data); strings.Contains(out, made) {
		t.Errorf("the second start shows a token:\n%s", out)
	}
}

// serveUntilUp runs serve until it logs that it is up and gives what it wrote
// to standard output.
func serveUntilUp(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read, write := io.Pipe()
	var log []string
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		for lines := bufio.NewScanner(read); lines.Scan(); {
			log = append(log, lines.Text())
			if strings.Contains(lines.Text(), "waypost is up") {
				stop()
			}
		}
	}()
	var out bytes.Buffer
	none := func(string) (string, bool) { return "", false }
	status := Run(ctx, append([]string{"serve", "--listen=127.0.0.1:0"}, args...), none, strings.NewReader(""), &out, write)
	_ = write.Close()
	<-logged
	if status != exitOK || !strings.Contains(log[len(log)-1], "waypost is down") {
		t.Fatalf("status %d:\n%s", status, strings.Join(log, "\n"))
	}
	return out.String()
}

func TestReport(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	status := report(&out, errors.Join(fmt.Errorf("listen: %w", syscall.EADDRINUSE), errors.New("close store: disk is gone")))
	want := `waypost: listen: address already in use
waypost: close store: disk is gone
hint: another program has this address; choose one with --listen ($WAYPOST_LISTEN)
`
	if status != exitFailure || out.String() != want {
		t.Errorf("status %d:\n%s", status, out.String())
	}
}
