// Package bench measures this machine's gateway against its bare HTTP ceiling:
// what a plain client delivers to the same receiver with nothing in between.
//
// Every part is a process of its own, made from the running binary: a sink that
// answers at once, a bare client, a generator that sends as Meta would, and the
// gateway, whole, on a fresh store. Runs of the bare client and of the gateway
// take turns, so that both see the same noise, and what is reported are ratios
// of neighbouring runs: their median and their spread. How much of the machine
// other programs took meanwhile is reported beside them.
//
// When a part fails, the benchmark ends with its error; whatever was started is
// stopped, and the directories are removed.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Options of a Run.
type Options struct {
	// Executable is this program, which is started with RoleArgument for the
	// other processes.
	Executable string
	// Dir is where stores are made; empty: the directory for temporary files.
	Dir    string
	SQLite bool // measure on it
	// Postgres makes an empty database of a server on this machine, and gives the
	// process id of that server (0: its CPU time can't be told). nil: PostgreSQL
	// is not measured.
	Postgres func(context.Context) (url string, server int, err error)
	Pairs    int       // runs of each kind
	Events   int       // events of one run
	Seconds  int       // length of a run at a fixed rate
	Rates    []float64 // events a second of the latency scenario; default 50, 1,000 and 5,000
	Only     []string  // scenarios; empty: all but the long ones
	Settled  int       // events settled and owed before the growth scenario
	Owed     int
	Idle     int       // endpoints without work there
	Profiles string    // directory for CPU profiles of the gateways; empty: none
	Progress io.Writer // told what is being measured
}

// RoleArgument comes before the name of a role on the command line of a child.
const RoleArgument = "bench-role"

// The bare client and an endpoint have as many requests in flight at a time as
// there are clients. Senders come from many sides: so many have a request under way.
const (
	clients = 64
	senders = 128
	// batchSenders send requests of 3 MB.
	batchSenders = 4
)

// scenario is one thing to measure.
type scenario struct {
	name string
	long bool // only when asked for
	help string
	run  func(context.Context, *stage) error
}

var scenarios = []scenario{
	{"throughput", false, "events a second and CPU time per event: over HTTP, with ingest in-process, and of store and delivery alone", throughput},
	{"latency", false, "accept and end-to-end latency at 50, 1,000 and 5,000 events a second", latency},
	{"dialects", false, "each dialect against meta", dialects},
	{"fanout", false, "1, 3 and 10 endpoints for each event", fanout},
	{"batches", false, "3 MB requests of 1,000 messages", batches},
	{"tls", false, "receivers with TLS", overTLS},
	{"failing", false, "half of the endpoints refuse", failing},
	{"isolation", true, "10,000 endpoints of which 10 % hang; a tenant with 100 times the traffic", isolation},
	{"growth", true, "a store with millions of rows; restart; a backlog that drains; pruning; idle endpoints", growth},
}

// Scenarios lists the names, and what each measures.
func Scenarios() (names, help []string) {
	for _, s := range scenarios {
		names = append(names, s.name)
		help = append(help, s.help)
	}
	return names, help
}

// Report is what was measured.
type Report struct {
	Machine Machine  `json:"machine"`
	Date    string   `json:"date"`
	Results []Result `json:"results"`
}

// Machine is where it was measured.
type Machine struct {
	CPUs   int    `json:"cpus"`
	System string `json:"system"`
	CPU    string `json:"cpu,omitempty"`
	Go     string `json:"go"`
}

// Result is one measured thing.
type Result struct {
	Scenario string   `json:"scenario"`
	Store    string   `json:"store"`
	Case     string   `json:"case"`
	Figures  []Figure `json:"figures"`
	// Foreign is the share of the machine's CPU time, in percent, that other
	// programs took while this was measured.
	Foreign float64 `json:"foreign_cpu_percent"`
}

// Figure is one number: the median of the runs, and the least and the greatest.
type Figure struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit,omitempty"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Run measures. With an error it gives what was measured before it, if anything was.
func Run(ctx context.Context, o Options) (*Report, error) {
	chosen, err := choose(o.Only)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Dir, "waypost-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left of it harms nobody
	report := &Report{Machine: thisMachine(), Date: time.Now().UTC().Format(time.DateOnly)}
	var stores []string
	if o.SQLite {
		stores = append(stores, "sqlite")
	}
	if o.Postgres != nil {
		stores = append(stores, "postgres")
	}
	for _, s := range chosen {
		for _, store := range stores {
			fmt.Fprintf(o.Progress, "%s on %s: %s\n", s.name, store, s.help)
			st := &stage{options: o, dir: dir, scenario: s.name, store: store, report: report}
			err := s.run(ctx, st)
			if err = errors.Join(err, st.clear()); err != nil {
				return report, fmt.Errorf("measure %s on %s: %w", s.name, store, err)
			}
		}
	}
	return report, nil
}

func choose(only []string) ([]scenario, error) {
	var chosen []scenario
	for _, s := range scenarios {
		if slices.Contains(only, s.name) || len(only) == 0 && !s.long {
			chosen = append(chosen, s)
		}
	}
	for _, name := range only {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			names, _ := Scenarios()
			return nil, fmt.Errorf("no scenario is called %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	return chosen, nil
}

func thisMachine() Machine {
	return Machine{
		CPUs: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, CPU: cpuName(), Go: runtime.Version(),
	}
}

// figure sums up the runs.
func figure(name, unit string, values []float64) Figure {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return Figure{Name: name, Unit: unit}
	}
	return Figure{Name: name, Unit: unit, Median: sorted[len(sorted)/2], Min: sorted[0], Max: sorted[len(sorted)-1]}
}
