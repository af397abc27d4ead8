package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/waypost-gateway/waypost/internal/bench"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// TestMain lets this test binary be the other processes of a measurement.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == bench.RoleArgument {
		if err := bench.RunRole(context.Background(), os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	pgtest.Main(m)
}

// TestScenarios runs them as small as they go: what they find out here is worth
// nothing, but each must come to its end with figures.
func TestScenarios(t *testing.T) {
	t.Parallel()
	checkForms(t, measure(t, "sqlite", []string{"throughput", "latency", "batches", "tls", "failing", "growth"}, nil))
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	databases := bench.OnServer(pgtest.URL(t))
	t.Cleanup(func() {
		if err := databases.Drop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	measure(t, "postgres", []string{"throughput"}, databases.Make)
}

func measure(t *testing.T, store string, scenarios []string, postgres func(context.Context) (string, int, error)) *bench.Report {
	t.Helper()
	report, err := bench.Run(t.Context(), bench.Options{
		Executable: os.Args[0], Dir: t.TempDir(), SQLite: postgres == nil, Postgres: postgres, Only: scenarios,
		Pairs: 1, Events: 300, Seconds: 1, Rates: []float64{200}, Settled: 300, Owed: 100, Idle: 50, Progress: io.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range scenarios {
		found := false
		for _, r := range report.Results {
			found = found || r.Scenario == name && r.Store == store
		}
		if !found {
			t.Errorf("nothing is reported of %s on %s", name, store)
		}
	}
	for _, r := range report.Results {
		for _, f := range r.Figures {
			if f.Min > f.Median || f.Max < f.Median {
				t.Errorf("%s, %s: %+v", r.Scenario, r.Case, f)
			}
		}
		if first := r.Figures[0]; first.Median <= 0 {
			t.Errorf("%s, %s: %+v", r.Scenario, r.Case, first)
		}
	}
	return report
}

func checkForms(t *testing.T, report *bench.Report) {
	t.Helper()
	var text, machine strings.Builder
	if err := report.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := report.WriteJSON(&machine); err != nil {
		t.Fatal(err)
	}
	var read bench.Report
	if err := json.Unmarshal([]byte(machine.String()), &read); err != nil {
		t.Fatal(err)
	}
	if len(read.Results) != len(report.Results) {
		t.Errorf("%d results in JSON, want %d", len(read.Results), len(report.Results))
	}
	for _, r := range report.Results {
		if !strings.Contains(text.String(), r.Case) {
			t.Errorf("the text says nothing of %q", r.Case)
		}
	}
}

func TestUnknownScenario(t *testing.T) {
	t.Parallel()
	_, err := bench.Run(t.Context(), bench.Options{Only: []string{"thruput"}, Progress: io.Discard})
	if err == nil || !strings.Contains(err.Error(), `"thruput"`) {
		t.Errorf("error is %v", err)
	}
}

// TestWhatWasMeasuredIsKept ends a measurement in the middle.
func TestWhatWasMeasuredIsKept(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	measured := lineWriter(func(line string) {
		if strings.HasPrefix(line, "tls ") {
			cancel()
		}
	})
	report, err := bench.Run(ctx, bench.Options{
		Executable: os.Args[0], Dir: t.TempDir(), SQLite: true, Only: []string{"latency", "tls"},
		Pairs: 1, Events: 300, Seconds: 1, Rates: []float64{200}, Progress: measured,
	})
	if err == nil || report == nil || len(report.Results) != 1 || report.Results[0].Scenario != "latency" {
		t.Errorf("%+v, %v", report, err)
	}
}

// lineWriter is told of each line that is written.
type lineWriter func(line string)

func (w lineWriter) Write(line []byte) (int, error) {
	w(string(line))
	return len(line), nil
}
