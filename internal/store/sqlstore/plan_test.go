package sqlstore_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/store/sqlite"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// backlog is owed to two hundred endpoints; a few are in hands, a few wait.
const backlog = `
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 40000)
INSERT INTO deliveries (event_id, endpoint_id, node_id, due, attempts, step, after_endpoint)
SELECT n, n % 200, CASE WHEN n % 400 = 7 THEN 3 ELSE 0 END, n, 0, 0, CASE WHEN n % 400 = 9 THEN 1 ELSE 0 END FROM n`

// TestNothingReadsAllThatIsOwed looks at the plans of what is asked about one
// endpoint or one node while much is owed to others.
func TestNothingReadsAllThatIsOwed(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s, err := sqlite.Open(t.Context(), sqlite.Options{Dir: dir, Sealer: storetest.Sealer()})
		if err != nil {
			t.Fatal(err)
		}
		checkPlans(t, s.Close, "sqlite", filepath.Join(dir, "waypost.db"), "EXPLAIN QUERY PLAN ", "SCAN d", "SCAN deliveries", "TEMP B-TREE")
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := pgtest.URL(t)
		s, err := postgres.Open(t.Context(), postgres.Options{URL: url, Sealer: storetest.Sealer()})
		if err != nil {
			t.Fatal(err)
		}
		checkPlans(t, s.Close, "pgx", url, "EXPLAIN (COSTS OFF) ", "Seq Scan on deliveries", "deliveries_pkey")
	})
}

func checkPlans(t *testing.T, closeStore func() error, driver, dsn, explain string, forbidden ...string) {
	t.Helper()
	if err := closeStore(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{backlog, "INSERT INTO nodes (slot, lease_until, joined_at) VALUES (3, 1, 1)", "ANALYZE"} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	arguments := strings.NewReplacer("$1", "7", "$2", "30000", "$3", "100")
	for name, query := range sqlstore.Queries {
		plan := planOf(t, db, explain+arguments.Replace(query))
		if !strings.Contains(plan, "deliveries_") {
			t.Errorf("%s: no index is used:\n%s", name, plan)
		}
		for _, text := range forbidden {
			if strings.Contains(plan, text) {
				t.Errorf("%s: %q in the plan:\n%s", name, text, plan)
			}
		}
	}
}

func planOf(t *testing.T, db *sql.DB, statement string) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), statement)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var plan strings.Builder
	step := make([]any, len(columns)) // the text is in the last one
	for i := range step {
		step[i] = new(sql.RawBytes)
	}
	for rows.Next() {
		if err := rows.Scan(step...); err != nil {
			t.Fatal(err)
		}
		plan.Write(*step[len(step)-1].(*sql.RawBytes))
		plan.WriteByte('\n')
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}
