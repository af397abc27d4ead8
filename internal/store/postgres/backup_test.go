package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
)

// TestFreezeHoldsTheMoment: what is written later is not seen, nobody is kept
// from writing, and no partition is taken away from under the reading.
func TestFreezeHoldsTheMoment(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	openURL(t, url)
	query(t, url, `INSERT INTO duplicates (event_id, at) VALUES (1, 1) RETURNING 'done'`)
	columns := query(t, url, `SELECT column_name::text FROM information_schema.columns WHERE table_name = 'events' ORDER BY ordinal_position`)
	duplicates := sqlstore.Table{Name: "duplicates", Columns: []string{"event_id", "at"}}

	snapshot, err := postgres.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := snapshot.Close(); err != nil {
			t.Error(err)
		}
	})
	_, err = snapshot.Freeze(t.Context(), []sqlstore.Table{duplicates, {Name: "events", Columns: columns}})
	if err != nil {
		t.Fatal(err)
	}
	query(t, url, `INSERT INTO duplicates (event_id, at) VALUES (2, 2) RETURNING 'done'`)

	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	partition := query(t, url, `SELECT MIN(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'events'::regclass`)[0]
	_, err = conn.Exec(t.Context(), `SET lock_timeout = '50ms'; DROP TABLE `+partition)
	if err == nil || !strings.Contains(err.Error(), "lock timeout") {
		t.Errorf("dropping a partition meanwhile: %v; want it to wait", err)
	}

	var seen []any
	for row, err := range snapshot.Rows(t.Context(), duplicates) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, row[0])
	}
	if len(seen) != 1 || seen[0] != int64(1) {
		t.Errorf("events seen: %v, want the one from before", seen)
	}
}

// TestFreezeWantsTheSameTables: a column that one side lacks is no small matter.
func TestFreezeWantsTheSameTables(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	openURL(t, url)
	for table, want := range map[string]string{"duplicates": "the table duplicates has the columns", "nowhere": "nowhere"} {
		snapshot, err := postgres.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = snapshot.Freeze(t.Context(), []sqlstore.Table{{Name: table, Columns: []string{"event_id"}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want one with %q", table, err, want)
		}
		if err := snapshot.Close(); err != nil {
			t.Error(err)
		}
	}
}
