package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store/pgserver"
)

// Databases makes empty databases on a PostgreSQL server, for Options.Postgres.
// Drop removes them again, and with them a server of its own.
type Databases struct {
	server string
	own    *pgserver.Server // nil: somebody else's
	made   []string
}

// ErrNoServer tells that PostgreSQL is not installed.
var ErrNoServer = pgserver.ErrNotInstalled

// OnOwnServer starts a server from the installed binaries, with its data, synced
// as a real one's, below dir (empty: that for temporary files).
func OnOwnServer(dir string) (*Databases, error) {
	server, err := pgserver.Start(pgserver.Options{Parent: dir, Fsync: true, Seasoned: true})
	if err != nil {
		return nil, err
	}
	return &Databases{server: server.URL("postgres"), own: server}, nil
}

// OnServer makes databases on the server that the URL leads to, where its role
// may create them.
func OnServer(server string) *Databases { return &Databases{server: server} }

// Make gives the URL of a new database and, if the server runs on this machine,
// the id of its process.
func (d *Databases) Make(ctx context.Context) (address string, server int, err error) {
	name := "waypost_bench_" + strings.ToLower(rand.Text())
	parsed, err := url.Parse(d.server)
	if err != nil {
		return "", 0, errors.New("the URL of the PostgreSQL server can't be read")
	}
	conn, err := pgx.Connect(ctx, d.server)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", 0, fmt.Errorf("make a database: %w", err)
	}
	d.made = append(d.made, name)
	var backend int
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&backend); err != nil {
		return "", 0, err
	}
	parsed.Path = "/" + name
	return parsed.String(), parentIfPostgres(backend), nil
}

// Drop removes the databases that were made.
func (d *Databases) Drop(ctx context.Context) error {
	if d.own != nil {
		d.own.Close()
		return nil
	}
	if len(d.made) == 0 {
		return nil
	}
	conn, err := pgx.Connect(ctx, d.server)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range d.made {
		_, err := conn.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		errs = append(errs, err)
	}
	return errors.Join(append(errs, conn.Close(ctx))...)
}

// parentIfPostgres is the server behind a backend, if that is a process of this
// machine, or 0.
func parentIfPostgres(backend int) int {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(backend) + "/stat")
	if err != nil || !bytes.Contains(text, []byte("(postgres)")) {
		return 0
	}
	_, after, _ := bytes.Cut(text, []byte(") "))
	fields := strings.Fields(string(after))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}
