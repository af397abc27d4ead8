package cli

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/emulator"
)

// transcript is what a command prints, readable while it runs.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{}
}

func newTranscript() *transcript { return &transcript{news: make(chan struct{}, 1)} }

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case t.news <- struct{}{}:
	default:
	}
	return t.text.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// await waits until enough says so of what was printed.
func (t *transcript) await(ctx context.Context, enough func(string) bool) error {
	for !enough(t.String()) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.news:
		}
	}
	return nil
}

func TestDevOnce(t *testing.T) {
	t.Parallel()
	out, log := newTranscript(), newTranscript()
	begin := time.Now()
	unset := func(string) (string, bool) { return "", false }
	if status := Run(t.Context(), []string{"dev", "--once", "--seed=1"}, unset, strings.NewReader(""), out, log); status != exitOK {
		t.Errorf("exit status %d", status)
	}
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
	t.Logf("%s%s", out, log)
	for _, want := range []string{"Every receiver got exactly what it must.", "360dialog         got 9 of 9, 2 tries refused and made again"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	for _, line := range strings.Split(out.String(), "\n") {
		columns := 0
		for _, r := range line {
			columns += runeColumns(r)
		}
		if columns > 100 {
			t.Errorf("%d columns: %s", columns, line)
		}
	}
}

// TestDevStaysAndItsCommandsWork runs everything that is printed for pasting
// and then asks it to end.
func TestDevStaysAndItsCommandsWork(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"curl", "openssl", "sed"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the printed commands need %s", program)
		}
	}
	out, log := newTranscript(), newTranscript()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	limited, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	data := t.TempDir()
	go func() {
		defer stop() // when it has ended there is nothing more to wait for
		done <- runDev(ctx, devOptions{devCommand: devCommand{Listen: "127.0.0.1:0", Data: data}, Out: out, Err: log})
	}()
	if err := out.await(limited, func(text string) bool { return strings.Contains(text, "Running until Ctrl-C.") }); err != nil {
		t.Fatalf("%v\n%s%s", err, out, log)
	}

	before := out.String()
	_, block, found := strings.Cut(before, "Paste any of these")
	if !found {
		t.Fatalf("nothing to paste in:\n%s", before)
	}
	var script strings.Builder
	commands := 0
	for _, line := range strings.Split(block, "\n") {
		if command, ok := strings.CutPrefix(line, "  "); ok {
			script.WriteString(command + "\n")
			commands++
		}
	}
	const least = 8
	if commands < least {
		t.Errorf("%d commands, want %d at least", commands, least)
	}
	run := exec.CommandContext(limited, "sh", "-eu")
	run.WaitDelay = time.Second
	run.Stdin = strings.NewReader("said=0\n" + script.String() + "say \"Good evening\"\n")
	result, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, result, script.String())
	}
	t.Logf("%s", result)
	for _, want := range []string{"answered 200", `"attempts":`, "/hooks", `"data":`} {
		if !strings.Contains(string(result), want) {
			t.Errorf("the commands' answers do not have %s", want)
		}
	}
	meta := emulator.NewMeta(emulator.Options{})
	text := meta.Text(meta.Numbers()[0], "hello")
	takers := 0
	for _, dialect := range devDialects() {
		if dialect.want(text, stepOf("text", text)).key != "" {
			takers++
		}
	}
	arrived := func(printed string) bool {
		after := strings.TrimPrefix(printed, before)
		return strings.Count(after, "Good morning") == takers && strings.Count(after, "Good evening") == takers
	}
	if err := out.await(limited, arrived); err != nil {
		t.Errorf("what was said did not arrive everywhere: %v", err)
	}

	asked := time.Now()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("runDev: %v", err)
		}
		if took := time.Since(asked); took > 2*time.Second {
			t.Errorf("it took %v to end", took)
		}
	case <-time.After(10 * time.Second):
		t.Error("it did not end")
	}
	t.Logf("%s%s", out, log)
}

// TestDevOnceSaysWhatIsMissing looks for the batch under keys nobody sends.
func TestDevOnceSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	meta := devDialects()[0]
	want := meta.want
	meta.want = func(item emulator.Item, step devStep) devWant {
		wanted := want(item, step)
		if len(step.items) > 1 {
			wanted.key += " elsewhere"
		}
		return wanted
	}
	out := newTranscript()
	err := runDev(t.Context(), devOptions{devCommand: devCommand{Once: true}, Out: out, Err: newTranscript(), dialects: []devDialect{meta}})
	if err == nil || !strings.Contains(err.Error(), "4 things") {
		t.Errorf("runDev: %v, want that 4 things are wrong", err)
	}
	if text := out.String(); strings.Count(text, "did not arrive") != 2 || strings.Count(text, "which it must not") != 2 {
		t.Errorf("it does not say what is wrong:\n%s", text)
	}
}

// TestDevOnceAgainOnTheSameData meets what the first run left behind: endpoints
// that nobody listens behind any more.
func TestDevOnceAgainOnTheSameData(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for range 2 {
		out := newTranscript()
		err := runDev(t.Context(), devOptions{devCommand: devCommand{Once: true, Data: data}, Out: out, Err: newTranscript()})
		if err != nil {
			t.Fatalf("runDev: %v\n%s", err, out)
		}
	}
}
