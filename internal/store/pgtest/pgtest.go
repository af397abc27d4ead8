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
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	urlVariable     = "WAYPOST_TEST_POSTGRES"
	requireVariable = "WAYPOST_TEST_REQUIRE_POSTGRES"
	startTimeout    = 60 * time.Second
)

// errNotInstalled is told to people in full, because skipped tests are easily
// overlooked.
var errNotInstalled = errors.New("PostgreSQL is not installed, so nothing was tested against it: " +
	"install it (Debian: apt-get install postgresql; macOS: brew install postgresql), " +
	"or set " + urlVariable + " to the URL of a server where databases may be created")

// shared is the server of this process.
var shared struct {
	once    sync.Once
	cluster *Cluster
	err     error
}

// Main runs a package's tests and stops the server afterwards. Use it as
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
func Main(m interface{ Run() int }) {
	code := m.Run()
	if shared.cluster != nil {
		shared.cluster.stop()
	}
	os.Exit(code)
}

// URL makes an empty database that lives as long as the test.
func URL(tb testing.TB) string {
	tb.Helper()
	server := os.Getenv(urlVariable)
	if server == "" {
		shared.once.Do(func() { shared.cluster, shared.err = start(os.TempDir(), false, nil) })
		check(tb, shared.err)
		server = shared.cluster.url("postgres")
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
	case errors.Is(err, errNotInstalled) && !required:
		tb.Skip(err)
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
type Cluster struct {
	bin      string
	dir      string
	fsync    bool
	settings []string

	process *os.Process
	ended   chan struct{} // closed when the process is gone
}

// Start starts a server for one test. With fsync it keeps its promises as a real
// one does, at a real one's speed.
func Start(tb testing.TB, fsync bool) *Cluster {
	tb.Helper()
	return StartIn(tb, os.TempDir(), fsync)
}

// StartIn is Start with all that the server keeps below a folder, such as a small
// file system. Settings ("max_wal_size=32MB") go to the server as they are.
func StartIn(tb testing.TB, parent string, fsync bool, settings ...string) *Cluster {
	tb.Helper()
	c, err := start(parent, fsync, settings)
	check(tb, err)
	tb.Cleanup(c.stop)
	return c
}

// URL is that of the server's only database.
func (c *Cluster) URL() string { return c.url("postgres") }

// Socket is the path of the Unix socket it listens on.
func (c *Cluster) Socket() string { return filepath.Join(c.dir, ".s.PGSQL."+socketPort) }

// Kill ends the server and all its processes with no time for anything, as a
// crash of the machine would, and waits until they are gone.
func (c *Cluster) Kill(tb testing.TB) {
	tb.Helper()
	if err := killAll(c.process); err != nil {
		tb.Fatalf("kill PostgreSQL: %v", err)
	}
	<-c.ended
}

// Stop ends the server in order, without waiting for its clients to leave, and
// waits until it is gone.
func (c *Cluster) Stop(tb testing.TB) {
	tb.Helper()
	if err := c.process.Signal(os.Interrupt); err != nil {
		tb.Fatalf("stop PostgreSQL: %v", err)
	}
	<-c.ended
}

// Running tells whether the server's process is there.
func (c *Cluster) Running() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// Restart starts it again after it has ended; it recovers from its log.
func (c *Cluster) Restart(tb testing.TB) {
	tb.Helper()
	if err := c.run(); err != nil {
		tb.Fatal(err)
	}
}

// socketPort is part of the socket's name; nothing listens on a port.
const socketPort = "5432"

func (c *Cluster) url(database string) string {
	query := url.Values{"host": {c.dir}, "port": {socketPort}, "user": {"postgres"}}
	return (&url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: query.Encode()}).String()
}

const dirPrefix = "waypost-pg-"

func start(parent string, fsync bool, settings []string) (*Cluster, error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	sweep()
	dir, err := os.MkdirTemp(parent, dirPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{bin: bin, dir: dir, fsync: fsync, settings: settings}
	if err := c.init(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.run(); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// find looks for the server's binaries; of several versions the newest wins.
func find() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(real), nil
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin/initdb",
		"/usr/pgsql-*/bin/initdb",
		"/opt/homebrew/opt/postgresql*/bin/initdb",
		"/usr/local/opt/postgresql*/bin/initdb",
		"/usr/local/pgsql/bin/initdb",
	} {
		if paths, err := filepath.Glob(pattern); err == nil && len(paths) > 0 {
			slices.Sort(paths)
			return filepath.Dir(paths[len(paths)-1]), nil
		}
	}
	return "", errNotInstalled
}

// sweep removes directories of processes that are gone.
func sweep() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		if n, err := strconv.Atoi(pid); err == nil && !alive(n) {
			_ = os.RemoveAll(dir) // another process may be at it too
		}
	}
}

func (c *Cluster) init() error {
	if err := own(c.dir); err != nil {
		return fmt.Errorf("hand directory to PostgreSQL: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	initdb := exec.CommandContext(ctx, filepath.Join(c.bin, "initdb"), "--pgdata", filepath.Join(c.dir, "data"),
		"--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync")
	initdb.Dir = c.dir
	initdb.SysProcAttr = attributes()
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// run starts the server and waits until it answers.
func (c *Cluster) run() error {
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the server has it by then
	durable := "off"
	if c.fsync {
		durable = "on"
	}
	postgres := exec.Command(filepath.Join(c.bin, "postgres"), "-D", filepath.Join(c.dir, "data"), //nolint:noctx // it ends with the cluster, not with a call
		"-k", c.dir, "-p", socketPort, "-c", "listen_addresses=",
		"-c", "fsync="+durable, "-c", "full_page_writes="+durable,
		"-c", "max_connections=200", "-c", "shared_buffers=64MB")
	for _, setting := range c.settings {
		postgres.Args = append(postgres.Args, "-c", setting)
	}
	postgres.Dir = c.dir
	postgres.Stdout, postgres.Stderr = log, log
	postgres.SysProcAttr = attributes()
	dieWithParent(postgres.SysProcAttr)
	started := make(chan error)
	c.ended = make(chan struct{})
	go launch(postgres, started, c.ended)
	if err := <-started; err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	c.process = postgres.Process
	return c.wait()
}

func (c *Cluster) wait() error {
	deadline := time.After(startTimeout)
	for {
		err := admin(context.Background(), c.url("postgres"), "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-c.ended:
			return fmt.Errorf("PostgreSQL ended at once:\n%s", c.log())
		case <-deadline:
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, c.log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *Cluster) log() []byte {
	text, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		return []byte(err.Error())
	}
	return text
}

// stop ends the server, if it runs, and removes what it wrote.
func (c *Cluster) stop() {
	if c.process != nil {
		_ = c.process.Signal(quitSignal) // an error means that it is gone
		<-c.ended
	}
	_ = os.RemoveAll(c.dir) // the next process tries again
}
