package postgres_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const endpoint = waypost.EndpointID(7)

// member is a node on a store.
type member struct {
	*postgres.Store
	t    *testing.T
	node waypost.NodeID
	ids  *waypost.IDs
	now  func() time.Time
}

func join(t *testing.T, url string) *member {
	t.Helper()
	return joinAt(t, url, time.Now)
}

// joinAt makes a member with a clock of its own.
func joinAt(t *testing.T, url string, now func() time.Time) *member {
	t.Helper()
	m := &member{Store: openAt(t, url, now), t: t, now: now}
	node, slot, floor, err := m.Join(t.Context(), time.Hour, now())
	if err != nil {
		t.Fatal(err)
	}
	if m.ids, err = waypost.NewIDs(slot, floor, now); err != nil {
		t.Fatal(err)
	}
	m.node = node
	return m
}

func (m *member) arrival(place store.Place) store.Arrival {
	id := waypost.EventID(m.ids.Next())
	return store.Arrival{
		Event:     waypost.Event{ID: id, State: waypost.EventRouted, Body: []byte("body")},
		DedupeKey: []byte(id.String()),
		Owed:      []store.Owing{{Endpoint: endpoint, Place: place}},
	}
}

func (m *member) accept(arrival store.Arrival) (store.Receipt, error) {
	receipts, err := m.Accept(m.t.Context(), m.node, []store.Arrival{arrival})
	if err != nil {
		return store.Receipt{}, err
	}
	return receipts[0], nil
}

func (m *member) take() []waypost.EventID {
	m.t.Helper()
	taken, err := m.Take(m.t.Context(), m.node, endpoint, time.Now().Add(time.Minute), 1000, store.OldestDue)
	if err != nil {
		m.t.Fatal(err)
	}
	ids := make([]waypost.EventID, len(taken))
	for i := range taken {
		ids[i] = taken[i].Event.ID
	}
	return ids
}

func (m *member) renew() {
	m.t.Helper()
	if _, err := m.Renew(m.t.Context(), m.node, time.Hour, time.Now(), 0); err != nil {
		m.t.Fatal(err)
	}
}

func unavailable(t *testing.T, err error) {
	t.Helper()
	if err == nil || waypost.KindOf(err) != waypost.KindUnavailable {
		t.Fatalf("error is %v, want one of kind unavailable", err)
	}
}

// TestAcceptWithoutAnswer loses the answer to a commit that took place. The node
// is told that it failed, so what it was to start must come free again.
func TestAcceptWithoutAnswer(t *testing.T) {
	t.Parallel()
	proxy := startProxy(t, pgtest.URL(t))
	m := join(t, proxy.url)
	arrival := m.arrival(store.InHand)
	proxy.cut.Store(true)
	_, err := m.accept(arrival)
	unavailable(t, err)

	if taken := m.take(); len(taken) > 0 {
		t.Fatalf("took %v, which should be in a hand: the commit did not take place", taken)
	}
	receipt, err := m.accept(arrival)
	if want := (store.Receipt{Event: arrival.Event.ID, Duplicate: true}); err != nil || receipt != want {
		t.Fatalf("receipt %+v, %v; want %+v", receipt, err, want)
	}
	m.renew()
	if taken := m.take(); !slices.Equal(taken, []waypost.EventID{arrival.Event.ID}) {
		t.Fatalf("took %v, want what was in doubt", taken)
	}
	m.renew()
	if taken := m.take(); len(taken) > 0 {
		t.Fatalf("took %v again", taken)
	}
}

// TestTakeWithoutAnswer is the same for a take.
func TestTakeWithoutAnswer(t *testing.T) {
	t.Parallel()
	proxy := startProxy(t, pgtest.URL(t))
	m := join(t, proxy.url)
	arrival := m.arrival(store.InTable)
	if _, err := m.accept(arrival); err != nil {
		t.Fatal(err)
	}
	proxy.cut.Store(true)
	_, err := m.Take(t.Context(), m.node, endpoint, time.Now().Add(time.Minute), 10, store.OldestDue)
	unavailable(t, err)
	if taken := m.take(); len(taken) > 0 {
		t.Fatalf("took %v, which should be in a hand", taken)
	}
	m.renew()
	if taken := m.take(); !slices.Equal(taken, []waypost.EventID{arrival.Event.ID}) {
		t.Fatalf("took %v, want what was in doubt", taken)
	}
}

// TestCrash kills a server that syncs to disk while events are accepted. What
// was acknowledged is there afterwards, and the store goes on by itself.
func TestCrash(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, true)
	m := join(t, cluster.URL())
	enough := make(chan struct{})
	acknowledged := make(chan []waypost.EventID)
	go func() {
		var ids []waypost.EventID
		for {
			arrival := m.arrival(store.InHand)
			if _, err := m.accept(arrival); err != nil {
				if kind := waypost.KindOf(err); kind != waypost.KindUnavailable {
					t.Errorf("error is %v, of kind %d", err, kind)
				}
				acknowledged <- ids
				return
			}
			if ids = append(ids, arrival.Event.ID); len(ids) == 50 {
				close(enough)
			}
		}
	}()
	<-enough
	cluster.Kill(t)
	ids := <-acknowledged
	unavailable(t, m.Ping(t.Context()))

	cluster.Restart(t)
	for _, id := range ids {
		if _, err := m.Event(t.Context(), id); err != nil {
			t.Fatalf("an acknowledged event: %v", err)
		}
	}
	if _, err := m.accept(m.arrival(store.InHand)); err != nil {
		t.Fatal(err)
	}
	if err := m.Leave(t.Context(), m.node, time.Now()); err != nil {
		t.Fatal(err)
	}
	next := join(t, cluster.URL())
	if taken := next.take(); len(taken) < len(ids)+1 {
		t.Fatalf("%d deliveries are due, want %d at least", len(taken), len(ids)+1)
	}
	// Notices come again too: each try may still be before the listener is back.
	deadline := time.After(30 * time.Second)
	for heard := false; !heard; {
		if err := m.SetValue(t.Context(), "x", "y"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-m.Notices():
			heard = true
		case <-time.After(200 * time.Millisecond):
		case <-deadline:
			t.Fatal("no notice after the crash")
		}
	}
}

// TestTwoProcesses shares a database between two stores.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	first, second := join(t, url), join(t, url)
	if first.node == second.node {
		t.Fatal("both have the same node id")
	}
	arrival := first.arrival(store.InHand)
	if _, err := first.accept(arrival); err != nil {
		t.Fatal(err)
	}
	repeat := arrival
	repeat.Event.ID = waypost.EventID(second.ids.Next())
	receipt, err := second.accept(repeat)
	if want := (store.Receipt{Event: arrival.Event.ID, Duplicate: true}); err != nil || receipt != want {
		t.Fatalf("receipt %+v, %v; want %+v", receipt, err, want)
	}
	if taken := second.take(); len(taken) > 0 {
		t.Fatalf("took %v out of the other's hand", taken)
	}
	// The first process stops renewing; the second takes over.
	if _, err := first.Renew(t.Context(), first.node, -time.Second, time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := second.Adopt(t.Context(), time.Now()); err != nil || n != 1 {
		t.Fatalf("adopted %d, %v", n, err)
	}
	if taken := second.take(); !slices.Equal(taken, []waypost.EventID{arrival.Event.ID}) {
		t.Fatalf("took %v, want what was adopted", taken)
	}
	id := waypost.DeliveryID{Event: arrival.Event.ID, Endpoint: endpoint}
	late := store.Result{Delivery: id, Next: store.NextDelivered, Attempt: &waypost.Attempt{Delivery: id, N: 1}}
	if _, err := first.Settle(t.Context(), first.node, []store.Result{late}); !errors.Is(err, store.ErrLeaseLost) {
		t.Fatalf("error is %v, want %v", err, store.ErrLeaseLost)
	}
	settled, err := second.Settle(t.Context(), second.node, []store.Result{late})
	if err != nil || len(settled.Lost) > 0 {
		t.Fatalf("settled %+v, %v", settled, err)
	}
}

// TestAdoptWaitsForAccept has a lease run out while its node is in the middle of
// an accept. Whoever adopts must wait for that one, or what it puts in the dead
// node's hand would stay there for good. Renewing need not wait.
func TestAdoptWaitsForAccept(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	first, second := join(t, url), join(t, url)
	arrival := first.arrival(store.InHand)

	// Another transaction has the dedupe key, so that the accept has to wait.
	blocker, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blocker.Close(t.Context()) }()
	tx, err := blocker.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO dedupe (key, event_id) VALUES ($1, 1)`, arrival.DedupeKey); err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := first.accept(arrival)
		accepted <- err
	}()
	awaitBlocked(t, url, 1)
	if _, err := first.Renew(t.Context(), first.node, -time.Second, time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	adopted := make(chan int, 1)
	go func() {
		n, err := second.Adopt(t.Context(), time.Now())
		if err != nil {
			t.Error(err)
		}
		adopted <- n
	}()
	awaitBlocked(t, url, 2)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	if n := <-adopted; n != 1 {
		t.Fatalf("adopted %d deliveries, want the one just accepted", n)
	}
	if taken := second.take(); !slices.Equal(taken, []waypost.EventID{arrival.Event.ID}) {
		t.Fatalf("took %v, want what was adopted", taken)
	}
}

// awaitBlocked waits until so many sessions of the database wait for a lock.
func awaitBlocked(t *testing.T, url string, want int) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		blocked := query(t, url, `
SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
		if len(blocked) == want {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%d sessions wait for a lock, want %d", len(blocked), want)
		}
	}
}

// proxy stands between a store and the server.
type proxy struct {
	url string
	cut atomic.Bool // lose the answer to the next commit, and the connection with it
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	config, err := pgx.ParseConfig(target)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	address := url.URL{
		Scheme: "postgres", Host: listener.Addr().String(), Path: "/" + config.Database,
		User: url.UserPassword(config.User, config.Password), RawQuery: "sslmode=disable",
	}
	p := &proxy{url: address.String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			network, address := pgconn.NetworkAddress(config.Host, config.Port)
			server, err := net.Dial(network, address)
			if err != nil {
				t.Error(fmt.Errorf("dial server: %w", err))
				_ = client.Close()
				return
			}
			go p.serve(client, server)
		}
	}()
	return p
}

func (p *proxy) serve(client, server net.Conn) {
	defer func() { _ = client.Close() }()
	defer func() { _ = server.Close() }()
	var deaf atomic.Bool
	done := make(chan struct{})
	go func() { // what the server says
		defer close(done)
		defer func() { _ = client.Close() }()
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer)
			if err != nil {
				return
			}
			if deaf.Load() {
				return // the server has answered, so it has committed
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		cut := bytes.Contains(buffer[:n], []byte("COMMIT")) && p.cut.CompareAndSwap(true, false)
		deaf.Store(cut)
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
		if cut {
			<-done
			return
		}
	}
}

// TestCrashAfterSettling: a node forgets what it has settled, and its lease outlives a
// quick restart of the server. What was settled once came back into its hand, where
// nobody looked at it again, and what waited for it waited for ever.
func TestCrashAfterSettling(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, true)
	m := join(t, cluster.URL())
	var last waypost.DeliveryID
	for range 20 {
		arrival := m.arrival(store.InHand)
		if _, err := m.accept(arrival); err != nil {
			t.Fatal(err)
		}
		last = waypost.DeliveryID{Event: arrival.Event.ID, Endpoint: endpoint}
		settled, err := m.Settle(t.Context(), m.node, []store.Result{{
			Delivery: last, Next: store.NextDelivered,
			Attempt: &waypost.Attempt{Delivery: last, N: 1, At: time.Now(), Status: 200, Outcome: waypost.OutcomeDelivered, Reason: waypost.ReasonOK},
		}})
		if err != nil || len(settled.Lost) > 0 {
			t.Fatalf("settled %+v, %v", settled, err)
		}
	}
	cluster.Kill(t)
	cluster.Restart(t)
	within(t, func() bool { return m.Ping(t.Context()) == nil })
	d, err := m.Delivery(t.Context(), last)
	if err != nil || d.State != waypost.DeliveryDelivered {
		t.Fatalf("after the crash it is %+v, %v; want it delivered", d, err)
	}
}

func within(t *testing.T, holds func() bool) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain")
		}
	}
}
