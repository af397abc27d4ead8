package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/waypost-gateway/waypost/internal/bench"
)

type benchCommand struct {
	Postgres string   `env:"WAYPOST_BENCH_POSTGRES" placeholder:"URL" help:"The PostgreSQL server to measure on, where databases may be created; they are dropped again. Default: one of our own, if PostgreSQL is installed."`
	Stores   []string `default:"sqlite,postgres" enum:"sqlite,postgres" placeholder:"NAME" help:"Which stores to measure: sqlite, postgres."`
	Only     []string `placeholder:"NAME" help:"What to measure, of the names below, separated by commas. Default: all that take minutes."`
	Pairs    int      `default:"5" placeholder:"N" help:"Runs of each kind; they take turns with those they are compared to."`
	Events   int      `default:"40000" placeholder:"N" help:"Events of a run."`
	Seconds  int      `default:"5" placeholder:"N" help:"Length of a run at a fixed rate."`
	Settled  int      `default:"5000000" placeholder:"N" help:"Settled deliveries in the store of the growth scenario."`
	Owed     int      `default:"1000000" placeholder:"N" help:"Owed deliveries there."`
	Idle     int      `default:"100000" placeholder:"N" help:"Endpoints without work there."`
	Dir      string   `type:"existingdir" placeholder:"DIR" help:"Where the stores are made: a directory on the disk to be measured. Default: that for temporary files."`
	Profiles string   `type:"existingdir" placeholder:"DIR" help:"Where to leave a CPU profile of each gateway."`
	JSON     bool     `help:"Print the report as JSON."`
}

// Help is printed below the usage line of waypost bench --help.
func (*benchCommand) Help() string {
	var b strings.Builder
	b.WriteString("Measures this machine: what the gateway delivers against what a bare HTTP client delivers to the same receiver, side by side, so that the ratios mean something on any machine. Everything runs on loopback, on stores of its own. Close other programs: the report says how much of the machine they took.\n\nScenarios:\n")
	names, help := bench.Scenarios()
	for i := range names {
		fmt.Fprintf(&b, "\n%s: %s\n", names[i], help[i])
	}
	return b.String()
}

// Validate refuses what nothing could be measured with.
func (c *benchCommand) Validate() error {
	names, _ := bench.Scenarios()
	for _, name := range c.Only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("--only: no scenario is called %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	for _, least := range []struct {
		flag  string
		value int
	}{{"pairs", c.Pairs}, {"events", c.Events}, {"seconds", c.Seconds}, {"settled", c.Settled}, {"owed", c.Owed}, {"idle", c.Idle}} {
		if least.value < 1 {
			return fmt.Errorf("--%s must be at least 1, not %d", least.flag, least.value)
		}
	}
	return nil
}

// Run measures and prints the report.
func (c *benchCommand) Run(s *session) (err error) {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	options := bench.Options{
		Executable: executable, Dir: c.Dir, Pairs: c.Pairs, Events: c.Events, Seconds: c.Seconds,
		Only: c.Only, Settled: c.Settled, Owed: c.Owed, Idle: c.Idle, Profiles: c.Profiles, Progress: s.stderr,
	}
	if slices.Contains(c.Stores, "postgres") {
		databases, startErr := c.databases()
		switch {
		case errors.Is(startErr, bench.ErrNoServer):
			fmt.Fprintln(s.stderr, "PostgreSQL is not installed and is not measured; --postgres names a server to measure on.")
		case startErr != nil:
			return startErr
		default:
			defer func() { err = errors.Join(err, databases.Drop(context.WithoutCancel(s.ctx))) }()
			options.Postgres = databases.Make
		}
	}
	options.SQLite = slices.Contains(c.Stores, "sqlite")
	report, err := bench.Run(s.ctx, options)
	if report == nil || len(report.Results) == 0 {
		return err
	}
	if c.JSON {
		return errors.Join(report.WriteJSON(s.stdout), err)
	}
	return errors.Join(report.WriteText(s.stdout), err)
}

func (c *benchCommand) databases() (*bench.Databases, error) {
	if c.Postgres != "" {
		return bench.OnServer(c.Postgres), nil
	}
	return bench.OnOwnServer(c.Dir)
}

// benchRoleCommand is a process of a measurement; see package bench.
type benchRoleCommand struct {
	Role string `arg:""`
}

// Run plays the role until standard input ends.
func (c *benchRoleCommand) Run(s *session) error {
	return bench.RunRole(s.ctx, c.Role, s.stdin, s.stdout)
}
