package sqlite_test

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/sqlite"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// dirs remembers each test's data directory, so that it can be opened again.
var dirs sync.Map

func open(tb testing.TB) store.Store {
	tb.Helper()
	dir, known := dirs.Load(tb.Name())
	if !known {
		dir = filepath.Join(tb.TempDir(), "data #1 100%")
		dirs.Store(tb.Name(), dir)
		tb.Cleanup(func() { dirs.Delete(tb.Name()) })
	}
	return openDir(tb, dir.(string))
}

func openDir(tb testing.TB, dir string) *sqlite.Store {
	tb.Helper()
	s, err := sqlite.Open(tb.Context(), sqlite.Options{Dir: dir, Sealer: storetest.Sealer()})
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

// TestReleasedMigrations holds what every installation has already run. A new
// migration gets a line of its own; an old one never changes.
func TestReleasedMigrations(t *testing.T) {
	t.Parallel()
	checkMigrations(t, os.DirFS("migrations"), map[string]string{
		"00001_init.sql":      "2d433147ccd2144122ee25047c9c638896c62247f4cd930c082bec7f7630f44f",
		"00002_cluster.sql":   "2d73a2a778ca4cd931a67f6427ff228bd373967fe206dd0f8fae273ae36f2b3d",
		"00003_retention.sql": "30e1d5bb8ae7986f5847b0a9361be98c4e690b65d2e4bd9071d68cb9ac8f14f8",
		"00004_keys.sql":      "236268d10e3cf10a3a1c3659584f6345951248cf10e3f09b3d41d1f5209cc7e5",
	})
}

func checkMigrations(t *testing.T, files fs.FS, released map[string]string) {
	t.Helper()
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

func TestDirectoryIsOneProcesss(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := openDir(t, dir)
	_, err := sqlite.Open(t.Context(), sqlite.Options{Dir: dir, Sealer: storetest.Sealer()})
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Fatalf("error is %v, want one that names %s", err, dir)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	openDir(t, dir)
}

// TestCrash copies the files of a store that is in use, as a crash would leave
// them, and opens the copy: all that was accepted is there, and due.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir, left := t.TempDir(), t.TempDir()
	s := openDir(t, dir)
	node, slot, _, err := s.Join(t.Context(), time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ids, err := waypost.NewIDs(slot, 0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	const endpoint, total = 7, 40
	for range total {
		event := waypost.Event{ID: waypost.EventID(ids.Next()), Body: bytes.Repeat([]byte("x"), 1000)}
		_, err := s.Accept(t.Context(), node, []store.Arrival{{Event: event, Owed: []store.Owing{{Endpoint: endpoint, Place: store.InHand}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	// The log first: what is copied into the database meanwhile is in both.
	for _, name := range []string{"waypost.db-wal", "waypost.db"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(left, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	after := openDir(t, left)
	next, _, _, err := after.Join(t.Context(), time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	taken, err := after.Take(t.Context(), next, endpoint, time.Now().Add(time.Second), 2*total, store.OldestDue)
	if err != nil || len(taken) != total {
		t.Fatalf("%d of %d events are left and due: %v", len(taken), total, err)
	}
}

func TestSettingsOfTheDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openDir(t, dir)
	db, err := sql.Open("sqlite", filepath.Join(dir, "waypost.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for pragma, want := range map[string]string{"page_size": "8192", "journal_mode": "wal"} {
		var got string
		if err := db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, want %s (%v)", pragma, got, want, err)
		}
	}
	for _, name := range []string{"waypost.db", "waypost.db-wal", "waypost.lock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, want 0600 (%v)", name, info.Mode(), err)
		}
	}
}

func TestSecretsAreEncrypted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openDir(t, dir)
	planted := storetest.PlantSecrets(t, s)
	found := false
	for _, name := range []string{"waypost.db", "waypost.db-wal"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(planted)) {
			t.Errorf("%s holds a secret in clear", name)
		}
		found = found || bytes.Contains(text, []byte("visible name"))
	}
	if !found {
		t.Error("what is not secret was not found either: this test looks in the wrong place")
	}
}
