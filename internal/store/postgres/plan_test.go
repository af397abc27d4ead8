package postgres

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
)

// TestTakeDoesNotSort looks at the plans of both orders over a long backlog: an
// index walk that stops at the limit, whatever the server knows of the table.
func TestTakeDoesNotSort(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	s, err := Open(t.Context(), Options{URL: url, Sealer: storetest.Sealer()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	run := func(statement string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	// Two endpoints have nearly all of it, one with most of its deliveries put off.
	run(`INSERT INTO deliveries (event_id, endpoint_id, node_id, due, attempts, step, after_endpoint)
SELECT n, n % 2 + 1, 0, CASE WHEN n % 20 = 1 THEN 1 ELSE n END, 0, 0, 0 FROM generate_series(1, 100000) n`)
	for _, known := range []string{"", "ANALYZE deliveries"} {
		run(known)
		for order, index := range map[store.Order]string{store.OldestDue: "deliveries_due", store.NewestEvent: "deliveries_free"} {
			run("PREPARE take (bigint, bigint, bigint, bigint) AS " + takeQueries[order])
			for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
				run("SET plan_cache_mode TO " + mode)
				var text []byte
				err := conn.QueryRow(t.Context(), "EXPLAIN (FORMAT JSON) EXECUTE take (9, 1, 50000, 100)", pgx.QueryExecModeSimpleProtocol).Scan(&text)
				if err != nil {
					t.Fatal(err)
				}
				checkWalk(t, fmt.Sprintf("order %d, %s, %q", order, mode, known), text, index)
			}
			run("DEALLOCATE take")
		}
	}
}

// TestSettlingLooksUpByKey looks at the plans of what settles thousands of
// deliveries in a hand, when the server believes that hardly any are.
func TestSettlingLooksUpByKey(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{URL: pgtest.URL(t), Sealer: storetest.Sealer()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	conn, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	run := func(statement string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	const insert = `INSERT INTO deliveries (event_id, endpoint_id, node_id, due, attempts, step, after_endpoint) SELECT n, 1, %d, 0, 0, 0, 0 FROM generate_series(%d, %d) n`
	const list = `'{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}'`
	run(fmt.Sprintf(insert, 0, 1, 100))
	run("ANALYZE deliveries")
	run(fmt.Sprintf(insert, 7, 1000, 6000))
	for name, c := range map[string]struct{ query, types, values string }{
		"remove":  {removeQuery, "bigint, bigint[], bigint[]", "7, " + list + ", " + list},
		"put off": {putOffQuery, "bigint" + strings.Repeat(", bigint[]", 7), "7" + strings.Repeat(", "+list, 7)},
		"seize":   {seizeQuery, "bigint, bigint[], bigint[], bigint[]", "7" + strings.Repeat(", "+list, 3)},
	} {
		run("PREPARE settling (" + c.types + ") AS " + c.query)
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			run("SET plan_cache_mode TO " + mode)
			rows, err := conn.Query(t.Context(), "EXPLAIN EXECUTE settling ("+c.values+")", pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Join(lines, "\n")
			if !strings.Contains(text, "Index Scan using deliveries_pkey") || strings.Contains(text, "Join Filter") {
				t.Errorf("%s, %s: the plan is\n%s", name, mode, text)
			}
		}
		run("DEALLOCATE settling")
	}
	run("RESET plan_cache_mode")
}

// TestNothingIsCompiled reads a table of one row, which has to be read from end to
// end. A server that can compile statements (PostgreSQL's jit) must not do it.
func TestNothingIsCompiled(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{URL: pgtest.URL(t), Sealer: storetest.Sealer()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	rows, err := s.pool.Query(t.Context(), "EXPLAIN ANALYZE SELECT revision FROM settings_revision", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(lines, "\n")
	if !strings.Contains(text, "Seq Scan") || strings.Contains(text, "JIT") {
		t.Errorf("the plan is\n%s", text)
	}
}

type plan struct {
	Node    string `json:"Node Type"`
	Subplan string `json:"Subplan Name"`
	Index   string `json:"Index Name"`
	Plans   []plan `json:"Plans"`
}

// checkWalk looks at how a plan finds what is ready.
func checkWalk(t *testing.T, what string, text []byte, index string) {
	t.Helper()
	var top []struct {
		Plan plan `json:"Plan"`
	}
	if err := json.Unmarshal(text, &top); err != nil {
		t.Fatal(err)
	}
	var walk func(p plan, inside bool) []string
	walk = func(p plan, inside bool) (steps []string) {
		if inside = inside || p.Subplan == "CTE ready"; inside {
			steps = append(steps, strings.TrimSpace(p.Node+" "+p.Index))
		}
		for _, below := range p.Plans {
			steps = append(steps, walk(below, inside)...)
		}
		return steps
	}
	got := strings.Join(walk(top[0].Plan, false), ", ")
	if want := "Limit, LockRows, Index Scan " + index; got != want {
		t.Errorf("%s: the plan is %q, want %q", what, got, want)
	}
}
