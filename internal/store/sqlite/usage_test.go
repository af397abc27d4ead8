package sqlite_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// TestForgottenRoomIsUsedAgain: the file does not shrink, but what comes next goes
// where the bodies were.
func TestForgottenRoomIsUsedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openDir(t, dir)
	node, _, _, err := s.Join(t.Context(), time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	const total, size = 1500, 1500
	next := waypost.FirstEventID(time.Now())
	fill := func() {
		t.Helper()
		batch := make([]store.Arrival, total)
		for i := range batch {
			batch[i].Event = waypost.Event{ID: next, Body: make([]byte, size)}
			next++
		}
		if _, err := s.Accept(t.Context(), node, batch); err != nil {
			t.Fatal(err)
		}
	}
	used := func() int64 {
		t.Helper()
		usage, err := s.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return usage.Used
	}
	// file is the size of the database file, once all is in it. A checkpoint that
	// meets the store's own is told to be busy, whatever its timeout.
	file := func() int64 {
		t.Helper()
		db, err := sql.Open("sqlite", filepath.Join(dir, "waypost.db")+"?_pragma=busy_timeout(5000)")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		for busy := true; busy; {
			var inLog, copied int
			if err := db.QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(FULL)").Scan(&busy, &inLog, &copied); err != nil {
				t.Fatal(err)
			}
		}
		info, err := os.Stat(filepath.Join(dir, "waypost.db"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	fill()
	before, fileBefore := used(), file()
	for more := true; more; {
		p, err := s.Prune(t.Context(), store.Horizons{Bodies: next}, 800)
		if err != nil {
			t.Fatal(err)
		}
		more = p.More
	}
	if freed := before - used(); freed < total*size*8/10 {
		t.Errorf("%d bytes are free of %d", freed, total*size)
	}
	fill()
	if grown := used() - before; grown > total*size/4 {
		t.Errorf("with as many bodies again it takes %d bytes more", grown)
	}
	if grown := file() - fileBefore; grown > total*size/4 {
		t.Errorf("with as many bodies again the file has grown by %d bytes", grown)
	}
}
