package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// connection is one with a temporary table "things".
func connection(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), `CREATE TEMPORARY TABLE things (id bigint PRIMARY KEY, name text, blob bytea)`); err != nil {
		t.Fatal(err)
	}
	return conn
}

const copyThings = `COPY things (id, name, blob) FROM STDIN (FORMAT binary)`

func writeThings(ids ...int64) func(*pipe) {
	return func(p *pipe) {
		for _, id := range ids {
			p.row(3)
			p.long(id)
			p.text("a name")
			p.built(func(b []byte) []byte { return append(b, 0, 0xff) })
		}
	}
}

func TestPipe(t *testing.T) {
	t.Parallel()
	conn := connection(t)
	for _, round := range []int64{1, 10} { // the second one writes into the memory of the first
		p := pipeTo(conn)
		p.copy(t.Context(), copyThings, writeThings(round, round+1))
		p.queue(t.Context(), `UPDATE things SET name = $2 WHERE id = ANY($1::bigint[])`, []int64{round, 404}, "another")
		p.copy(t.Context(), copyThings, writeThings())
		p.queue(t.Context(), `SELECT id FROM things WHERE id >= $1 AND blob = '\x00ff' ORDER BY id`, round)
		got, err := p.run(t.Context())
		p.free()
		if err != nil {
			t.Fatal(err)
		}
		want := []answer{{rows: 2}, {rows: 1}, {}, {rows: 2, values: []int64{round, round + 1}}}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(answer{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
	}
}

// TestPipeRefused has a statement in the middle fail: what follows is passed over,
// rows on their way included, and the connection goes on.
func TestPipeRefused(t *testing.T) {
	t.Parallel()
	conn := connection(t)
	p := pipeTo(conn)
	p.queue(t.Context(), "BEGIN")
	p.copy(t.Context(), copyThings, writeThings(1, 1))
	p.copy(t.Context(), copyThings, writeThings(2))
	_, err := p.run(t.Context())
	p.free()
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "23505" {
		t.Fatalf("error is %v, want a violated key", err)
	}
	if status := conn.PgConn().TxStatus(); status != 'E' {
		t.Errorf("the transaction's status is %c, want E", status)
	}
	rollback(t.Context(), conn)
	var n int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM things`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows (%v), want none", n, err)
	}
}

// TestCommit ends transactions that hold and one that has failed.
func TestCommit(t *testing.T) {
	t.Parallel()
	conn := connection(t)
	for _, step := range []struct {
		ids  []int64
		want int  // rows there are afterwards
		fail bool // a key is there twice
	}{
		{ids: []int64{1}, want: 1},
		{ids: []int64{2, 2}, want: 1, fail: true},
		{ids: []int64{3}, want: 2},
	} {
		p := pipeTo(conn)
		p.queue(t.Context(), "BEGIN")
		p.copy(t.Context(), copyThings, writeThings(step.ids...))
		_, err := p.run(t.Context())
		p.free()
		if failed := err != nil; failed != step.fail {
			t.Fatalf("writing %v ended with %v", step.ids, err)
		}
		err = commit(t.Context(), conn)
		if failed := err != nil; failed != step.fail {
			t.Fatalf("committing %v ended with %v", step.ids, err)
		}
		if _, doubtful := errors.AsType[*sqlstore.CommitError](err); doubtful {
			t.Errorf("of %v nothing can be there, but the error leaves it open: %v", step.ids, err)
		}
		if step.fail {
			rollback(t.Context(), conn)
		}
		var n int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM things`).Scan(&n); err != nil || n != step.want {
			t.Errorf("%d rows (%v) after %v, want %d", n, err, step.ids, step.want)
		}
		if status := conn.PgConn().TxStatus(); status != 'I' {
			t.Errorf("after %v the transaction's status is %c, want I", step.ids, status)
		}
	}
}

// TestCommitWithoutConnection loses the connection before the answer, which leaves
// open what became of the transaction.
func TestCommitWithoutConnection(t *testing.T) {
	t.Parallel()
	conn := connection(t)
	if _, err := conn.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if err := conn.PgConn().Conn().Close(); err != nil {
		t.Fatal(err)
	}
	err := commit(t.Context(), conn)
	if _, doubtful := errors.AsType[*sqlstore.CommitError](err); !doubtful {
		t.Errorf("error is %v, want one that leaves open whether it was committed", err)
	}
	if !conn.IsClosed() {
		t.Error("the connection would be used again")
	}
}

// TestPipeWaitsNoLonger ends the wait for a server that is not done: the statement
// is stopped and the connection, in the middle of its answers, is not used again.
func TestPipeWaitsNoLonger(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	holder, waiter := connect(t, url), connect(t, url)
	if _, err := holder.Exec(t.Context(), `SELECT pg_advisory_lock(1)`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := pipeTo(waiter)
	p.queue(ctx, `SELECT pg_advisory_lock($1)`, int64(1))
	ended := make(chan error, 1)
	go func() {
		_, err := p.run(ctx)
		ended <- err
	}()
	awaitCount(t, holder, `SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'`, 1)
	cancel()
	err := <-ended
	if !errors.Is(err, context.Canceled) || classify(err) != sqlstore.FaultUnavailable {
		t.Errorf("error is %v, want that of the context", err)
	}
	if !waiter.IsClosed() {
		t.Error("the connection is still open")
	}
	awaitCount(t, holder, `SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'`, 0)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// awaitCount asks until the query counts as many.
func awaitCount(t *testing.T, conn *pgx.Conn, query string, want int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var n int
		if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n == want {
			return
		}
		<-tick.C
	}
}

// TestRepeatsComeInCrowds follows which way arrivals are taken in: without a look
// until some are repeats, and with one until none is.
func TestRepeatsComeInCrowds(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Options{URL: pgtest.URL(t), Sealer: storetest.Sealer()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	node, _, _, err := s.Join(t.Context(), time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		keys      []string
		first     []waypost.EventID // 0: the arrival is new
		lookAfter bool
	}{
		{[]string{"a", ""}, []waypost.EventID{0, 0}, false},
		{[]string{"b", "a", ""}, []waypost.EventID{0, 10, 0}, true},
		{[]string{"b", "c"}, []waypost.EventID{20, 0}, true},
		{[]string{"d", ""}, []waypost.EventID{0, 0}, false},
		{[]string{"e", "e"}, []waypost.EventID{0, 50}, true},
	} {
		base := waypost.EventID(10 * (i + 1))
		var batch []store.Arrival
		var want []store.Receipt
		for j, key := range step.keys {
			id := base + waypost.EventID(j)
			batch = append(batch, store.Arrival{Event: waypost.Event{ID: id, Body: []byte("body")}, DedupeKey: []byte(key)})
			receipt := store.Receipt{Event: id}
			if first := step.first[j]; first != 0 {
				receipt = store.Receipt{Event: first, Duplicate: true}
			}
			want = append(want, receipt)
		}
		got, err := s.Accept(t.Context(), node, batch)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("receipts of batch %d (-want +got):\n%s", i, diff)
		}
		if looks := s.repeats.Load(); looks != step.lookAfter {
			t.Errorf("after batch %d it looks first: %t, want %t", i, looks, step.lookAfter)
		}
	}
}

// TestCommitsWaitForTheDisk opens a store on a database that would not have them
// wait.
func TestCommitsWaitForTheDisk(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := connect(t, url)
	if _, err := admin.Exec(t.Context(), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit TO off', current_database()); END $$`); err != nil {
		t.Fatal(err)
	}
	var setting string
	if err := connect(t, url).QueryRow(t.Context(), `SHOW synchronous_commit`).Scan(&setting); err != nil || setting != "off" {
		t.Fatalf("the database's setting is %q (%v), so this shows nothing", setting, err)
	}
	s, err := Open(t.Context(), Options{URL: url, Sealer: storetest.Sealer()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.pool.QueryRow(t.Context(), `SHOW synchronous_commit`).Scan(&setting); err != nil || setting != "on" {
		t.Errorf("the store's setting is %q (%v), want on", setting, err)
	}
}
