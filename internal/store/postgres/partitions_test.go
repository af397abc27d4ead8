package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/store/sqlstore"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// history is a store that has been in use for some days, with a partition for
// each of them.
type history struct {
	*member
	url   string
	today time.Time
}

const historyDays = 6

func startHistory(t *testing.T) *history {
	t.Helper()
	url := pgtest.URL(t)
	h := &history{member: join(t, url), url: url, today: time.Now().UTC().Truncate(24 * time.Hour)}
	for _, table := range []string{"events", "attempts"} {
		exec(t, url, fmt.Sprintf(`ALTER TABLE %s DETACH PARTITION %s_first`, table, table))
		exec(t, url, fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s_first FOR VALUES FROM (MINVALUE) TO (%d)`,
			table, table, waypost.FirstEventID(h.today.AddDate(0, 0, -historyDays))))
	}
	for back := historyDays; back >= 0; back -= 3 {
		if err := h.Prepare(t.Context(), h.today.AddDate(0, 0, -back)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// day gives the first id of the day some days ago.
func (h *history) day(ago int) waypost.EventID {
	return waypost.FirstEventID(h.today.AddDate(0, 0, -ago))
}

func (h *history) partition(table string, ago int) string {
	return table + h.today.AddDate(0, 0, -ago).Format("_20060102")
}

// fill accepts events of a day, each owed to the endpoint.
func (h *history) fill(ago, from, to int) []waypost.DeliveryID {
	h.t.Helper()
	var batch []store.Arrival
	var ids []waypost.DeliveryID
	for i := from; i < to; i++ {
		id := h.day(ago) + waypost.EventID(i)
		body := fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 3000))
		batch = append(batch, store.Arrival{
			Event: waypost.Event{ID: id, Type: "whatsapp.error", State: waypost.EventRouted, TenantID: 1, Body: body},
			Owed:  []store.Owing{{Endpoint: endpoint, Place: store.InHand}},
		})
		ids = append(ids, waypost.DeliveryID{Event: id, Endpoint: endpoint})
	}
	if _, err := h.Accept(h.t.Context(), h.node, batch); err != nil {
		h.t.Fatal(err)
	}
	return ids
}

// try writes back an attempt for each, which ends the delivery or leaves it owed.
func (h *history) try(n int, next store.Next, ids ...waypost.DeliveryID) {
	h.t.Helper()
	results := make([]store.Result, len(ids))
	for i, id := range ids {
		results[i] = store.Result{
			Delivery: id, Next: next, At: time.Now(), InHand: next == store.NextRetry,
			Attempt: &waypost.Attempt{Delivery: id, N: n, At: time.Now(), Outcome: waypost.OutcomeDelivered},
		}
	}
	settled, err := h.Settle(h.t.Context(), h.node, results)
	if err != nil || len(settled.Lost) > 0 {
		h.t.Fatalf("settled %+v, %v", settled, err)
	}
}

func (h *history) prune(horizons store.Horizons) store.Pruned {
	h.t.Helper()
	var sum store.Pruned
	for range 1000 {
		p, err := h.Prune(h.t.Context(), horizons, 300)
		if err != nil {
			h.t.Fatal(err)
		}
		sum.Partitions += p.Partitions
		if !p.More {
			return sum
		}
	}
	h.t.Fatal("pruning does not come to an end")
	return sum
}

func (h *history) partitions(table string) []string {
	h.t.Helper()
	return query(h.t, h.url, `SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '`+table+`'::regclass ORDER BY 1`)
}

// owed checks that deliveries are owed with all they have, and nothing else is.
func (h *history) owed(made int, ids ...waypost.DeliveryID) {
	h.t.Helper()
	for _, id := range ids {
		record, err := h.Event(h.t.Context(), id.Event)
		if err != nil || len(record.Body) == 0 {
			h.t.Fatalf("%s is owed; its event has a body of %d bytes, %v", id, len(record.Body), err)
		}
		attempts, err := h.Attempts(h.t.Context(), id.Event)
		if err != nil || len(attempts) != made {
			h.t.Fatalf("%s has %d attempts, want %d (%v)", id, len(attempts), made, err)
		}
	}
	backlog, err := h.Backlog(h.t.Context(), endpoint, 0)
	if err != nil || backlog.Count != len(ids) {
		h.t.Fatalf("%d are owed, want %d (%v)", backlog.Count, len(ids), err)
	}
}

func exec(t *testing.T, url, statement string) {
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

func TestWholePartitions(t *testing.T) {
	t.Parallel()
	h := startHistory(t)
	var owed []waypost.DeliveryID
	for ago := 1; ago <= historyDays; ago++ {
		ids := h.fill(ago, 0, 50)
		h.try(1, store.NextDelivered, ids[2:]...)
		h.try(1, store.NextRetry, ids[:2]...)
		owed = append(owed, ids[:2]...)
	}
	full := query(t, h.url, `SELECT pg_total_relation_size('`+h.partition("events", 3)+`')::text`)[0]

	// A horizon within a day leaves that day alone.
	h.prune(store.Horizons{Bodies: h.day(3) + 10, Attempts: h.day(3) + 10})
	h.owed(1, owed...)
	if _, err := h.Event(t.Context(), h.day(4)+5); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[waypost.EventID]int{h.day(4) + 5: 0, h.day(3) + 5: 1} {
		record, err := h.Event(t.Context(), id)
		if attempts, _ := h.Attempts(t.Context(), id); err != nil || len(attempts) != want || (len(record.Body) > 0) != (want > 0) {
			t.Errorf("event of %s: %d attempts and %d bytes are left (%v)", id.Time(), len(attempts), len(record.Body), err)
		}
	}
	if slices.Contains(h.partitions("attempts"), h.partition("attempts", 4)) || !slices.Contains(h.partitions("events"), h.partition("events", 4)) {
		t.Errorf("partitions %v, %v", h.partitions("attempts"), h.partitions("events"))
	}
	bare := query(t, h.url, `SELECT pg_total_relation_size('`+h.partition("events", 4)+`')::text`)[0]
	if len(bare) > len(full) || len(bare) == len(full) && bare >= full {
		t.Errorf("without bodies the partition takes %s bytes, with them %s", bare, full)
	}

	h.prune(store.Horizons{Events: h.day(2)})
	h.owed(1, owed...)
	if got := h.partitions("events"); slices.Contains(got, h.partition("events", 3)) || !slices.Contains(got, h.partition("events", 2)) {
		t.Errorf("partitions %v", got)
	}
	if got := query(t, h.url, `SELECT count(*)::text FROM events_default`)[0]; got != fmt.Sprint(2*(historyDays-2)) {
		t.Errorf("%s events were saved", got)
	}

	// What was saved is delivered, and goes with the next round.
	h.try(2, store.NextDelivered, owed...)
	h.prune(store.Horizons{Events: h.day(2) + 1, Attempts: h.day(2) + 1})
	if got := query(t, h.url, `SELECT (SELECT count(*) FROM events_default) || ' ' || (SELECT count(*) FROM attempts_default) || ' ' ||
		(SELECT count(*) FROM spared)`)[0]; got != "0 0 0" {
		t.Errorf("%s events, attempts and spared ones are left in the default partitions", got)
	}
}

// TestMuchOwed leaves a partition with much in it that is owed where it is, until
// little of it is owed.
func TestMuchOwed(t *testing.T) {
	t.Parallel()
	h := startHistory(t)
	const total = 1010
	ids := h.fill(3, 0, total)
	h.try(1, store.NextRetry, ids...)
	more := h.fill(3, total, total+300)
	h.try(1, store.NextDelivered, more...)
	horizons := store.Horizons{Bodies: h.day(2), Attempts: h.day(2), Events: h.day(2)}
	h.prune(horizons)
	h.owed(1, ids...)
	if got := query(t, h.url, `SELECT count(*)::text FROM `+h.partition("events", 3))[0]; got != fmt.Sprint(total) {
		t.Fatalf("%s events are left in the partition, want %d", got, total)
	}
	h.try(2, store.NextDelivered, ids[5:]...)
	horizons.Audit++
	if got := h.prune(horizons); got.Partitions != 2 {
		t.Errorf("%d partitions were dropped, want 2", got.Partitions)
	}
	h.owed(1, ids[:5]...)
	if got := h.partitions("events"); slices.Contains(got, h.partition("events", 3)) {
		t.Errorf("partitions %v", got)
	}
}

// TestLatePrepare has events come before their day has a partition.
func TestLatePrepare(t *testing.T) {
	t.Parallel()
	h := startHistory(t)
	ids := h.fill(-5, 0, 3) // Prepare has gone three days ahead
	h.fill(-6, 0, 3)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			if err := h.Prepare(t.Context(), h.today.AddDate(0, 0, 4)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if err := h.Prepare(t.Context(), h.today.AddDate(0, 0, 4)); err != nil {
		t.Fatal(err)
	}
	got := h.partitions("events")
	for ahead, want := range map[int]bool{4: true, 5: false, 6: false, 7: true, 8: false} {
		if slices.Contains(got, h.partition("events", -ahead)) != want {
			t.Errorf("partitions %v; is there one in %d days: want %v", got, ahead, want)
		}
	}
	h.try(1, store.NextDelivered, ids...)
	h.prune(store.Horizons{Events: h.day(-6)})
	if _, err := h.Event(t.Context(), ids[0].Event); waypost.KindOf(err) != waypost.KindNotFound {
		t.Errorf("error is %v, want none found", err)
	}
	for _, table := range []string{"events", "attempts"} {
		options := query(t, h.url, `SELECT string_agg(indexdef, E'\n' ORDER BY indexdef) FROM pg_indexes WHERE tablename = '`+h.partition(table, -7)+`'`)[0]
		if want := strings.Count(query(t, h.url, `SELECT string_agg(indexdef, E'\n') FROM pg_indexes WHERE tablename = '`+table+`'`)[0], "\n"); strings.Count(options, "\n") != want {
			t.Errorf("a partition of %s has the indexes\n%s", table, options)
		}
	}
	if got := query(t, h.url, `SELECT attstorage::text FROM pg_attribute WHERE attrelid = '`+h.partition("events", -7)+`'::regclass AND attname = 'body'`)[0]; got != "e" {
		t.Errorf("bodies are stored as %q, want external", got)
	}
}

// TestPruneYields holds a lock that keeps a partition from being dropped.
// Accepting goes on, and so does pruning once the lock is gone.
func TestPruneYields(t *testing.T) {
	t.Parallel()
	h := startHistory(t)
	h.try(1, store.NextDelivered, h.fill(3, 0, 5)...)
	reader, err := pgx.Connect(t.Context(), h.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close(context.WithoutCancel(t.Context())) }()
	if _, err := reader.Exec(t.Context(), `BEGIN; SELECT count(*) FROM events; SELECT count(*) FROM attempts`); err != nil {
		t.Fatal(err)
	}
	done := make(chan store.Pruned)
	go func() {
		p, err := h.Prune(t.Context(), store.Horizons{Events: h.day(2), Attempts: h.day(2)}, 100)
		if err != nil {
			t.Error(err)
		}
		done <- p
	}()
	accepted := 0
	for pruned, waiting := (store.Pruned{}), true; waiting; {
		select {
		case pruned = <-done:
			waiting = false
			if pruned.Partitions > 0 {
				t.Errorf("pruned %+v under a lock", pruned)
			}
		default:
			h.fill(0, accepted, accepted+1)
			accepted++
		}
	}
	if accepted < 5 {
		t.Errorf("%d events were accepted while pruning waited", accepted)
	}
	if _, err := reader.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if got := h.prune(store.Horizons{Events: h.day(2), Attempts: h.day(2)}); got.Partitions == 0 {
		t.Error("no partition was dropped")
	}
}

// TestUpgradeInPlace partitions tables with rows in them, while the version before
// goes on writing.
func TestUpgradeInPlace(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	before := fstest.MapFS{}
	for _, name := range []string{"migrations/00001_init.sql", "migrations/00002_cluster.sql"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		before[name] = &fstest.MapFile{Data: text}
	}
	if err := sqlstore.Migrate(t.Context(), goose.DialectPostgres, db, before); err != nil {
		t.Fatal(err)
	}
	ids, err := waypost.NewIDs(5, 0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	insert := func(ctx context.Context, id int64) error {
		for _, statement := range []string{
			`INSERT INTO events (id, type, state, tenant_id, number_id, source_id, phone_number_id, waba_id, conversation, form, occurred_at, body)
VALUES ($1, 'x', 'routed', 3, 0, 0, '', '', 0, 'cloud', 0, 'body')`,
			`INSERT INTO attempts (event_id, endpoint_id, n, at, duration, status, outcome, reason, detail)
SELECT $1, 7, 1, 0, 0, 200, 'delivered', 'ok', '{}' ON CONFLICT DO NOTHING`,
		} {
			if _, err := db.ExecContext(ctx, statement, id); err != nil {
				return err
			}
		}
		return nil
	}
	const rows = 500
	for range rows {
		if err := insert(t.Context(), ids.Next()); err != nil {
			t.Fatal(err)
		}
	}
	files := query(t, url, `SELECT pg_relation_filenode('events')::text || ' ' || pg_relation_filenode('attempts')::text`)

	ctx, stop := context.WithCancel(t.Context())
	written := make(chan int)
	for range 2 {
		go func() {
			n := 0
			for ctx.Err() == nil {
				if err := insert(context.WithoutCancel(ctx), ids.Next()); err != nil {
					t.Errorf("a statement of the version before: %v", err)
					break
				}
				n++
			}
			written <- n
		}()
	}
	s, err := postgres.Open(t.Context(), postgres.Options{URL: url, Sealer: storetest.Sealer()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Prepare(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	stop()
	want := fmt.Sprint(rows + <-written + <-written)
	for _, table := range []string{"events", "attempts", "events_first", "attempts_first"} {
		if got := query(t, url, `SELECT count(*)::text FROM `+table)[0]; got != want {
			t.Errorf("%s has %s rows, want %s", table, got, want)
		}
	}
	moved := query(t, url, `SELECT pg_relation_filenode('events_first')::text || ' ' || pg_relation_filenode('attempts_first')::text`)
	if diff := cmp.Diff(files, moved); diff != "" {
		t.Errorf("the rows were not left in place: %s", diff)
	}
	list, err := s.Events(t.Context(), store.EventFilter{TenantID: 3, Limit: 5})
	if err != nil || len(list) != 5 {
		t.Errorf("%d events are listed, %v", len(list), err)
	}
	// What a failure in the middle would leave behind is taken up again.
	exec(t, url, `DELETE FROM goose_db_version WHERE version_id >= 3`)
	again, err := postgres.Open(t.Context(), postgres.Options{URL: url, Sealer: storetest.Sealer()})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
