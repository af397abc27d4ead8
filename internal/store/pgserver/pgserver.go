// Package pgserver runs a throw-away PostgreSQL from the installed binaries, in a
// directory of its own, reachable through a socket in that directory and nothing
// else. Tests and measurements use it.
//
// The server ends with Close, and on Linux also with the process that started it.
// A directory that was left behind is removed by the next process that starts a
// server.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const startTimeout = 60 * time.Second

// ErrNotInstalled tells that there are no binaries.
var ErrNotInstalled = errors.New("PostgreSQL is not installed (Debian: apt-get install postgresql; macOS: brew install postgresql)")

// Options of a Server.
type Options struct {
	Parent string // folder to keep everything below; empty: that for temporary files
	// Fsync: it keeps its promises as a real one does, at a real one's speed.
	Fsync bool
	// Seasoned: it is set up for many writes and behaves as if it had run for a
	// while, see season.
	Seasoned bool
	Settings []string // "max_wal_size=32MB": handed to the server as they are
}

// Server is one that was started. Its methods are not for concurrent use.
type Server struct {
	bin     string
	dir     string
	options Options

	process *os.Process
	ended   chan struct{} // closed when the process is gone
}

// Start makes an empty server and waits until it answers.
func Start(o Options) (*Server, error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	sweep()
	dir, err := os.MkdirTemp(o.Parent, dirPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, options: o}
	if err := s.init(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.run(); err != nil {
		s.Close()
		return nil, err
	}
	if o.Seasoned {
		if err := s.season(); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// URL is that of one of the server's databases; "postgres" is always there.
func (s *Server) URL(database string) string {
	query := url.Values{"host": {s.dir}, "port": {socketPort}, "user": {"postgres"}}
	return (&url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: query.Encode()}).String()
}

// Socket is the path of the Unix socket it listens on.
func (s *Server) Socket() string { return filepath.Join(s.dir, ".s.PGSQL."+socketPort) }

// Kill ends the server and all its processes with no time for anything, as a
// crash of the machine would, and waits until they are gone.
func (s *Server) Kill() error {
	if err := killAll(s.process); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	<-s.ended
	return nil
}

// Stop ends the server in order, without waiting for its clients to leave, and
// waits until it is gone.
func (s *Server) Stop() error {
	if err := s.process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	<-s.ended
	return nil
}

// Running tells whether the server's process is there.
func (s *Server) Running() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// Restart starts it again after it has ended; it recovers from its log.
func (s *Server) Restart() error { return s.run() }

// socketPort is part of the socket's name; nothing listens on a port.
const socketPort = "5432"

const dirPrefix = "waypost-pg-"

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
	return "", ErrNotInstalled
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

func (s *Server) init() error {
	if err := own(s.dir); err != nil {
		return fmt.Errorf("hand directory to PostgreSQL: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	initdb := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), "--pgdata", filepath.Join(s.dir, "data"),
		"--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync")
	initdb.Dir = s.dir
	initdb.SysProcAttr = attributes()
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// seasoned are the settings for many writes. None of them weakens a promise.
var seasoned = []string{
	"shared_buffers=128MB",
	"max_wal_size=4GB", "min_wal_size=2GB", // segments of the log are used again, not made anew
	"checkpoint_timeout=15min",
	"wal_compression=on",
}

// seasonSegments is how many segments of its log a seasoned server has in store,
// 1 GB.
const seasonSegments = 64

// season fills the store of log segments that a server has which has run for a
// while. Without them each 16 MB of log wait until a new file is filled with
// zeros, which doubles what is written and which all commits wait for.
func (s *Server) season() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	for range seasonSegments {
		if _, err = conn.Exec(ctx, "SELECT txid_current(), pg_switch_wal()"); err != nil {
			break
		}
	}
	if err == nil {
		_, err = conn.Exec(ctx, "CHECKPOINT")
	}
	return errors.Join(err, conn.Close(ctx))
}

// run starts the server and waits until it answers.
func (s *Server) run() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the server has it by then
	durable := "off"
	if s.options.Fsync {
		durable = "on"
	}
	postgres := exec.Command(filepath.Join(s.bin, "postgres"), "-D", filepath.Join(s.dir, "data"), //nolint:noctx // it ends with the cluster, not with a call
		"-k", s.dir, "-p", socketPort, "-c", "listen_addresses=",
		"-c", "fsync="+durable, "-c", "full_page_writes="+durable,
		"-c", "max_connections=200", "-c", "shared_buffers=64MB")
	if s.options.Seasoned {
		for _, setting := range seasoned {
			postgres.Args = append(postgres.Args, "-c", setting)
		}
	}
	for _, setting := range s.options.Settings {
		postgres.Args = append(postgres.Args, "-c", setting)
	}
	postgres.Dir = s.dir
	postgres.Stdout, postgres.Stderr = log, log
	postgres.SysProcAttr = attributes()
	dieWithParent(postgres.SysProcAttr)
	started := make(chan error)
	s.ended = make(chan struct{})
	go launch(postgres, started, s.ended)
	if err := <-started; err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	s.process = postgres.Process
	return s.wait()
}

func (s *Server) wait() error {
	deadline := time.After(startTimeout)
	for {
		err := s.answers()
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("PostgreSQL ended at once:\n%s", s.log())
		case <-deadline:
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, s.log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) answers() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT 1")
	return errors.Join(err, conn.Close(ctx))
}

func (s *Server) log() []byte {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return []byte(err.Error())
	}
	return text
}

// Close ends the server, if it runs, and removes what it wrote.
func (s *Server) Close() {
	if s.process != nil {
		_ = s.process.Signal(quitSignal) // an error means that it is gone
		<-s.ended
	}
	_ = os.RemoveAll(s.dir) // the next process tries again
}
