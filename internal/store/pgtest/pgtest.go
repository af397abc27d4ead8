// Package pgtest gives tests a real PostgreSQL.
//
// The first test of a process that asks for one starts a server from the
// installed binaries, in a directory of its own, reachable through a socket in
// that directory and nothing else. Every test gets an empty database on it. The
// server does not sync to disk: what a test of a power failure needs, it starts
// itself with Start.
//
// The server ends with the process: Main stops it, and where the process dies
// before that (a panic, a kill), Linux kills it. A directory that was left
// behind is removed by the next process that starts a server.
//
// WAYPOST_TEST_POSTGRES, a URL of a role that may create databases, names a
// server to use instead. Without it and without binaries tests are skipped,
// unless CI or WAYPOST_TEST_REQUIRE_POSTGRES is set: then they fail.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store/pgserver"
)

const (
	urlVariable     = "WAYPOST_TEST_POSTGRES"
	requireVariable = "WAYPOST_TEST_REQUIRE_POSTGRES"
	startTimeout    = 60 * time.Second
)

// advice is told to people in full, because skipped tests are easily overlooked.
const advice = "so nothing was tested against it: install it, " +
	"or set " + urlVariable + " to the URL of a server where databases may be created"

// shared is the server of this process.
var shared struct {
	once   sync.Once
	server *pgserver.Server
	err    error
}

// Main runs a package's tests and stops the server afterwards. Use it as
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
func Main(m interface{ Run() int }) {
	code := m.Run()
	if shared.server != nil {
		shared.server.Close()
	}
	os.Exit(code)
}

// URL makes an empty database that lives as long as the test.
func URL(tb testing.TB) string {
	tb.Helper()
	server := os.Getenv(urlVariable)
	if server == "" {
		shared.once.Do(func() { shared.server, shared.err = pgserver.Start(pgserver.Options{}) })
		check(tb, shared.err)
		server = shared.server.URL("postgres")
	}
	name := "waypost_" + strings.ToLower(rand.Text())
	if err := admin(tb.Context(), server, "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("create test database: %v", err)
	}
	tb.Cleanup(func() {
		if err := admin(context.Background(), server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("drop test database: %v", err)
		}
	})
	address, err := url.Parse(server)
	if err != nil {
		tb.Fatalf("read %s: %v", urlVariable, err)
	}
	address.Path = "/" + name
	return address.String()
}

func check(tb testing.TB, err error) {
	tb.Helper()
	required := os.Getenv("CI") == "true" || os.Getenv(requireVariable) != ""
	switch {
	case errors.Is(err, pgserver.ErrNotInstalled) && !required:
		tb.Skipf("%v, %s", err, advice)
	case errors.Is(err, pgserver.ErrNotInstalled):
		tb.Fatalf("%v, %s", err, advice)
	case err != nil:
		tb.Fatal(err)
	}
}

func admin(ctx context.Context, server, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// Cluster is a server of its own, for tests that break it.
type Cluster struct{ *pgserver.Server }

// Start starts a server for one test. With fsync it keeps its promises as a real
// one does, at a real one's speed.
func Start(tb testing.TB, fsync bool) *Cluster {
	tb.Helper()
	return StartIn(tb, "", fsync)
}

// StartIn is Start with all that the server keeps below a folder, such as a small
// file system. Settings ("max_wal_size=32MB") go to the server as they are.
func StartIn(tb testing.TB, parent string, fsync bool, settings ...string) *Cluster {
	tb.Helper()
	server, err := pgserver.Start(pgserver.Options{Parent: parent, Fsync: fsync, Settings: settings})
	check(tb, err)
	tb.Cleanup(server.Close)
	return &Cluster{server}
}

// URL is that of the server's only database.
func (c *Cluster) URL() string { return c.Server.URL("postgres") }

// Kill ends the server and all its processes with no time for anything, as a
// crash of the machine would, and waits until they are gone.
func (c *Cluster) Kill(tb testing.TB) {
	tb.Helper()
	must(tb, c.Server.Kill())
}

// Stop ends the server in order, without waiting for its clients to leave, and
// waits until it is gone.
func (c *Cluster) Stop(tb testing.TB) {
	tb.Helper()
	must(tb, c.Server.Stop())
}

// Restart starts it again after it has ended; it recovers from its log.
func (c *Cluster) Restart(tb testing.TB) {
	tb.Helper()
	must(tb, c.Server.Restart())
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
