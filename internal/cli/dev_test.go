package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/waypost-gateway/waypost/internal/emulator"
)

func TestDevTableKeepsItsColumns(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	table := &devTable{out: &out}
	table.head()
	for _, what := range []string{
		"short", strings.Repeat("long ", 20), "東京東京東京東京東京東京東京東京東京", "a\x1b[31mred\nline",
		strings.Repeat("x", 27) + "🧵", strings.Repeat("x", 28),
	} {
		table.row(devRow{
			at: time.Now(), flow: "-> 99digital-partner", event: "message.interactive", what: what,
			try: "10", answer: "200", signed: "ok",
		})
	}
	for _, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
		columns := 0
		for _, r := range line {
			columns += runeColumns(r)
		}
		if columns > 100 || strings.ContainsRune(line, '\x1b') || !utf8.ValidString(line) {
			t.Errorf("%d columns: %q", columns, line)
		}
		if strings.Contains(line, "->") && !strings.HasSuffix(line, " 10  200    ok") {
			t.Errorf("the columns are not in line: %q", line)
		}
	}
}

func TestDevTableShowsCauseBeforeEffect(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	table := &devTable{out: &out}
	table.ahead(func() devRow {
		table.row(devRow{flow: "effect"})
		return devRow{flow: "cause"}
	})
	table.row(devRow{flow: "later"})
	text := out.String()
	if c, e, l := strings.Index(text, "cause"), strings.Index(text, "effect"), strings.Index(text, "later"); c < 0 || e < c || l < e {
		t.Errorf("out of order:\n%s", text)
	}
}

func TestDevListensOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"127.0.0.1:0": true, "[::1]:8080": true, "localhost:80": true, "127.9.9.9:1": true,
		"0.0.0.0:8080": false, ":8080": false, "192.0.2.1:80": false, "waypost.example:80": false, "127.0.0.1": false,
	} {
		if _, err := devListen(t.Context(), address, false); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestDevJudge feeds a receiver by hand and sees what the judge makes of it.
func TestDevJudge(t *testing.T) {
	t.Parallel()
	cloud := devDialect{id: "cloud", read: readCloud, want: wantCloud}
	failing := cloud
	failing.failures = []int{500}
	for name, c := range map[string]struct {
		dialect devDialect
		send    func(first, second []byte) [][]byte
		answers []int
		faults  []string
	}{
		"all is right":                      {cloud, func(a, b []byte) [][]byte { return [][]byte{b, a} }, nil, nil},
		"a try that was refused as planned": {failing, func(a, b []byte) [][]byte { return [][]byte{a, a, b} }, []int{500, 200}, nil},
		"one is missing":                    {cloud, func(a, _ []byte) [][]byte { return [][]byte{a} }, nil, []string{"did not arrive"}},
		"one came twice":                    {cloud, func(a, b []byte) [][]byte { return [][]byte{a, b, b} }, nil, []string{"arrived 2 times"}},
		"one was never taken":               {failing, func(a, b []byte) [][]byte { return [][]byte{a, b} }, []int{200, 500}, []string{"did not arrive again"}},
		"nothing was refused":               {failing, func(a, b []byte) [][]byte { return [][]byte{a, b} }, nil, []string{"refused 0 tries"}},
		"one has other bytes":               {cloud, func(a, b []byte) [][]byte { return [][]byte{a, append(b, ' ')} }, nil, []string{"arrived wrong"}},
		"one that nobody wanted":            {cloud, func(a, b []byte) [][]byte { return [][]byte{a, b, []byte(`{}`)} }, nil, []string{"which it must not"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			receiver, err := emulator.NewReceiver(emulator.ReceiverOptions{Answers: emulator.Statuses(c.answers...)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(receiver.Close)
			meta := emulator.NewMeta(emulator.Options{URL: receiver.URL()})
			n := meta.Numbers()[0]
			steps := []devStep{
				{items: []emulator.Item{meta.Text(n, "one")}},
				{items: []emulator.Item{meta.Text(n, "two")}},
			}
			for _, body := range c.send(emulator.Body(steps[0].items[0]), emulator.Body(steps[1].items[0])) {
				if _, err := meta.Send(t.Context(), body); err != nil {
					t.Fatal(err)
				}
			}
			st := &devStation{dialect: c.dialect, receiver: receiver}
			stage := &devStage{meta: meta}
			verdict := st.judge(stage.owed(st, steps))
			if len(verdict.faults) != len(c.faults) {
				t.Fatalf("faults: %q, want %q", verdict.faults, c.faults)
			}
			for i, want := range c.faults {
				if !strings.Contains(verdict.faults[i], want) {
					t.Errorf("fault %q, want %q", verdict.faults[i], want)
				}
			}
		})
	}
}
