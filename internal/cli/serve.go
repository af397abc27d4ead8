package cli

import (
	"errors"
	"log/slog"

	"github.com/waypost-gateway/waypost/internal/app"
	"github.com/waypost-gateway/waypost/internal/config"
	"github.com/waypost-gateway/waypost/internal/logging"
)

type serveCommand struct {
	config.Config `embed:""`
}

// Help is printed below the usage line of waypost serve --help.
func (*serveCommand) Help() string {
	return `Every setting can be given as a flag, as the environment variable shown behind it, or in a YAML file under the flag's name; a flag wins over the environment, and the environment over the file. An empty variable counts as not set. A secret may stand in a file that the variable with _FILE at its end names (WAYPOST_ADMIN_TOKEN_FILE=/run/secrets/token). Durations are written like 500ms, 20s or 1m30s.

The gateway runs until SIGINT or SIGTERM, then finishes what is under way.`
}

// Run runs the gateway until the session ends.
func (c *serveCommand) Run(s *session) (err error) {
	if faults := c.Check(); len(faults) > 0 {
		return &usageError{faults: faults}
	}
	app.TuneMemory(int64(c.Memory))
	lines := logging.NewWriter(s.stderr)
	defer func() { _ = lines.Flush() }() // a log that can't be written has nowhere to say so
	a, err := app.New(s.ctx, app.Options{
		Config:  c.Config,
		Log:     newLog(lines, &c.Config),
		Stdout:  s.stdout,
		Version: version().Version,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	return a.Run(s.ctx)
}

func newLog(w *logging.Writer, c *config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level()}
	if c.LogFormat == "json" {
		return slog.New(w.Handler(slog.NewJSONHandler(w, options)))
	}
	return slog.New(w.Handler(slog.NewTextHandler(w, options)))
}
