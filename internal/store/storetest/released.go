package storetest

import (
	"database/sql"
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

//go:embed testdata/released/*.sql
var releasedFiles embed.FS

// released works on a database as the first released version does, through the
// statements of that version.
type released struct {
	tb       testing.TB
	db       *sql.DB
	postgres bool
	sql      map[string]string
}

func newReleased(tb testing.TB, db *sql.DB, database string) *released {
	tb.Helper()
	r := &released{tb: tb, db: db, postgres: database == "postgres", sql: map[string]string{}}
	for _, file := range []string{"shared", database} {
		text, err := releasedFiles.ReadFile(path.Join("testdata/released", file+".sql"))
		if err != nil {
			tb.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "-- name: ")[1:] {
			name, statement, _ := strings.Cut(part, "\n")
			r.sql[name] = statement
		}
	}
	return r
}

// prepareAll has the database look at every statement.
func (r *released) prepareAll() {
	r.tb.Helper()
	for name, statement := range r.sql {
		if err := r.prepare(statement); err != nil {
			r.tb.Errorf("the released statement %q is no longer valid: %v", name, err)
		}
	}
}

func (r *released) prepare(statement string) error {
	prepared, err := r.db.PrepareContext(r.tb.Context(), statement)
	if err != nil {
		return err
	}
	defer func() { _ = prepared.Close() }()
	return nil
}

// step runs statements in a transaction.
type step struct {
	*released
	tx *sql.Tx
}

func (r *released) do(work func(step)) {
	r.tb.Helper()
	tx, err := r.db.BeginTx(r.tb.Context(), nil)
	if err != nil {
		r.tb.Fatal(err)
	}
	defer tx.Rollback()
	work(step{r, tx})
	if err := tx.Commit(); err != nil {
		r.tb.Fatal(err)
	}
}

func (s step) statement(name string) string {
	s.tb.Helper()
	statement, ok := s.sql[name]
	if !ok {
		s.tb.Fatalf("there is no statement %q", name)
	}
	return statement
}

// exec gives the number of rows changed.
func (s step) exec(name string, args ...any) int64 {
	s.tb.Helper()
	result, err := s.tx.ExecContext(s.tb.Context(), s.statement(name), args...)
	if err != nil {
		s.tb.Fatalf("%s: %v", name, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		s.tb.Fatalf("%s: %v", name, err)
	}
	return n
}

// query gives the first column of the rows, which must be a number.
func (s step) query(name string, args ...any) []int64 {
	s.tb.Helper()
	rows, err := s.tx.QueryContext(s.tb.Context(), s.statement(name), args...)
	if err != nil {
		s.tb.Fatalf("%s: %v", name, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		s.tb.Fatalf("%s: %v", name, err)
	}
	var first []int64
	for rows.Next() {
		row := make([]any, len(columns))
		for i := range row {
			row[i] = new(any)
		}
		var number int64
		row[0] = &number
		if err := rows.Scan(row...); err != nil {
			s.tb.Fatalf("%s: %v", name, err)
		}
		first = append(first, number)
	}
	if err := rows.Err(); err != nil {
		s.tb.Fatalf("%s: %v", name, err)
	}
	return first
}

func (s step) fence(node waypost.NodeID) {
	s.tb.Helper()
	args := []any{int64(node)}
	if !s.postgres {
		args = append(args, time.Now().UnixMilli())
	}
	if len(s.query("lease", args...)) == 0 {
		s.tb.Fatal("the released version lost its lease")
	}
}

func (r *released) join(slot int) (node waypost.NodeID) {
	r.tb.Helper()
	r.do(func(s step) {
		if s.postgres {
			s.exec("table lock")
		}
		now := time.Now()
		s.query("expire", now.Add(-time.Hour).UnixMilli())
		s.query("slots")
		node = waypost.NodeID(s.query("join", slot, now.Add(time.Hour).UnixMilli(), now.UnixMilli())[0])
		s.query("floor")
	})
	return node
}

// renew reports whether the lease was live.
func (r *released) renew(node waypost.NodeID) (live bool) {
	r.tb.Helper()
	r.do(func(s step) {
		now := time.Now()
		live = len(s.query("renew", int64(node), now.Add(time.Hour).UnixMilli(), now.UnixMilli())) == 1
	})
	return live
}

func (r *released) leave(node waypost.NodeID) {
	r.tb.Helper()
	r.do(func(s step) {
		s.query("leave", int64(node))
		s.exec("release node", int64(node), time.Now().UnixMilli())
	})
}

// accept stores an arrival, or counts it as a repeat.
func (r *released) accept(node waypost.NodeID, a store.Arrival) {
	r.tb.Helper()
	r.do(func(s step) {
		s.fence(node)
		if s.postgres {
			s.acceptPostgres(node, a)
		} else {
			s.acceptSQLite(node, a)
		}
	})
}

func (s step) acceptSQLite(node waypost.NodeID, a store.Arrival) {
	s.tb.Helper()
	e := a.Event
	if len(a.DedupeKey) > 0 && s.exec("dedupe", a.DedupeKey, int64(e.ID)) == 0 {
		s.query("claimed", a.DedupeKey, int64(e.ID))
		s.exec("count repeat", s.query("first seen", a.DedupeKey)[0], time.Now().UnixMilli())
		return
	}
	s.exec("store event", int64(e.ID), e.Type, string(e.State), int64(e.TenantID), int64(e.NumberID), int64(e.SourceID),
		e.PhoneNumberID, e.WABAID, e.Conversation, string(e.Form), e.OccurredAt.UnixMilli(), e.Body)
	for _, o := range a.Owed {
		s.exec("store delivery", int64(e.ID), int64(o.Endpoint), hand(node, o), e.ID.Time().UnixMilli(), int64(o.After), 0, 0)
	}
}

func (s step) acceptPostgres(node waypost.NodeID, a store.Arrival) {
	s.tb.Helper()
	e := a.Event
	keys, keyEvents := [][]byte{}, []int64{}
	if len(a.DedupeKey) > 0 {
		keys, keyEvents = append(keys, a.DedupeKey), append(keyEvents, int64(e.ID))
	}
	events, endpoints, nodes, due, after := []int64{}, []int64{}, []int64{}, []int64{}, []int64{}
	for _, o := range a.Owed {
		events = append(events, int64(e.ID))
		endpoints = append(endpoints, int64(o.Endpoint))
		nodes = append(nodes, hand(node, o))
		due = append(due, e.ID.Time().UnixMilli())
		after = append(after, int64(o.After))
	}
	long := func(n int64) []int64 { return []int64{n} }
	text := func(s string) []string { return []string{s} }
	stored := s.query("accept", keys, keyEvents,
		long(int64(e.ID)), text(e.Type), text(string(e.State)), long(int64(e.TenantID)), long(int64(e.NumberID)), long(int64(e.SourceID)),
		text(e.PhoneNumberID), text(e.WABAID), long(e.Conversation), text(string(e.Form)), long(e.OccurredAt.UnixMilli()),
		[][]byte{e.Body}, []bool{len(keys) > 0}, events, endpoints, nodes, due, after)
	if len(stored) == 0 {
		s.exec("count repeats", keys, time.Now().UnixMilli())
	}
}

func hand(node waypost.NodeID, o store.Owing) int64 {
	if o.Place == store.InHand {
		return int64(node)
	}
	return 0
}

// take gives the events taken.
func (r *released) take(node waypost.NodeID, endpoint waypost.EndpointID, now time.Time) (taken []waypost.EventID) {
	r.tb.Helper()
	r.do(func(s step) {
		s.fence(node)
		var ids []int64
		if s.postgres {
			ids = s.query("take", int64(node), int64(endpoint), now.UnixMilli(), 100)
		} else {
			ids = s.query("ready", int64(endpoint), now.UnixMilli(), 100)
		}
		for _, id := range ids {
			if !s.postgres {
				s.exec("hand out", int64(node), id, int64(endpoint))
			}
			taken = append(taken, waypost.EventID(id))
		}
	})
	return taken
}

// settle writes back one result, which must be about a delivery in hand.
func (r *released) settle(node waypost.NodeID, result store.Result) {
	r.tb.Helper()
	r.do(func(s step) {
		s.fence(node)
		detail, err := json.Marshal(&result.Attempt.Detail)
		if err != nil {
			s.tb.Fatal(err)
		}
		if s.postgres {
			s.settlePostgres(node, result, detail)
		} else {
			s.settleSQLite(node, result, detail)
		}
	})
}

func (s step) settleSQLite(node waypost.NodeID, r store.Result, detail []byte) {
	s.tb.Helper()
	event, endpoint, a := int64(r.Delivery.Event), int64(r.Delivery.Endpoint), r.Attempt
	end := a.At.Add(a.Duration).UnixMilli()
	switch r.Next {
	case store.NextRetry:
		s.changes("put off", s.exec("put off", 0, end, r.At.UnixMilli(), r.Step, a.N, event, endpoint, int64(node)))
	case store.NextDelivered:
		s.changes("settle", s.exec("settle", int64(node), event, endpoint))
	case store.NextExhausted:
		s.changes("settle", int64(len(s.query("settle and tell", int64(node), event, endpoint))))
		s.exec("exhaust", endpoint, event, end, string(r.Reason), a.N)
	}
	s.exec("attempt", event, endpoint, a.N, a.At.UnixMilli(), int64(a.Duration), a.Status, string(a.Outcome), string(a.Reason), detail)
	if r.Next != store.NextRetry {
		s.query("waiting", event)
	}
	if r.Next == store.NextDelivered {
		for _, waiting := range s.query("waiting for", event, endpoint) {
			s.exec("release", end, event, waiting)
		}
	}
}

func (s step) settlePostgres(node waypost.NodeID, r store.Result, detail []byte) {
	s.tb.Helper()
	event, endpoint, a := []int64{int64(r.Delivery.Event)}, []int64{int64(r.Delivery.Endpoint)}, r.Attempt
	end, n := []int64{a.At.Add(a.Duration).UnixMilli()}, []int64{int64(a.N)}
	if r.Next == store.NextRetry {
		s.changes("put off", s.exec("put off", int64(node), event, endpoint, []int64{0}, end, []int64{r.At.UnixMilli()}, []int64{int64(r.Step)}, n))
	} else {
		s.changes("remove", s.exec("remove", int64(node), event, endpoint))
	}
	s.exec("attempts", event, endpoint, n, []int64{a.At.UnixMilli()}, []int64{int64(a.Duration)}, []int64{int64(a.Status)},
		[]string{string(a.Outcome)}, []string{string(a.Reason)}, [][]byte{detail})
	switch r.Next {
	case store.NextDelivered:
		s.query("release", event, endpoint, end)
	case store.NextExhausted:
		s.exec("exhaust", event, endpoint, end, []string{string(r.Reason)}, n)
		s.exec("fail waiting", event, endpoint, end, string(waypost.ReasonMainFailed))
	case store.NextRetry:
	}
}

func (s step) changes(what string, n int64) {
	s.tb.Helper()
	if n != 1 {
		s.tb.Fatalf("%s changed %d rows, want 1", what, n)
	}
}

// seal is how the released version kept what is secret of a row.
func (r *released) seal(row, plain string) []byte {
	r.tb.Helper()
	sealed, err := Sealer().Seal([]byte(plain), row)
	if err != nil {
		r.tb.Fatal(err)
	}
	return sealed
}

func (r *released) createEndpoint(tenant waypost.TenantID, id waypost.EndpointID, slot, secret string) {
	r.tb.Helper()
	sealed := r.seal("endpoint:"+id.String(), fmt.Sprintf(
		`{"headers":{"authorization":%q},"options":{"payload":"cloud"},"secrets":[{"value":%q}]}`, secret, secret))
	r.do(func(s step) {
		revision := s.query("revise")[0]
		s.exec("create endpoint", int64(id), int64(tenant), 0, "", "standard", slot, "https://receiver.example/hook",
			`["whatsapp.*"]`, `{"timeout_ns":5000000000}`, sealed, "active", "", 1700000000000, 1700000000000, 0, revision)
	})
}

func (r *released) updateEndpoint(tenant waypost.TenantID, id waypost.EndpointID, url string) {
	r.tb.Helper()
	sealed := r.seal("endpoint:"+id.String(), `{}`)
	r.do(func(s step) {
		revision := s.query("revise")[0]
		s.changes("update endpoint", s.exec("update endpoint", int64(id), int64(tenant), 0, "", "standard", "", url, "null", "{}",
			sealed, "active", "", 1700000000001, 0, revision))
	})
}
