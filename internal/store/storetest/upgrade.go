package storetest

import (
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Database is an empty database on which a test plays versions of the gateway.
type Database struct {
	Kind       string                      // "sqlite" or "postgres"
	DB         *sql.DB                     // a way in beside the store
	Migrations fs.FS                       // has the folder migrations
	Migrate    func(files fs.FS) error     // migrates it as a version with these would
	Open       func() (store.Store, error) // opens the store on it
	Alone      bool                        // opening the store ends the leases of others
}

// upgrade is a first-version database that is filled, migrated and worked on by
// both versions.
type upgrade struct {
	*fixture
	old     *released
	oldNode waypost.NodeID

	key     waypost.Key
	events  map[string]store.Arrival // what was stored, by what became of it
	settled []store.Result
}

// Upgrade fills the database through the first version's own statements, migrates
// it, and checks that nothing changed, that all that is owed is delivered, and
// that nodes of both versions work on it side by side.
func Upgrade(t *testing.T, d Database) {
	t.Helper()
	u := &upgrade{
		fixture: &fixture{tb: t, now: time.Now().UTC().Truncate(time.Millisecond)},
		old:     newReleased(t, d.DB, d.Kind), events: map[string]store.Arrival{},
	}
	files := migrations(t, d)
	u.must(d.Migrate(fstest.MapFS{firstMigration: files[firstMigration]}))
	u.fill()
	before := snapshot(t, d.DB, nil)
	for name, table := range before {
		if len(table.Rows) == 0 {
			t.Fatalf("the table %s is empty", name)
		}
	}
	u.must(d.Migrate(files))
	if diff := cmp.Diff(before, snapshot(t, d.DB, before)); diff != "" {
		t.Fatalf("the migration changed what was there (-before +after):\n%s", diff)
	}
	u.old.prepareAll()
	if t.Failed() {
		return
	}
	u.store = opened(t, d)
	if d.Alone {
		u.oldNode = u.old.join(40)
	}
	u.node, _ = u.join()
	u.checkFilled()
	u.checkTogether()
	u.checkOwed(d.Alone)
}

// fill leaves rows in every table.
func (u *upgrade) fill() {
	u.tb.Helper()
	ids, err := waypost.NewIDs(40, 0, time.Now)
	u.must(err)
	u.ids, u.tenant = ids, waypost.TenantID(ids.Next())
	for range endpointCount {
		u.endpoints = append(u.endpoints, waypost.EndpointID(ids.Next()))
	}
	u.oldNode = u.old.join(40)
	u.fillSettings()
	u.fillEvents()
}

const releasedSecret = "a secret of the first version"

func (u *upgrade) fillSettings() {
	u.tb.Helper()
	number, source := waypost.NumberID(u.ids.Next()), waypost.SourceID(u.ids.Next())
	u.key = waypost.Key{
		ID: waypost.KeyID(u.ids.Next()), Dialect: "whizard", TenantID: u.tenant, NumberID: number,
		Digest: sha256.Sum256([]byte("key")), Account: "acc", CreatedAt: u.now,
	}
	u.old.do(func(s step) {
		s.exec("create tenant", int64(u.tenant), "tenant", "ref", s.seal("tenant:"+u.tenant.String(), `{"secrets":{"360dialog":"`+releasedSecret+`"}}`),
			u.now.UnixMilli(), s.query("revise")[0])
		s.exec("create number", int64(number), int64(u.tenant), "4930123456", "112233", "445566", "", s.seal("number:"+number.String(), `{"access_token":"`+releasedSecret+`"}`),
			"ready", 1000, u.now.UnixMilli(), s.query("revise")[0])
		s.exec("put source", int64(source), "default", "meta", int64(u.tenant), 0, s.seal("source:"+source.String(), `{"secrets":["`+releasedSecret+`"],"verify_token":"v"}`),
			u.now.UnixMilli(), s.query("revise")[0])
		s.exec("create key", int64(u.key.ID), u.key.Dialect, int64(u.tenant), int64(number), u.key.Digest[:], u.key.Account, u.now.UnixMilli(), 0)
		s.exec("set fact", "admin", "digest")
	})
	for _, endpoint := range u.endpoints {
		u.old.createEndpoint(u.tenant, endpoint, "multi:"+endpoint.String(), releasedSecret)
	}
}

func (u *upgrade) fillEvents() {
	u.tb.Helper()
	a, b, c := u.endpoints[0], u.endpoints[1], u.endpoints[2]
	for what, owed := range map[string][]store.Owing{
		"delivered": inHand(a), "exhausted": inHand(a), "put off": inHand(a), "in hand": inHand(a), "free": owing(b),
		"main": {{Endpoint: a}, {Endpoint: c, After: a}}, "unrouted": nil,
	} {
		arrival := u.arrival(owed...)
		arrival.DedupeKey = dedupeKey(7, what)
		if what == "unrouted" {
			arrival.Event.State, arrival.Event.TenantID = waypost.EventUnrouted, 0
		}
		u.events[what] = arrival
		u.old.accept(u.oldNode, arrival)
	}
	repeat := u.arrival()
	repeat.DedupeKey = u.events["delivered"].DedupeKey
	u.old.accept(u.oldNode, repeat)
	u.settled = []store.Result{
		u.delivered(u.id("delivered", a), 1), u.exhausted(u.id("exhausted", a), 1), u.putOff(u.id("put off", a), 1, u.now.Add(time.Millisecond)),
	}
	for _, result := range u.settled {
		u.old.settle(u.oldNode, result)
	}
}

func (u *upgrade) id(what string, endpoint waypost.EndpointID) waypost.DeliveryID {
	return waypost.DeliveryID{Event: u.events[what].Event.ID, Endpoint: endpoint}
}

// checkFilled compares what the present version reads with what the first wrote.
func (u *upgrade) checkFilled() {
	u.tb.Helper()
	a := u.endpoints[0]
	for what, arrival := range u.events {
		u.equal(what, u.stored(arrival.Event.ID).Event, arrival.Event)
	}
	u.equal("repeats", u.stored(u.events["delivered"].Event.ID).Duplicates, 1)
	for i, state := range []waypost.DeliveryState{waypost.DeliveryDelivered, waypost.DeliveryExhausted, waypost.DeliveryPending} {
		result := u.settled[i]
		u.state(result.Delivery.Event, a, state)
		u.equal("attempts", u.attempts(result.Delivery.Event), []waypost.Attempt{*result.Attempt})
	}
	repeat := u.arrival(owing(a)...)
	repeat.DedupeKey = u.events["free"].DedupeKey
	u.equal("receipt", u.accept(repeat)[0], store.Receipt{Event: u.events["free"].Event.ID, Duplicate: true})

	changes, err := u.store.Changes(u.ctx(), 0)
	u.must(err)
	if len(changes.Tenants) != 1 || changes.Tenants[0].Secrets["360dialog"] != releasedSecret ||
		len(changes.Numbers) != 1 || changes.Numbers[0].AccessToken != releasedSecret ||
		len(changes.Sources) != 1 || changes.Sources[0].Secrets[0] != releasedSecret || len(changes.Endpoints) != endpointCount {
		u.tb.Fatal("settings differ from those written")
	}
	for _, e := range changes.Endpoints {
		timeout := 5 * time.Second
		u.equal("endpoint", e, waypost.Endpoint{
			ID: e.ID, TenantID: u.tenant, Dialect: "standard", Slot: "multi:" + e.ID.String(), URL: "https://receiver.example/hook",
			Headers: map[string]waypost.Secret{"authorization": releasedSecret}, Events: []string{"whatsapp.*"},
			Options: map[string]any{"payload": "cloud"}, Policy: waypost.PolicyChange{Timeout: &timeout},
			Secrets: []waypost.SigningSecret{{Value: releasedSecret}}, State: waypost.EndpointActive,
			CreatedAt: time.UnixMilli(1700000000000).UTC(), UpdatedAt: time.UnixMilli(1700000000000).UTC(),
		})
	}
	key, err := u.store.KeyByDigest(u.ctx(), u.key.Dialect, u.key.Digest)
	u.must(err)
	u.equal("key", key, u.key)
	fact, err := u.store.Value(u.ctx(), "admin")
	u.must(err)
	u.equal("fact", fact, "digest")
}

// checkTogether has both versions work at the same time, each on what the other
// wrote.
func (u *upgrade) checkTogether() {
	u.tb.Helper()
	members, err := u.store.Renew(u.ctx(), u.node, time.Hour, time.Now(), 9)
	u.must(err)
	want := []store.Member{{Node: u.oldNode, Seen: -1}, {Node: u.node, Seen: 9}}
	slices.SortFunc(want, func(a, b store.Member) int { return int(a.Node - b.Node) })
	u.equal("members", members, want)
	if !u.old.renew(u.oldNode) {
		u.tb.Fatal("the first version can't renew its lease")
	}

	// Each accepts what the other delivers, and neither takes what is in a hand.
	x := u.endpoint(func(e *waypost.Endpoint) { e.InFlight, e.Drain, e.SkipBefore = 7, waypost.DrainNewest, 5 })
	theirs := u.arrival(owing(x)...)
	held := u.arrival(inHand(x)...)
	u.old.accept(u.oldNode, theirs)
	u.old.accept(u.oldNode, held)
	u.equal("taken from the first version", events(u.take(u.node, x, 10)), []waypost.EventID{theirs.Event.ID})
	mine := u.accepted(owing(x)...)
	mineHeld := u.accepted(inHand(x)...)
	u.equal("taken by the first version", u.old.take(u.oldNode, x, u.later()), []waypost.EventID{mine})
	delivery := func(event waypost.EventID) waypost.DeliveryID { return waypost.DeliveryID{Event: event, Endpoint: x} }
	u.equal("settled", u.settle(u.delivered(delivery(theirs.Event.ID), 1), u.delivered(delivery(mineHeld), 1), u.delivered(delivery(mine), 1)),
		store.Settled{Lost: []int{2}})
	u.old.settle(u.oldNode, u.putOff(delivery(mine), 1, u.now))
	u.old.settle(u.oldNode, u.exhausted(delivery(held.Event.ID), 1))
	u.state(held.Event.ID, x, waypost.DeliveryExhausted)
	u.equal("taken back", events(u.take(u.node, x, 10)), []waypost.EventID{mine})
	u.equal("settled", u.settle(u.delivered(delivery(mine), 2)), store.Settled{})

	// A main delivery of one version's, whose clone is the other's.
	for range 2 {
		event := u.accepted(store.Owing{Endpoint: u.endpoints[0], Place: store.InHand}, store.Owing{Endpoint: x, After: u.endpoints[0]})
		main := waypost.DeliveryID{Event: event, Endpoint: u.endpoints[0]}
		u.settle(store.Result{Delivery: main, Next: store.NextRetry, At: u.now.Add(-time.Hour)})
		u.equal("main", u.old.take(u.oldNode, main.Endpoint, u.now.Add(-time.Minute)), []waypost.EventID{event})
		u.old.settle(u.oldNode, u.delivered(main, 1))
		u.equal("clone", events(u.take(u.node, x, 10)), []waypost.EventID{event})
		u.settle(u.delivered(delivery(event), 1))
	}

	// An edit by the first version leaves alone what it does not know of.
	revision, err := u.store.Revision(u.ctx())
	u.must(err)
	u.old.updateEndpoint(u.tenant, x, "https://moved.example")
	added := waypost.EndpointID(u.ids.Next())
	u.old.createEndpoint(u.tenant, added, "topic:new", releasedSecret)
	changes, err := u.store.Changes(u.ctx(), revision)
	u.must(err)
	if len(changes.Endpoints) != 2 || changes.Endpoints[0].URL != "https://moved.example" || changes.Endpoints[0].InFlight != 7 ||
		changes.Endpoints[0].Drain != waypost.DrainNewest || changes.Endpoints[0].SkipBefore != 5 || changes.Endpoints[1].ID != added {
		u.tb.Fatalf("changes of the first version are %+v", changes.Endpoints)
	}
	u.endpoints = append(u.endpoints, x, added)
}

// checkOwed delivers all that was owed when the migration ran. If the first
// version's node lives on, it does so with what it has in hand.
func (u *upgrade) checkOwed(adopted bool) {
	u.tb.Helper()
	if !adopted {
		u.old.settle(u.oldNode, u.delivered(u.id("in hand", u.endpoints[0]), 1))
	}
	u.old.leave(u.oldNode)
	attempts := map[waypost.EventID]int{u.events["put off"].Event.ID: 1}
	for open := true; open; { // each round releases what waited
		open = false
		for _, endpoint := range u.endpoints {
			for _, owed := range u.take(u.node, endpoint, 100) {
				u.equal("attempts", owed.Attempts, attempts[owed.Event.ID])
				id := waypost.DeliveryID{Event: owed.Event.ID, Endpoint: endpoint}
				u.equal("settled", u.settle(u.delivered(id, owed.Attempts+1)).Lost, []int{})
				open = true
			}
		}
	}
	for _, endpoint := range u.endpoints {
		u.backlog(endpoint, 0)
	}
	for what, arrival := range u.events {
		for _, o := range arrival.Owed {
			want := waypost.DeliveryDelivered
			if what == "exhausted" {
				want = waypost.DeliveryExhausted
			}
			u.state(arrival.Event.ID, o.Endpoint, want)
		}
	}
}

// newestFile is an invented migration, of a version to come.
const newestFile = "migrations/1000000_invented.sql"

const newestMigration = `-- +goose Up
ALTER TABLE deliveries ADD COLUMN invented BIGINT NOT NULL DEFAULT 0;
ALTER TABLE endpoints ADD COLUMN invented TEXT NOT NULL DEFAULT 'something';
ALTER TABLE attempts ADD COLUMN invented BIGINT;
CREATE INDEX endpoints_invented ON endpoints (invented);
CREATE TABLE invented (id BIGINT PRIMARY KEY);
`

// Newer checks how a store meets a database that a version to come has migrated:
// it works on it as long as the floor of that version allows, and leaves it alone
// otherwise.
func Newer(t *testing.T, empty func(*testing.T) Database) {
	t.Helper()
	ahead := func(t *testing.T, contracts string) Database {
		d := empty(t)
		files := migrations(t, d)
		files[newestFile] = &fstest.MapFile{Data: []byte(newestMigration + contracts)}
		if err := d.Migrate(files); err != nil {
			t.Fatal(err)
		}
		return d
	}
	floor := func(version int) string {
		return fmt.Sprintf("INSERT INTO facts (name, value) VALUES ('schema_floor', '%d');", version)
	}
	known := newestKnown(t, empty(t))
	for name, contracts := range map[string]string{"no floor": "", "the first floor": floor(1), "our own floor": floor(known)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := ahead(t, contracts)
			f := begin(t, func(testing.TB) store.Store { return opened(t, d) })
			for _, run := range []func(*fixture){settleDelivered, retryExhausted, settleMany} {
				run(f)
			}
			f.editEndpoint(f.endpoints[0], func(e *waypost.Endpoint) { e.URL = "https://moved.example" })
		})
	}
	t.Run("a floor above ours", func(t *testing.T) {
		t.Parallel()
		d := ahead(t, floor(known+1))
		before := snapshot(t, d.DB, nil)
		s, err := d.Open()
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "newer Waypost") || !strings.Contains(err.Error(), fmt.Sprint(known+1)) {
			t.Fatalf("error is %v, want a refusal", err)
		}
		if diff := cmp.Diff(before, snapshot(t, d.DB, nil)); diff != "" {
			t.Fatalf("the refused database was changed (-before +after):\n%s", diff)
		}
	})
}

func opened(tb testing.TB, d Database) store.Store {
	tb.Helper()
	s, err := d.Open()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

const firstMigration = "migrations/00001_init.sql"

// migrations are all there are.
func migrations(tb testing.TB, d Database) fstest.MapFS {
	tb.Helper()
	names, err := fs.Glob(d.Migrations, "migrations/*.sql")
	if err != nil {
		tb.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, name := range names {
		text, err := fs.ReadFile(d.Migrations, name)
		if err != nil {
			tb.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	return files
}

// newestKnown is the version up to which the store knows the schema.
func newestKnown(tb testing.TB, d Database) (version int) {
	tb.Helper()
	for name := range migrations(tb, d) {
		number, _, _ := strings.Cut(path.Base(name), "_")
		n, err := strconv.Atoi(number)
		if err != nil {
			tb.Fatal(err)
		}
		version = max(version, n)
	}
	return version
}

// firstTables are those of the first version.
var firstTables = []string{
	"events", "dedupe", "duplicates", "deliveries", "attempts", "exhausted", "nodes",
	"settings_revision", "facts", "tenants", "numbers", "sources", "keys", "endpoints",
}

// table is what is in one, as text.
type table struct {
	Columns []string
	Rows    []string
}

// snapshot reads the first version's tables, with the columns they had before.
func snapshot(tb testing.TB, db *sql.DB, before map[string]table) map[string]table {
	tb.Helper()
	tables := map[string]table{}
	for _, name := range firstTables {
		columns := "*"
		if t, known := before[name]; known {
			columns = strings.Join(t.Columns, ", ")
		}
		rows, err := db.QueryContext(tb.Context(), "SELECT "+columns+" FROM "+name)
		if err != nil {
			tb.Fatal(err)
		}
		t, err := readTable(rows)
		if err != nil {
			tb.Fatalf("read table %s: %v", name, err)
		}
		tables[name] = t
	}
	return tables
}

func readTable(rows *sql.Rows) (table, error) {
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return table{}, err
	}
	t := table{Columns: columns}
	for rows.Next() {
		row := make([]any, len(columns))
		for i := range row {
			row[i] = new(any)
		}
		if err := rows.Scan(row...); err != nil {
			return table{}, err
		}
		for i := range row {
			row[i] = *row[i].(*any)
		}
		t.Rows = append(t.Rows, fmt.Sprintf("%q", row))
	}
	slices.Sort(t.Rows)
	return t, rows.Err()
}
