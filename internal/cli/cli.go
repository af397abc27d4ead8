// Package cli is the command line: what can be typed, what it means, and how
// its errors read. Each command is a struct with its flags as fields and a Run
// method, in a file of its own.
//
// Exit status: 0 when all went well (a server that was asked to stop included),
// 1 when the command failed, 2 when the command line or the configuration is
// wrong, so that trying again can't help.
//
// Every error is one line on standard error that begins with "waypost: "; a
// line with advice may follow.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/waypost-gateway/waypost/internal/config"
)

// The exit statuses.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// commands is the command line: one field per command.
type commands struct {
	Serve     serveCommand     `cmd:"" help:"Run the gateway."`
	Dev       devCommand       `cmd:"" help:"Show the whole gateway at work on this machine, without any account."`
	Backup    backupCommand    `cmd:"" help:"Copy everything that is kept into a file, while the gateway runs."`
	Restore   restoreCommand   `cmd:"" help:"Put a backup into an empty place."`
	Bench     benchCommand     `cmd:"" help:"Measure the gateway on this machine against a bare HTTP client."`
	BenchRole benchRoleCommand `cmd:"" hidden:""`
	Config    configCommand    `cmd:"" help:"Look at the configuration."`
	Version   versionCommand   `cmd:"" help:"Say which version this is."`
}

const description = `Waypost is a self-hosted gateway for WhatsApp webhooks: it takes them in, keeps each one safe before it answers, and delivers it to every registered webhook in the form its receiver understands.

Exit status: 0 well, 1 failed, 2 the command line or the configuration is wrong.`

// session is what a command may use of the world.
type session struct {
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// usageError is a wrong command line or configuration, one fault a line.
type usageError struct {
	faults []string
	hint   string
}

func (e *usageError) Error() string { return strings.Join(e.faults, "\n") }

// Run does what the arguments say and returns the exit status. lookup reads
// the environment, like os.LookupEnv.
func Run(ctx context.Context, args []string, lookup func(string) (string, bool), stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "help" {
		args = append(args[1:len(args):len(args)], "--help")
	}
	s := &session{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr}
	run, err := parse(s, args, lookup)
	if err == nil {
		err = run()
	}
	return report(stderr, err)
}

// exited is what kong wants to happen after it has printed help.
type exited int

// parse finds the command. What it returns runs it.
func parse(s *session, args []string, lookup func(string) (string, bool)) (run func() error, err error) {
	sources := config.New(lookup)
	parser, err := kong.New(&commands{}, append(sources.Options(),
		kong.Name("waypost"),
		kong.Description(description),
		kong.Writers(s.stdout, s.stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ExplicitGroups(config.Groups()),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.Bind(s),
	)...)
	if err != nil {
		return nil, fmt.Errorf("declare commands: %w", err)
	}
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case exited:
			run, err = func() error { return nil }, nil
		default:
			panic(fault)
		}
	}()
	command, err := parser.Parse(args)
	if err != nil {
		return nil, wrongUsage(err, sources.Faults())
	}
	if faults := sources.Faults(); len(faults) > 0 {
		return nil, &usageError{faults: faults}
	}
	return func() error { return command.Run() }, nil
}

func wrongUsage(err error, faults []string) error {
	hint := "see waypost --help"
	var e *kong.ParseError
	if errors.As(err, &e) && e.Context != nil && e.Context.Selected() != nil {
		hint = "see " + e.Context.Selected().FullPath() + " --help"
	}
	return &usageError{faults: append([]string{err.Error()}, faults...), hint: hint}
}

// report prints what went wrong and returns the exit status.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintf(stderr, "waypost: %s\n", line)
		}
	}
	var usage *usageError
	isUsage := errors.As(err, &usage)
	advice := hint(err)
	if isUsage && usage.hint != "" {
		advice = usage.hint
	}
	if advice != "" {
		fmt.Fprintf(stderr, "hint: %s\n", advice)
	}
	if isUsage {
		return exitUsage
	}
	return exitFailure
}
