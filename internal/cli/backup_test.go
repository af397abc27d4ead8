package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBackupAndRestore backs up what a gateway has left, puts it elsewhere, and
// starts a gateway on that.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	serveUntilUp(t, "--data", in("here"))

	out := runWell(t, "backup", in("it"), "--data", in("here"))
	if !strings.HasPrefix(out, in("it")+" holds 0 events, 0 owed deliveries and 0 endpoints, everything up to 20") ||
		!strings.Contains(out, "The secret key is not in it: it is in "+in("here/secret.key")) {
		t.Errorf("backup says:\n%s", out)
	}
	if status, _, stderr := run(t, "backup", in("it"), "--data", in("here")); status != exitFailure ||
		stderr != "waypost: back up: "+in("it")+" exists already: choose another name, or replace that backup with --force\n" {
		t.Errorf("backing up twice: status %d\n%s", status, stderr)
	}
	out = runWell(t, "backup", in("it"), "--data", in("here"), "--force", "--json")
	var summary struct {
		File, Store, SecretKey string
		Bytes                  int64
		Moment                 time.Time
		Rows                   map[string]int64
	}
	if err := json.Unmarshal([]byte(strings.Replace(out, "secret_key", "SecretKey", 1)), &summary); err != nil ||
		summary.File != in("it") || summary.Store != "sqlite" || summary.SecretKey != in("here/secret.key") ||
		summary.Bytes == 0 || time.Since(summary.Moment) > time.Hour || summary.Rows["facts"] == 0 {
		t.Errorf("backup --json says %s (%v)", out, err)
	}

	if status, _, stderr := run(t, "restore", in("it"), "--data", in("here")); status != exitFailure || !strings.Contains(stderr, "holds a database already") {
		t.Errorf("restoring over a store: status %d\n%s", status, stderr)
	}
	key := strings.Repeat("A", 43) + "="
	out = runWell(t, "restore", in("it"), "--data", in("there"), "--secret-key", key)
	if !strings.HasPrefix(out, "Restored into "+in("there")+": 0 events, 0 owed deliveries and 0 endpoints, ") || !strings.Contains(out, "in WAYPOST_SECRET_KEY;") {
		t.Errorf("restore says:\n%s", out)
	}
	if _, _, stderr := run(t, "serve", "--listen=127.0.0.1:0", "--data", in("there"), "--secret-key", key); !strings.Contains(stderr, "is not the key") {
		t.Errorf("serve with another key:\n%s", stderr)
	}
	content, err := os.ReadFile(in("here/secret.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("there/secret.key"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := serveUntilUp(t, "--data", in("there")); out != "" {
		t.Errorf("the restored gateway made a new admin token:\n%s", out)
	}
}

// runWell runs a command that must end well.
func runWell(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	status, stdout, stderr := run(t, args...)
	if status != exitOK {
		t.Fatalf("waypost %v: status %d\n%s", args, status, stderr)
	}
	return stdout
}

func TestProgressIsShownNowAndThen(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	show := progress{out: &out}
	show.tell("pages", 1, 2)
	show.last = show.last.Add(-progressEvery)
	show.tell("pages", 1, 2)
	show.last = show.last.Add(-progressEvery)
	show.tell("events", 10_000, 0)
	show.last = show.last.Add(-progressEvery)
	show.tell("check", 0, 0)
	if want := "pages: 1 of 2\nevents: 10000\ncheck\n"; out.String() != want {
		t.Errorf("shown:\n%s", &out)
	}
}
