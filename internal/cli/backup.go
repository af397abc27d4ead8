package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/waypost-gateway/waypost/internal/backup"
	"github.com/waypost-gateway/waypost/internal/config"
)

type backupCommand struct {
	Path  string `arg:"" name:"file" help:"File to write, on a disk with room for it."`
	Force bool   `help:"Take the place of an earlier backup of that name."`
	JSON  bool   `name:"json" help:"Print one JSON object."`

	config.Config `embed:""`
}

// Help is printed below the usage line of waypost backup --help.
func (*backupCommand) Help() string {
	return `Copies everything the gateway keeps, as it was at one moment, into one file: events, what is owed, the log, settings. It works while the gateway runs, which goes on taking in and delivering, and while it does not. Which store is copied is told by the same flags, environment and file as for waypost serve.

The file is written under another name, read back and checked before it gets its own. It holds message contents, so it is readable by its owner only. The secret key is not in it: keep that in another place.

Restore it with waypost restore, into an embedded store or a PostgreSQL database.`
}

// Run makes a backup and says what is in it.
func (c *backupCommand) Run(s *session) error {
	if faults := c.Check(); len(faults) > 0 {
		return &usageError{faults: faults}
	}
	summary, err := backup.Take(s.ctx, backup.Options{
		Database: c.Database, Data: c.Data, File: c.Path, Replace: c.Force,
		Program: version().Version, Progress: (&progress{out: s.stderr}).tell,
	})
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	key := secretKeyPlace(&c.Config)
	where := "it is in " + key
	if _, err := os.Stat(key); err != nil && c.SecretKey == "" {
		where = "and it was not found here: WAYPOST_SECRET_KEY is not set, and there is no " + key + "; the gateway has it"
		key = ""
	}
	if c.JSON {
		return json.NewEncoder(s.stdout).Encode(struct {
			backup.Summary
			SecretKey string `json:"secret_key"` // where it is; it is not in the file
		}{summary, key})
	}
	fmt.Fprintf(s.stdout, "%s holds %s, everything up to %s (%d bytes).\n",
		summary.File, contents(summary), moment(summary), summary.Bytes)
	fmt.Fprintf(s.stdout, "The secret key is not in it: %s. Keep a copy of it in another place; without it this backup can't be used.\n", where)
	return nil
}

// secretKeyPlace says where serve looks for the key.
func secretKeyPlace(c *config.Config) string {
	if c.SecretKey != "" {
		return "WAYPOST_SECRET_KEY"
	}
	return filepath.Join(c.Data, "secret.key")
}

func contents(summary backup.Summary) string {
	return fmt.Sprintf("%d events, %d owed deliveries and %d endpoints", summary.Events, summary.Owed, summary.Endpoints)
}

func moment(summary backup.Summary) string {
	return summary.Moment.UTC().Format("2006-01-02T15:04:05.000Z")
}

// progressEvery is how often progress is shown. What takes less shows none.
const progressEvery = 2 * time.Second

// progress tells people how far it is, line by line.
type progress struct {
	out  io.Writer
	last time.Time
}

func (p *progress) tell(step string, done, total int64) {
	now := time.Now()
	if p.last.IsZero() {
		p.last = now
	}
	if now.Sub(p.last) < progressEvery {
		return
	}
	p.last = now
	switch {
	case total > 0:
		fmt.Fprintf(p.out, "%s: %d of %d\n", step, done, total)
	case done > 0:
		fmt.Fprintf(p.out, "%s: %d\n", step, done)
	default:
		fmt.Fprintln(p.out, step)
	}
}
