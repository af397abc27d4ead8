package backup_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/waypost-gateway/waypost/internal/backup"
	"github.com/waypost-gateway/waypost/internal/cli"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/store/sqlite"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
)

// programVariable makes this test binary the program itself.
const programVariable = "WAYPOST_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		ctx, stop := interruptible()
		defer stop()
		os.Exit(cli.Run(ctx, os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
	}
	pgtest.Main(m)
}

// place is where a store is.
type place struct {
	kind     string
	database string // empty for SQLite
	data     string
}

var kinds = []string{"sqlite", "postgres"}

// newPlace is an empty place of a kind.
func newPlace(t *testing.T, kind string) place {
	t.Helper()
	p := place{kind: kind, data: filepath.Join(t.TempDir(), "data #1 100%")}
	if kind == "postgres" {
		p.database = pgtest.URL(t)
	}
	return p
}

// open opens the store, and makes it if need be.
func (p place) open(t *testing.T) store.Store {
	t.Helper()
	var s store.Store
	var err error
	if p.database == "" {
		s, err = sqlite.Open(t.Context(), sqlite.Options{Dir: p.data, Sealer: storetest.Sealer()})
	} else {
		s, err = postgres.Open(t.Context(), postgres.Options{URL: p.database, Sealer: storetest.Sealer()})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p place) make(t *testing.T) {
	t.Helper()
	if err := p.open(t).Close(); err != nil {
		t.Fatal(err)
	}
}

// sql opens the database beside the store.
func (p place) sql(t *testing.T) *sql.DB {
	t.Helper()
	driver, source := "pgx", p.database
	if p.database == "" {
		driver, source = "sqlite", filepath.Join(p.data, "waypost.db")
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (p place) options(file string) backup.Options {
	return backup.Options{Database: p.database, Data: p.data, File: file, Program: "test"}
}

func (p place) take(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "backup")
	if _, err := backup.Take(t.Context(), p.options(file)); err != nil {
		t.Fatal(err)
	}
	return file
}

// exec runs a statement beside the store.
func (p place) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	execute(t, p.sql(t), statement, args...)
}

func execute(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// eachWay runs a test for each kind to back up and each kind to restore into.
func eachWay(t *testing.T, test func(t *testing.T, from, to place)) {
	for _, from := range kinds {
		for _, to := range kinds {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				test(t, newPlace(t, from), newPlace(t, to))
			})
		}
	}
}

// column is one of a table, as the database's own catalog has it.
type column struct{ name, kind string }

// schema lists all tables but the migrations' own. It is asked of the databases
// here once more, and not of what is tested.
func (p place) schema(t *testing.T) map[string][]column {
	t.Helper()
	query := `
SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c
JOIN pg_class t ON t.relname = c.table_name AND t.relnamespace = 'public'::regnamespace
WHERE c.table_schema = 'public' AND NOT t.relispartition AND t.relkind <> 'v' ORDER BY c.ordinal_position`
	if p.database == "" {
		query = `
SELECT t.name, c.name, lower(c.type) FROM sqlite_master t, pragma_table_info(t.name) c
WHERE t.type = 'table' AND t.name NOT IN ('sqlite_sequence', 'sqlite_stat1') ORDER BY c.cid`
	}
	rows, err := p.sql(t).QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	tables := map[string][]column{}
	for rows.Next() {
		var table string
		var c column
		if err := rows.Scan(&table, &c.name, &c.kind); err != nil {
			t.Fatal(err)
		}
		tables[table] = append(tables[table], c)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	delete(tables, "goose_db_version")
	return tables
}

// fill puts two rows into every table, with another value in each column.
func (p place) fill(t *testing.T) {
	t.Helper()
	db := p.sql(t)
	number := 100
	for table, columns := range p.schema(t) {
		var rows int
		if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		for row := range 2 {
			var names, marks, changes []string
			var values []any
			for _, c := range columns {
				if rows > 0 && c.name == "id" {
					continue // of the one row that the migrations have put there
				}
				number++
				values = append(values, value(t, c.kind, number, row))
				mark := fmt.Sprintf("$%d", len(values))
				names, marks, changes = append(names, c.name), append(marks, mark), append(changes, c.name+" = "+mark)
			}
			if rows > 0 {
				execute(t, db, `UPDATE `+table+` SET `+strings.Join(changes, ", "), values...)
				continue
			}
			overriding := ""
			if p.database != "" {
				overriding = "OVERRIDING SYSTEM VALUE "
			}
			execute(t, db, `INSERT INTO `+table+` (`+strings.Join(names, ", ")+`) `+overriding+`VALUES (`+strings.Join(marks, ", ")+`)`, values...)
		}
	}
	execute(t, db, `UPDATE deliveries SET node_id = 0 WHERE event_id = (SELECT MIN(event_id) FROM deliveries)`)
}

func value(t *testing.T, kind string, number, row int) any {
	t.Helper()
	switch kind {
	case "integer", "bigint":
		return number
	case "text":
		return fmt.Sprintf("text %d 😀", number)
	case "blob", "bytea":
		return bytes.Repeat([]byte{0, 1, 0xff, byte(number)}, 3*(1-row)) // the second is empty
	default:
		t.Fatalf("columns of type %s: what goes into them?", kind)
		return nil
	}
}

// dump is all rows of all tables, in an order of no meaning but always the same.
func (p place) dump(t *testing.T) map[string][]string {
	t.Helper()
	tables := map[string][]string{}
	for table, columns := range p.schema(t) {
		tables[table] = p.rows(t, table, columns)
	}
	return tables
}

func (p place) rows(t *testing.T, table string, columns []column) []string {
	t.Helper()
	rows, err := p.sql(t).QueryContext(t.Context(), `SELECT * FROM `+table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var shown []string
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = fmt.Sprintf("%s=%s", c.name, show(values[i]))
		}
		slices.Sort(cells)
		shown = append(shown, strings.Join(cells, " "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(shown)
	return shown
}

func show(value any) string {
	if value == nil {
		return "NULL"
	}
	return fmt.Sprintf("%T(%q)", value, fmt.Sprint(value))
}

// TestTheDatabasesHaveTheSameTables: a backup of one restores into the other.
func TestTheDatabasesHaveTheSameTables(t *testing.T) {
	t.Parallel()
	columns := func(p place) map[string][]string {
		p.make(t)
		tables := map[string][]string{}
		for table, list := range p.schema(t) {
			for _, c := range list {
				kind := map[string]string{"integer": "number", "bigint": "number", "blob": "bytes", "bytea": "bytes", "text": "text"}[c.kind]
				tables[table] = append(tables[table], c.name+" "+kind)
			}
			slices.Sort(tables[table])
		}
		return tables
	}
	if diff := cmp.Diff(columns(newPlace(t, "sqlite")), columns(newPlace(t, "postgres"))); diff != "" {
		t.Errorf("(-sqlite +postgres):\n%s", diff)
	}
}

// TestEverythingIsCopied fills every table of the schema and finds every value
// again.
func TestEverythingIsCopied(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, from, to place) {
		from.make(t)
		from.fill(t)
		want := from.dump(t)
		if len(want) < 13 || slices.ContainsFunc(slices.Collect(maps.Values(want)), func(rows []string) bool { return len(rows) == 0 }) {
			t.Fatalf("not every table is filled: %v", slices.Sorted(maps.Keys(want)))
		}
		file := from.take(t)
		summary, err := backup.Restore(t.Context(), to.options(file))
		if err != nil {
			t.Fatal(err)
		}
		if summary.Events != 2 || summary.Owed != 2 || summary.Store != from.kind || summary.Program != "test" {
			t.Errorf("summary: %+v", summary)
		}
		got := to.dump(t)
		// Nodes are not carried over, and nothing is in their hands.
		delete(want, "nodes")
		delete(got, "nodes")
		for i, row := range want["deliveries"] {
			for _, cell := range strings.Fields(row) {
				if strings.HasPrefix(cell, "node_id=") {
					want["deliveries"][i] = strings.Replace(row, cell, "node_id="+show(int64(0)), 1)
				}
			}
		}
		slices.Sort(want["deliveries"])
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-backed up +restored):\n%s", diff)
		}
	})
}

// TestNodeIDsAreNeverUsedAgain, not even by a store that was restored.
func TestNodeIDsAreNeverUsedAgain(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, from, to place) {
		join := func(p place) int64 {
			s := p.open(t)
			defer s.Close()
			id, _, _, err := s.Join(t.Context(), time.Minute, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Leave(t.Context(), id, time.Now()); err != nil {
				t.Fatal(err)
			}
			return int64(id)
		}
		var last int64
		for range 3 {
			last = join(from)
		}
		if _, err := backup.Restore(t.Context(), to.options(from.take(t))); err != nil {
			t.Fatal(err)
		}
		if id := join(to); id != last+1 {
			t.Errorf("the first node after the restore has the id %d; the last before the backup was %d", id, last)
		}
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, kind)
			nothing := filepath.Join(t.TempDir(), "backup")
			_, err := backup.Take(t.Context(), p.options(nothing))
			refused(t, err, map[string]string{"sqlite": p.data, "postgres": "there is no Waypost in database"}[kind])
			onlyFiles(t, filepath.Dir(nothing))

			p.make(t)
			p.fill(t)
			p.exec(t, `DELETE FROM nodes`)
			file := p.take(t)

			_, err = backup.Take(t.Context(), p.options(file))
			refused(t, err, "--force")
			again := p.options(file)
			again.Replace = true
			if _, err := backup.Take(t.Context(), again); err != nil {
				t.Errorf("replacing a backup: %v", err)
			}
			onlyFiles(t, filepath.Dir(file), "backup")

			_, err = backup.Restore(t.Context(), p.options(file))
			refused(t, err, "holds")
			if kind == "postgres" {
				empty := newPlace(t, kind)
				s := empty.open(t)
				if _, _, _, err := s.Join(t.Context(), time.Minute, time.Now()); err != nil {
					t.Fatal(err)
				}
				_, err = backup.Restore(t.Context(), empty.options(file))
				refused(t, err, "gateway at work")
				s.Close()
			}

			p.exec(t, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, $1)`, true)
			_, err = backup.Take(t.Context(), again)
			refused(t, err, "newer Waypost")
			onlyFiles(t, filepath.Dir(file), "backup")
		})
	}
}

// TestOnlyBackupsAreReplaced, and the store itself least of all.
func TestOnlyBackupsAreReplaced(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "sqlite")
	p.make(t)
	for _, name := range []string{"waypost.db", "notes.txt"} {
		path := filepath.Join(p.data, name)
		if name == "notes.txt" {
			write(t, path, []byte("remember the milk"))
		}
		before := read(t, path)
		o := p.options(path)
		o.Replace = true
		_, err := backup.Take(t.Context(), o)
		refused(t, err, "is not a backup")
		if !bytes.Equal(before, read(t, path)) {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestADamagedFileIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "sqlite")
	p.make(t)
	p.fill(t)
	whole := read(t, p.take(t))
	zeroed := bytes.Clone(whole)
	clear(zeroed[len(zeroed)/2 : len(zeroed)/2+8192])
	for name, content := range map[string][]byte{
		"cut":           whole[:len(whole)/2],
		"zeroed inside": zeroed,
		"empty":         {},
		"text":          []byte("not a database"),
		"gone":          nil,
	} {
		for _, kind := range kinds {
			to := newPlace(t, kind)
			file := filepath.Join(t.TempDir(), "backup")
			if content != nil {
				write(t, file, content)
			}
			_, err := backup.Restore(t.Context(), to.options(file))
			refused(t, err, file)
			if to.database == "" {
				if _, err := os.Stat(to.data); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s: there is a data directory now (%v)", name, err)
				}
			} else if tables := to.schema(t); len(tables) > 0 {
				t.Errorf("%s: there are tables now: %v", name, tables)
			}
		}
	}
}

// TestRowsThatAreMissingAreNoticed: the file tells how many there must be.
func TestRowsThatAreMissingAreNoticed(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "sqlite")
	p.make(t)
	p.fill(t)
	file := p.take(t)
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, db, `DELETE FROM attempts`)
	db.Close()
	_, err = backup.Restore(t.Context(), newPlace(t, "postgres").options(file))
	refused(t, err, "not whole")
}

// TestABackupOfAnEarlierSchemaIsBroughtUpToDate: restoring is possible after an
// upgrade, too.
func TestABackupOfAnEarlierSchemaIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "backup")
	write(t, file, nil)
	old, err := sqlite.CreateFile(t.Context(), file, 1)
	if err != nil {
		t.Fatal(err)
	}
	old.Close()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, db, `INSERT INTO duplicates (event_id, at) VALUES (1, 2)`)
	db.Close()
	rows := map[string]int64{"duplicates": 1, "settings_revision": 1}
	for _, table := range []string{"events", "dedupe", "deliveries", "attempts", "exhausted", "nodes", "facts", "tenants", "numbers", "sources", "keys", "endpoints"} {
		rows[table] = 0
	}
	if err := sqlite.Seal(t.Context(), file, sqlite.About{Moment: time.Now(), Store: "sqlite", Program: "old", Rows: rows}); err != nil {
		t.Fatal(err)
	}
	before := read(t, file)
	for _, kind := range kinds {
		to := newPlace(t, kind)
		if _, err := backup.Restore(t.Context(), to.options(file)); err != nil {
			t.Fatalf("%s: %v", to.kind, err)
		}
		to.make(t) // as a gateway does when it starts
		if got := to.dump(t)["duplicates"]; len(got) != 1 {
			t.Errorf("%s: rows are %q", to.kind, got)
		}
	}
	if !bytes.Equal(before, read(t, file)) {
		t.Error("the backup itself was changed")
	}
}

// TestAnEndInTheMiddleLeavesNothing: the same restore works afterwards.
func TestAnEndInTheMiddleLeavesNothing(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, from, to place) {
		from.make(t)
		series := `SELECT n, n FROM generate_series(1, 2500) n`
		if from.database == "" {
			series = `WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 2500) SELECT n, n FROM s`
		}
		from.exec(t, `INSERT INTO duplicates (event_id, at) `+series)
		from.exec(t, `UPDATE settings_revision SET revision = 1`)

		folder := t.TempDir()
		file := filepath.Join(folder, "backup")
		_, err := backup.Take(endInTheMiddle(t, from.options(file)))
		refused(t, err, context.Canceled.Error())
		onlyFiles(t, folder)

		file = from.take(t)
		_, err = backup.Restore(endInTheMiddle(t, to.options(file)))
		refused(t, err, context.Canceled.Error())
		if _, err := backup.Restore(t.Context(), to.options(file)); err != nil {
			t.Fatalf("restoring again: %v", err)
		}
		var got int
		if err := to.sql(t).QueryRowContext(t.Context(), `SELECT COUNT(*) FROM duplicates`).Scan(&got); err != nil || got != 2500 {
			t.Errorf("%d rows were restored (%v)", got, err)
		}
		if to.database == "" {
			onlyFiles(t, to.data, "waypost.db", "waypost.lock")
		}
	})
}

// endInTheMiddle ends the context once rows or pages are being copied.
func endInTheMiddle(t *testing.T, o backup.Options) (context.Context, backup.Options) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	o.Progress = func(_ string, done, _ int64) {
		if done > 0 {
			cancel()
		}
	}
	return ctx, o
}

func refused(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v; want one with %q", err, want)
	}
}

// onlyFiles checks what is in a folder, hidden files included.
func onlyFiles(t *testing.T, folder string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files in %s (-want +got):\n%s", folder, diff)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
