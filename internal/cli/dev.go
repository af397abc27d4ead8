package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

type devCommand struct {
	Once   bool   `help:"End by itself: with status 0 if every receiver got exactly what it must, else with 1 and what is missing."`
	Listen string `placeholder:"HOST:PORT" help:"Loopback address to serve on. Empty: 127.0.0.1:8080, or a free port if that is taken."`
	Data   string `placeholder:"DIR" help:"Data directory to keep. Empty: one that is removed at the end."`
	Seed   uint64 `placeholder:"N" help:"Play the same traffic whenever the number is the same. 0: other traffic each time."`
}

// Help is printed below the usage line of waypost dev --help.
func (*devCommand) Help() string {
	return `Needs no account anywhere and talks to this machine only. It starts a gateway on the embedded store, makes a tenant, numbers and keys, registers one receiver for each dialect through that dialect's own API, plays signed Meta traffic, and prints what arrives where in which form. One receiver fails twice before it takes its first hook.

Then it goes on until Ctrl-C, with commands to paste. The settings of waypost serve do not apply.`
}

// Run shows the product at work.
func (c *devCommand) Run(s *session) error {
	return runDev(s.ctx, devOptions{devCommand: *c, Version: version().Version, Out: s.stdout, Err: s.stderr})
}

// devOptions is what the demonstration needs to run.
type devOptions struct {
	devCommand
	Version string
	Out     io.Writer // the table
	Err     io.Writer // what the gateway logs

	dialects []devDialect // to show; nil: all
}

const (
	// devLimit bounds the play; `--once` adds the start and the end to it.
	devLimit = 12 * time.Second
	// devGrace is how long the gateway may take to stop in order.
	devGrace = 1500 * time.Millisecond
)

// runDev shows the whole product at work without an account anywhere: it starts
// a gateway, registers a receiver for each dialect over HTTP, plays Meta's
// traffic and prints what arrives where. Without Once it goes on until ctx
// ends, which is no error; with it, the error says how many things were not as
// they must be.
func runDev(ctx context.Context, o devOptions) (err error) {
	gateway, err := startDevGateway(ctx, o)
	if err != nil {
		return fmt.Errorf("start the gateway: %w", err)
	}
	defer func() { err = errors.Join(err, gateway.stop()) }()
	ctx = gateway.ctx

	fmt.Fprintf(o.Out, "Waypost %s at %s, data in %s\n", o.Version, gateway.base, gateway.data)
	table := &devTable{out: o.Out}
	limited, cancel := context.WithTimeoutCause(ctx, devLimit, fmt.Errorf("it is not done after %v", devLimit))
	defer cancel()
	stage, err := stageDev(limited, gateway.base, o, table)
	if stage != nil {
		defer stage.close()
	}
	if err == nil {
		err = stage.show(ctx, limited, o.Once)
	}
	if !o.Once && errors.Is(context.Cause(ctx), context.Canceled) {
		return nil // asked to end
	}
	return err
}

// stageDev waits for the gateway and sets up the stage. The caller closes the
// stage if there is one.
func stageDev(ctx context.Context, base string, o devOptions, table *devTable) (*devStage, error) {
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.dialects == nil {
		o.dialects = devDialects()
	}
	if err := newDevAPI(base, devAdminToken).ready(ctx); err != nil {
		return nil, fmt.Errorf("wait for the gateway: %w", err)
	}
	return newDevStage(ctx, base, o, table)
}

// show plays, reviews and, unless once, stays until ctx ends.
func (s *devStage) show(ctx, limited context.Context, once bool) error {
	s.describe()
	steps, err := s.steps()
	if err != nil {
		return err
	}
	s.table.head()
	faults := s.play(limited, steps)
	faults = append(faults, s.review(limited, steps)...)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(faults) > 0 {
		s.table.printf("\nNot as it must be:\n  %s\n", strings.Join(faults, "\n  "))
	} else {
		s.table.printf("Every receiver got exactly what it must.\n")
	}
	if once {
		if len(faults) > 0 {
			return fmt.Errorf("%d things are not as they must be", len(faults))
		}
		return nil
	}
	if err := s.paste(ctx); err != nil {
		return err
	}
	s.table.printf("Running until Ctrl-C.\n\n")
	s.table.head()
	<-ctx.Done()
	return context.Cause(ctx)
}

// devListen is the address to listen on. An address that others could reach is
// refused: the demonstration's credentials are known to everyone.
func devListen(ctx context.Context, wanted string, once bool) (string, error) {
	const usual, free = "127.0.0.1:8080", "127.0.0.1:0"
	switch {
	case wanted != "":
		return wanted, checkLoopback(wanted)
	case once:
		return free, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", usual)
	if err != nil {
		return free, nil //nolint:nilerr // that it is taken is the answer
	}
	return usual, listener.Close()
}

func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return &usageError{faults: []string{fmt.Sprintf("--listen %s: %v", address, err)}}
	}
	ip, err := netip.ParseAddr(host)
	if host == "localhost" || (err == nil && ip.IsLoopback()) {
		return nil
	}
	return &usageError{
		faults: []string{fmt.Sprintf("--listen %s: this is not a loopback address", address)},
		hint:   "its credentials are known to everyone, so waypost dev serves this machine only; use waypost serve for others",
	}
}

// devData is the folder for the gateway's data and how to clean up after it.
func devData(wanted string) (dir string, remove func() error, err error) {
	if wanted != "" {
		return wanted, func() error { return nil }, nil
	}
	dir, err = os.MkdirTemp("", "waypost-dev-")
	if err != nil {
		return "", nil, fmt.Errorf("make a data folder: %w", err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}
