package retention_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/retention"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/store/sqlite"
	"github.com/waypost-gateway/waypost/internal/store/storetest"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// gateway is a store with a node that accepts and delivers.
type gateway struct {
	store.Store
	t    testing.TB
	node waypost.NodeID
	ids  *waypost.IDs
	log  *logText
	now  func() time.Time // the clock of what is kept
}

// logText collects log lines.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) count(line string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), line)
}

const (
	endpoint = waypost.EndpointID(7)
	day      = 24 * time.Hour
)

// onBoth runs a test on each database.
func onBoth(t *testing.T, test func(t *testing.T, g *gateway)) {
	t.Helper()
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		s, err := sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir(), Sealer: storetest.Sealer()})
		test(t, begin(t, s, err))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		s, err := postgres.Open(t.Context(), postgres.Options{URL: pgtest.URL(t), Sealer: storetest.Sealer()})
		test(t, begin(t, s, err))
	})
}

func begin(t *testing.T, s store.Store, err error) *gateway {
	t.Helper()
	g := &gateway{Store: s, t: t, log: &logText{}, now: time.Now}
	g.must(err)
	t.Cleanup(func() { g.must(s.Close()) })
	node, slot, floor, err := s.Join(t.Context(), time.Hour, time.Now())
	g.must(err)
	g.node = node
	g.ids, err = waypost.NewIDs(slot, floor, func() time.Time { return g.now() })
	g.must(err)
	return g
}

func (g *gateway) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// accept takes in events that are in the node's hand, with ids of their own or
// new ones.
func (g *gateway) accept(body []byte, ids ...waypost.EventID) []waypost.DeliveryID {
	g.t.Helper()
	batch := make([]store.Arrival, len(ids))
	deliveries := make([]waypost.DeliveryID, len(ids))
	for i, id := range ids {
		if id == 0 {
			id = waypost.EventID(g.ids.Next())
		}
		batch[i] = store.Arrival{
			Event:     waypost.Event{ID: id, Type: "whatsapp.message.text", State: waypost.EventRouted, TenantID: 1, Body: body},
			DedupeKey: fmt.Appendf(nil, "%020d", id),
			Owed:      []store.Owing{{Endpoint: endpoint, Place: store.InHand}},
		}
		deliveries[i] = waypost.DeliveryID{Event: id, Endpoint: endpoint}
	}
	_, err := g.Accept(g.t.Context(), g.node, batch)
	g.must(err)
	return deliveries
}

func (g *gateway) deliver(deliveries ...waypost.DeliveryID) {
	g.t.Helper()
	results := make([]store.Result, len(deliveries))
	for i, id := range deliveries {
		results[i] = store.Result{
			Delivery: id, Next: store.NextDelivered,
			Attempt: &waypost.Attempt{Delivery: id, N: 1, At: time.Now(), Outcome: waypost.OutcomeDelivered, Status: 200},
		}
	}
	_, err := g.Settle(g.t.Context(), g.node, results)
	g.must(err)
}

// fill has settled events come over some days, beginning with a midnight; one in
// fifty stays owed. It gives those.
func (g *gateway) fill(midnight time.Time, days, total int, body []byte) (owed []waypost.DeliveryID) {
	g.t.Helper()
	for d := range days {
		begins := midnight.Add(time.Duration(d) * day)
		g.must(g.Prepare(g.t.Context(), begins))
		var batch []waypost.EventID
		for i := range total / days {
			batch = append(batch, waypost.FirstEventID(begins.Add(time.Duration(i)*day/time.Duration(total/days)))+1)
			if len(batch) == 50 || i == total/days-1 {
				deliveries := g.accept(body, batch...)
				g.deliver(deliveries[1:]...)
				owed = append(owed, deliveries[0])
				batch = batch[:0]
			}
		}
	}
	return owed
}

// run has a keeper at work until the test, or the function it returns, ends it.
func (g *gateway) run(o retention.Options) (k *retention.Keeper, stop func()) {
	g.t.Helper()
	o.Store, o.Now, o.Log = g.Store, func() time.Time { return g.now() }, slog.New(slog.NewTextHandler(g.log, nil))
	o.Every, o.Watch = 20*time.Millisecond, 10*time.Millisecond
	k = retention.New(o)
	k.Prepare(g.t.Context())
	ctx, cancel := context.WithCancel(g.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		g.must(<-ended)
	})
	g.t.Cleanup(stop)
	return k, stop
}

// until waits for a condition.
func (g *gateway) until(what string, holds func() bool) {
	g.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(2 * time.Minute)
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline:
			g.t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (g *gateway) count() int {
	g.t.Helper()
	n := 0
	var before waypost.EventID
	for {
		list, err := g.Events(g.t.Context(), store.EventFilter{TenantID: 1, Before: before})
		g.must(err)
		n += len(list)
		if len(list) < 1000 {
			return n
		}
		before = list[len(list)-1].ID
	}
}

// complete checks that what is owed has all it needs.
func (g *gateway) complete(owed []waypost.DeliveryID) {
	g.t.Helper()
	for _, id := range owed {
		record, err := g.Event(g.t.Context(), id.Event)
		if err != nil || len(record.Body) == 0 {
			g.t.Fatalf("%s is owed, and its event has %d bytes of body: %v", id, len(record.Body), err)
		}
	}
	backlog, err := g.Backlog(g.t.Context(), endpoint, 0)
	if err != nil || backlog.Count != len(owed) {
		g.t.Fatalf("%d are owed, want %d (%v)", backlog.Count, len(owed), err)
	}
}

// midnight is one that is far enough ahead for days with partitions of their own.
func midnight() time.Time { return time.Now().UTC().Truncate(day).Add(4 * day) }

func TestClocks(t *testing.T) {
	onBoth(t, func(t *testing.T, g *gateway) {
		begins := midnight()
		owed := g.fill(begins, 4, 400, []byte("body"))
		young := g.accept([]byte("body"), waypost.FirstEventID(begins.Add(4*day)))
		g.deliver(young...)
		g.now = func() time.Time { return begins.Add(5 * day) }
		g.run(retention.Options{Clocks: retention.Clocks{Bodies: 2 * day, Attempts: 2 * day, Events: 3 * day}})
		g.until("what is old is gone", func() bool {
			record, err := g.Event(t.Context(), waypost.FirstEventID(begins.Add(3*day-day/100))+1)
			return g.count() == 200+len(owed)/2+1 && err == nil && len(record.Body) == 0
		})
		g.complete(owed)
		if record, err := g.Event(t.Context(), young[0].Event); err != nil || len(record.Body) == 0 {
			t.Errorf("a young event: %d bytes, %v", len(record.Body), err)
		}
	})
}

// TestDiskLimit fills the store beyond its limit. Ingest is refused until what is
// settled has made way, and nothing that is owed has.
func TestDiskLimit(t *testing.T) {
	onBoth(t, func(t *testing.T, g *gateway) {
		begins := midnight()
		empty, err := g.Usage(t.Context())
		g.must(err)
		body := make([]byte, 24<<10)
		rand.Read(body)
		owed := g.fill(begins, 4, 1200, body)
		full, err := g.Usage(t.Context())
		g.must(err)
		if grown := full.Used - empty.Used; grown < 1200*24<<10 {
			t.Fatalf("the store has grown by %d bytes only", grown)
		}
		g.now = func() time.Time { return begins.Add(5 * day) }
		limit := empty.Used + (full.Used-empty.Used)*2/3
		k, stop := g.run(retention.Options{DiskLimit: limit})
		g.until("the store is full", func() bool { return g.log.count("there is no room for data") == 1 })
		g.until("there is room", func() bool { return k.Gauges().Level == retention.Calm })
		stop()
		if err := k.Full(); err != nil {
			t.Errorf("with room: %v", err)
		}
		for line, want := range map[string]int{"there is no room for data": 1, "there is room for data again": 1, "WAYPOST_DISK_LIMIT": 1} {
			if got := g.log.count(line); got < want || got > want+1 {
				t.Errorf("%q is logged %d times, want %d", line, got, want)
			}
		}
		g.complete(owed)
		// Oldest first: the youngest have their bodies.
		if record, err := g.Event(t.Context(), waypost.FirstEventID(begins.Add(4*day-day/300))+1); err != nil || len(record.Body) == 0 {
			t.Errorf("the youngest event has %d bytes of body, %v", len(record.Body), err)
		}
		if used := k.Gauges().Used; used > limit*8/10 || used < limit/4 {
			t.Errorf("%d bytes are used of %d", used, limit)
		}
	})
}

// TestFullOfOwed has nothing to forget: all is owed. It refuses, says so once, and
// accepts again when there is room.
func TestFullOfOwed(t *testing.T) {
	onBoth(t, func(t *testing.T, g *gateway) {
		begins := midnight()
		body := make([]byte, 24<<10)
		rand.Read(body)
		g.must(g.Prepare(t.Context(), begins))
		ids := make([]waypost.EventID, 400)
		for i := range ids {
			ids[i] = waypost.FirstEventID(begins) + waypost.EventID(i)
		}
		owed := g.accept(body, ids...)
		usage, err := g.Usage(t.Context())
		g.must(err)
		var later atomic.Int64
		g.now = func() time.Time { return begins.Add(2*day + time.Duration(later.Load())) }
		k, _ := g.run(retention.Options{DiskLimit: usage.Used})
		g.until("it says that nothing can go", func() bool { return g.log.count("all that is settled and older") == 1 })
		if k.Full() == nil {
			t.Error("it accepts")
		}
		g.complete(owed)
		g.deliver(owed...)
		later.Store(int64(time.Hour)) // what was spared is looked at as time goes on
		g.until("there is room", func() bool { return k.Full() == nil })
	})
}

// TestPruningBesideWriting has a writer go on as fast as it can while a backlog of
// old events is forgotten, or their bodies. Pruning has to come to its end all the
// same, and to leave alone what is being written. How fast either is depends on the
// machine: `waypost bench --only growth` measures that.
func TestPruningBesideWriting(t *testing.T) {
	for name, clocks := range map[string]retention.Clocks{
		"all":    {Bodies: day, Attempts: day, Events: day},
		"bodies": {Bodies: day},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, g *gateway) {
				if name == "bodies" && t.Name() != "TestPruningBesideWriting/bodies/sqlite" {
					t.Skip("bodies go by the day there, whole, and not row by row")
				}
				pruneBesideWriting(t, g, clocks)
			})
		})
	}
}

func pruneBesideWriting(t *testing.T, g *gateway, clocks retention.Clocks) {
	const old, batch = 9600, 128
	// What is forgotten while this many times as much is written is starved.
	const starved = 20 * old
	begins := midnight()
	body := make([]byte, 1500)
	g.deliver(g.fill(begins, 1, old, body)...)
	// An hour short of the end of the day, so that no partition goes whole.
	g.now = func() time.Time { return begins.Add(2*day - time.Hour) }
	g.must(g.Prepare(t.Context(), g.now()))
	const pruned = old * 23 / 24
	last := waypost.FirstEventID(begins.Add((pruned-1)*day/old)) + 1 // as fill has made it
	_, err := g.Event(t.Context(), last)
	g.must(err)
	k, stop := g.run(retention.Options{Clocks: clocks})
	var written []waypost.DeliveryID
	for gone := false; !gone; {
		owed := g.accept(body, make([]waypost.EventID, batch)...)
		g.deliver(owed...)
		written = append(written, owed...)
		record, err := g.Event(t.Context(), last)
		gone = waypost.KindOf(err) == waypost.KindNotFound || err == nil && len(record.Body) == 0
		if !gone {
			g.must(err)
		}
		if len(written) > starved {
			t.Fatalf("%d events were written, and %d old ones are not forgotten yet", len(written), pruned)
		}
	}
	stop()
	t.Logf("%d events forgotten while %d were accepted and delivered", pruned, len(written))
	if forgotten := k.Gauges().Forgotten; forgotten < pruned {
		t.Errorf("%d rows are said to be forgotten", forgotten)
	}
	for _, id := range written {
		if record, err := g.Event(t.Context(), id.Event); err != nil || len(record.Body) != len(body) {
			t.Fatalf("%s, just written, has %d bytes of body: %v", id, len(record.Body), err)
		}
	}
}
