package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

type versionCommand struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// build is what the go command noted when it built the program.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from files that differ from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func version() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Commit = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}

func (b build) String() string {
	text := "waypost " + b.Version
	if b.Commit != "" {
		text += " commit " + b.Commit
	}
	if b.Modified {
		text += " (modified)"
	}
	return text + " " + b.Go + " " + b.Platform
}

// Run prints one line.
func (c *versionCommand) Run(s *session) error {
	if c.JSON {
		return json.NewEncoder(s.stdout).Encode(version())
	}
	fmt.Fprintln(s.stdout, version())
	return nil
}
