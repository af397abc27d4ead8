package postgres_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// urls remembers each test's database, so that it can be opened again.
var urls sync.Map

func open(tb testing.TB) store.Store {
	tb.Helper()
	url, known := urls.Load(tb.Name())
	if !known {
		url = pgtest.URL(tb)
		urls.Store(tb.Name(), url)
		tb.Cleanup(func() { urls.Delete(tb.Name()) })
	}
	return openURL(tb, url.(string))
}

func openURL(tb testing.TB, url string) *postgres.Store {
	tb.Helper()
	return openAt(tb, url, time.Now)
}

// openAt opens a store with a clock of its own.
func openAt(tb testing.TB, url string, now func() time.Time) *postgres.Store {
	tb.Helper()
	s, err := postgres.Open(tb.Context(), postgres.Options{URL: url, Sealer: storetest.Sealer(), Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, open)
}

func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, open) }

// TestKeysOfAnotherKind opens a database that was restored from a backup of a
// SQLite one, which may hold dedupe keys on their way.
func TestKeysOfAnotherKind(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	if err := openURL(t, url).Close(); err != nil {
		t.Fatal(err)
	}
	exec(t, url, `INSERT INTO dedupe VALUES ('both', 5)`)
	exec(t, url, `INSERT INTO dedupe_recent VALUES ('both', 5), ('recent', 7)`)
	s := openURL(t, url)
	node, _, _, err := s.Join(t.Context(), time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for key, event := range map[string]waypost.EventID{"both": 5, "recent": 7} {
		receipts, err := s.Accept(t.Context(), node, []store.Arrival{{Event: waypost.Event{ID: 9}, DedupeKey: []byte(key)}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]store.Receipt{{Event: event, Duplicate: true}}, receipts); diff != "" {
			t.Errorf("receipts (-want +got):\n%s", diff)
		}
	}
	if left := query(t, url, `SELECT count(*)::text FROM dedupe_recent`)[0]; left != "0" {
		t.Errorf("%s keys are still on their way", left)
	}
}

// TestReleasedMigrations holds what every installation has already run. A new
// migration gets a line of its own; an old one never changes.
func TestReleasedMigrations(t *testing.T) {
	t.Parallel()
	released := map[string]string{
		"00001_init.sql":      "dd3baba7cc029d6ca920200502865d5331d178bfca49e6a8babb2767baa944ba",
		"00002_cluster.sql":   "b781cb07b0552d9127d554f89dda7c96626ee89f9217df9a3978f41d80f02a3f",
		"00003_retention.sql": "4c11720a15af86970ca71243d80256f515a8890774a4a5f242dcdc06546e4bb9",
		"00004_keys.sql":      "502838c0428dba73ef3efd39a6eeb7ec7f4e935b94fb894a955c05c8b5318665",
	}
	files := os.DirFS("migrations")
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != len(released) {
		t.Errorf("%d migrations, and the hashes of %d", len(names), len(released))
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		if got := hex.EncodeToString(sum[:]); got != released[name] {
			t.Errorf("%s has the hash %s; a released migration must not change", name, got)
		}
	}
}

// TestMigrationsHaveTheSameNumbers keeps the two databases in step.
func TestMigrationsHaveTheSameNumbers(t *testing.T) {
	t.Parallel()
	ours, err := fs.Glob(os.DirFS("migrations"), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := fs.Glob(os.DirFS("../sqlite/migrations"), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(ours, " "), strings.Join(theirs, " "); got != want {
		t.Errorf("PostgreSQL has %s, SQLite has %s", got, want)
	}
}

func TestStartingTogether(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			s, err := postgres.Open(t.Context(), postgres.Options{URL: url, Sealer: storetest.Sealer()})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestUnreachableServer(t *testing.T) {
	t.Parallel()
	url := "postgres://user:planted-password@127.0.0.1:1/none?connect_timeout=2"
	_, err := postgres.Open(t.Context(), postgres.Options{URL: url, Sealer: storetest.Sealer()})
	if err == nil || strings.Contains(err.Error(), "planted-password") {
		t.Fatalf("error is %v; want one without the password", err)
	}
}

func TestSecretsAreEncrypted(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	s := openURL(t, url)
	planted := storetest.PlantSecrets(t, s)
	found := false
	for _, table := range []string{"tenants", "numbers", "sources", "endpoints", "keys", "facts"} {
		for _, row := range query(t, url, `SELECT t::text FROM `+table+` t`) {
			// Bytes are shown in hexadecimal.
			if strings.Contains(row, planted) || strings.Contains(row, hex.EncodeToString([]byte(planted))) {
				t.Errorf("%s holds a secret in clear", table)
			}
			found = found || strings.Contains(row, "visible name")
		}
	}
	if !found {
		t.Error("what is not secret was not found either: this test looks in the wrong place")
	}
}

// query runs a statement beside the store and gives its first column.
func query(t *testing.T, url, statement string) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	rows, err := conn.Query(t.Context(), statement)
	if err != nil {
		t.Fatal(err)
	}
	column, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return column
}
