package app_test

import (
	"encoding/base64"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/waypost-gateway/waypost/internal/app"
	"github.com/waypost-gateway/waypost/internal/app/apptest"
	"github.com/waypost-gateway/waypost/internal/config"
)

func open(t *testing.T, c config.Config, stdout io.Writer) (*app.App, error) {
	t.Helper()
	a, err := app.New(t.Context(), app.Options{Config: c, Log: slog.New(slog.DiscardHandler), Stdout: stdout, Version: "test"})
	if err == nil {
		t.Cleanup(func() { a.Close() })
	}
	return a, err
}

// TestFaultsAtStartAreErrors once panicked: a store that did not open was closed.
func TestFaultsAtStartAreErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*config.Config){
		"data directory is a file":  func(c *config.Config) { c.Data = file },
		"no PostgreSQL there":       func(c *config.Config) { c.Database = "postgres://waypost@127.0.0.1:1/waypost?connect_timeout=1" },
		"the address can't be used": func(c *config.Config) { c.Listen = "192.0.2.1:1" },
		"the key is too short":      func(c *config.Config) { c.SecretKey = "c2hvcnQ=" },
		"the CA file is missing":    func(c *config.Config) { c.EgressCA = file + ".pem" },
	} {
		c := config.Default()
		c.Listen, c.Data = "127.0.0.1:0", t.TempDir()
		change(&c)
		if _, err := open(t, c, io.Discard); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOneProcessPerDataDirectory(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, "", nil)
	if _, err := open(t, g.Config, io.Discard); err == nil || !strings.Contains(err.Error(), g.Config.Data) {
		t.Errorf("a second process on the data directory: %v; want an error that names it", err)
	}
}

func TestTheAdminTokenIsMadeAndShownOnce(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Listen, c.Data = "127.0.0.1:0", t.TempDir()
	var first, second strings.Builder
	a, err := open(t, c, &first)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	token := regexp.MustCompile(`wpa_[A-Za-z0-9_-]{43}`).FindString(first.String())
	if token == "" {
		t.Fatalf("no token was shown: %q", first.String())
	}
	if _, err = open(t, c, &second); err != nil {
		t.Fatal(err)
	}
	if second.Len() != 0 {
		t.Errorf("shown again: %q", second.String())
	}
	files, err := filepath.Glob(filepath.Join(c.Data, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if content, err := os.ReadFile(file); err == nil && strings.Contains(string(content), token) {
			t.Errorf("%s holds the token in clear", filepath.Base(file))
		}
	}
}

// TestAnotherKeyWritesNothing once let a node with the wrong key seal the
// configured sources anew, which no other node could read from then on.
func TestAnotherKeyWritesNothing(t *testing.T) {
	t.Parallel()
	apptest.Stores(t, func(t *testing.T, database string) {
		key := func(fill string) config.Secret {
			return config.Secret(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(fill, 32))))
		}
		g := apptest.Start(t, database, func(c *config.Config) { c.SecretKey = key("a") })
		if database == "" { // one process per data directory
			if err := g.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		wrong := g.Config
		wrong.SecretKey = key("b")
		if _, err := open(t, wrong, io.Discard); err == nil || !strings.Contains(err.Error(), "WAYPOST_SECRET_KEY") {
			t.Fatalf("a node with another key: %v; want an error that names WAYPOST_SECRET_KEY", err)
		}
		// The right key, also behind a newer one, goes on as before.
		right := g.Config
		right.SecretKey = key("c") + "," + key("a")
		apptest.Restart(t, right)
	})
}

// TestNoKeyIsMadeForADatabaseThatHasOne: a key made for nothing was left behind and
// taken for the right one.
func TestNoKeyIsMadeForADatabaseThatHasOne(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Listen, c.Data = "127.0.0.1:0", t.TempDir()
	first, err := open(t, c, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(c.Data, "secret.key")
	if err := os.Rename(key, key+".kept"); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, c, io.Discard); err == nil || !strings.Contains(err.Error(), "there is no "+key) {
		t.Errorf("without its key: %v; want an error that names the file", err)
	}
	if _, err := os.Stat(key); !os.IsNotExist(err) {
		t.Errorf("a key was left behind: %v", err)
	}
	if err := os.Rename(key+".kept", key); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, c, io.Discard); err != nil {
		t.Errorf("with its key again: %v", err)
	}
}
