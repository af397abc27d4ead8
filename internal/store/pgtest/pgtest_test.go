package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestURLGivesEmptyDatabases(t *testing.T) {
	t.Parallel()
	first, second := pgtest.URL(t), pgtest.URL(t)
	if first == second {
		t.Fatalf("the same database twice: %s", first)
	}
	run(t, first, "CREATE TABLE mine (x int)")
	run(t, second, "CREATE TABLE mine (x int)")
}

func TestClusterSurvivesKill(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, true)
	run(t, cluster.URL(), "CREATE TABLE kept (x int)")
	cluster.Kill(t)
	if conn, err := pgx.Connect(t.Context(), cluster.URL()); err == nil {
		_ = conn.Close(t.Context())
		t.Fatal("a killed server answers")
	}
	cluster.Restart(t)
	run(t, cluster.URL(), "INSERT INTO kept VALUES (1)")
}

func run(t *testing.T, url, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}
