package cli

import (
	"github.com/waypost-gateway/waypost/internal/config"
)

type configCommand struct {
	Show configShowCommand `cmd:"" help:"Print the settings that serve would run with, and check them."`
}

type configShowCommand struct {
	config.Config `embed:""`
}

// Help is printed below the usage line of waypost config show --help.
func (*configShowCommand) Help() string {
	return `Takes the same flags, environment and file as waypost serve. What is printed has the form of a configuration file; secrets are left out of it.`
}

// Run prints the settings and then what is wrong with them.
func (c *configShowCommand) Run(s *session) error {
	if err := c.Show(s.stdout); err != nil {
		return err
	}
	if faults := c.Check(); len(faults) > 0 {
		return &usageError{faults: faults}
	}
	return nil
}
