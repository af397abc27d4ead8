package cli

import (
	"encoding/json"
	"fmt"

	"github.com/waypost-gateway/waypost/internal/backup"
	"github.com/waypost-gateway/waypost/internal/config"
)

type restoreCommand struct {
	Path string `arg:"" name:"file" help:"Backup to restore."`
	JSON bool   `name:"json" help:"Print one JSON object."`

	config.Config `embed:""`
}

// Help is printed below the usage line of waypost restore --help.
func (*restoreCommand) Help() string {
	return `Puts a backup that waypost backup has made into an empty place: a data directory without a database, or an empty PostgreSQL database, told by the same flags, environment and file as for waypost serve. Either takes a backup of the other, which is also the way to move from one to the other.

The file is checked first. A place that holds data, or where a gateway works, is refused and left alone, and a restore that fails leaves nothing behind.

The restored gateway needs the secret key of the one that was backed up. What was delivered after the backup is delivered again.`
}

// Run restores and says what to do next.
func (c *restoreCommand) Run(s *session) error {
	if faults := c.Check(); len(faults) > 0 {
		return &usageError{faults: faults}
	}
	summary, err := backup.Restore(s.ctx, backup.Options{
		Database: c.Database, Data: c.Data, File: c.Path, Progress: (&progress{out: s.stderr}).tell,
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.stdout).Encode(summary)
	}
	place := "the PostgreSQL database"
	if c.Database == "" {
		place = c.Data
	}
	fmt.Fprintf(s.stdout, `Restored into %s: %s, everything up to %s.
Before the first start, put the secret key of the gateway that was backed up in %s; see that that gateway does not run any more.
What it delivered after that moment will be delivered again: receivers tell repeats by the message's id, or by webhook-id. What it accepted after that moment is not in the backup.
`, place, contents(summary), moment(summary), secretKeyPlace(&c.Config))
	return nil
}
