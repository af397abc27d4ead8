package sqlite

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
)

// TestTakeDoesNotSort looks at the plans of both orders: an index walk that stops
// at the limit.
func TestTakeDoesNotSort(t *testing.T) {
	t.Parallel()
	path := emptyStore(t)
	for statement, index := range map[string]string{oldestQuery: "deliveries_due", newestQuery: "deliveries_free"} {
		steps := explain(t, path, statement, 1, 50000, 100)
		sorts := func(step string) bool { return strings.Contains(step, "TEMP B-TREE") }
		if len(steps) == 0 || !strings.Contains(steps[0], "SEARCH deliveries USING INDEX "+index) || slices.ContainsFunc(steps, sorts) {
			t.Errorf("the plan is %q; want a walk of %s", steps, index)
		}
	}
}

// TestSettleSeeks looks at the plan of settling: each row is found by its key,
// whatever else is owed, and nothing is gathered first.
func TestSettleSeeks(t *testing.T) {
	t.Parallel()
	path := emptyStore(t)
	steps := explain(t, path, settleHead+`?, 101)`, 1, 50000, 100)
	if len(steps) != 1 || steps[0] != "SEARCH deliveries USING PRIMARY KEY (event_id=? AND endpoint_id=?)" {
		t.Errorf("the plan is %q; want nothing but seeks of the primary key", steps)
	}
}

// TestChangesSeek looks at the plan of following the settings: what it costs must
// not depend on how many there are.
func TestChangesSeek(t *testing.T) {
	t.Parallel()
	path := emptyStore(t)
	for _, table := range []string{"tenants", "numbers", "endpoints"} {
		steps := explain(t, path, `SELECT * FROM `+table+sqlstore.Changed(7), 7)
		if want := "SEARCH " + table + " USING INDEX " + table + "_revision (revision>?)"; len(steps) != 1 || steps[0] != want {
			t.Errorf("the plan is %q, want %q", steps, want)
		}
	}
}

// emptyStore gives the file of a store with nothing in it.
func emptyStore(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{Dir: dir, Sealer: storetest.Sealer()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, fileName)
}

// explain gives the steps of a statement's plan.
func explain(t *testing.T, path, statement string, args ...any) []string {
	t.Helper()
	db, err := connect(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}
