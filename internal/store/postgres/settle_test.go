package postgres

import (
	"strings"
	"testing"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
)

// TestSettleDoesNotScan looks at the plans that the server makes while little is
// owed, and keeps when much is.
func TestSettleDoesNotScan(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{URL: pgtest.URL(t), Sealer: storetest.Sealer()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conn, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	run := func(statement string) (lines []string) {
		t.Helper()
		results, err := conn.Conn().PgConn().Exec(t.Context(), statement).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, result := range results {
			for _, row := range result.Rows {
				lines = append(lines, string(row[0]))
			}
		}
		return lines
	}
	run(`SET plan_cache_mode TO force_generic_plan`)
	for _, fill := range []string{
		"",
		`INSERT INTO deliveries (event_id, endpoint_id, node_id, due, attempts, step, after_endpoint) SELECT n, 1, 1, 0, 0, 0, 0 FROM generate_series(1, 50) n`,
		`ANALYZE deliveries`,
	} {
		run(fill)
		for query, args := range map[string]int{removeQuery: 2, putOffQuery: 7, releaseQuery: 3} {
			arrays := strings.TrimSuffix(strings.Repeat("'{}', ", args), ", ")
			if query != releaseQuery {
				arrays = "1, " + arrays // the node
			}
			run(`PREPARE settle AS ` + query)
			plan := strings.Join(run(`EXPLAIN EXECUTE settle (`+arrays+`)`), "\n")
			if strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, "Index Scan using deliveries_pkey") {
				t.Errorf("after %q:\n%s\nis planned as\n%s", fill, query, plan)
			}
			run(`DEALLOCATE settle`)
		}
	}
}
