// Package storetest checks what every store.Store must hold.
//
// Run takes a function that opens one. It gives an empty store the first time it
// is called for a test, and the same database again each further time, so that
// the suite can see what is left after Close. A database that several processes
// may share is also opened twice at once by the package's own tests.
//
// The heart of the suite is one sentence: each delivery is owed, in a hand, or
// settled, and never none of them, whatever happens and in whatever order.
// The model tries that with random histories.
package storetest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Run checks a store.
func Run(t *testing.T, open func(tb testing.TB) store.Store) {
	t.Helper()
	if os.Getenv("WAYPOST_FAULTS") != "long" {
		// Histories are many statements each, and SQLite under the race detector is slow.
		if err := flag.Set("rapid.checks", "20"); err != nil {
			t.Fatal(err)
		}
	}
	for _, area := range []struct {
		name  string
		tests []test
	}{
		{"accept", acceptTests},
		{"take", takeTests},
		{"settle", settleTests},
		{"earlier", earlierTests},
		{"waiting", waitingTests},
		{"nodes", nodeTests},
		{"retry", retryTests},
		{"log", logTests},
		{"retention", retentionTests},
		{"settings", settingsTests},
		{"audit", auditTests},
		{"model", modelTests},
		{"life", lifeTests},
	} {
		t.Run(area.name, func(t *testing.T) {
			t.Parallel()
			for _, one := range area.tests {
				t.Run(one.name, func(t *testing.T) {
					t.Parallel()
					one.run(begin(t, open))
				})
			}
		})
	}
}

type test struct {
	name string
	run  func(*fixture)
}

// fixture is an open store with a node, a tenant and a few endpoints.
type fixture struct {
	tb        testing.TB
	open      func(testing.TB) store.Store
	store     store.Store
	node      waypost.NodeID
	ids       *waypost.IDs
	tenant    waypost.TenantID
	now       time.Time
	endpoints []waypost.EndpointID
}

const endpointCount = 3

func begin(tb testing.TB, open func(testing.TB) store.Store) *fixture {
	tb.Helper()
	f := &fixture{tb: tb, open: open, store: open(tb), now: time.Now().UTC().Truncate(time.Millisecond)}
	var slot int
	f.node, slot = f.join()
	ids, err := waypost.NewIDs(slot, 0, time.Now)
	f.must(err)
	f.ids = ids
	f.tenant = waypost.TenantID(ids.Next())
	f.must(f.store.CreateTenant(f.ctx(), waypost.Tenant{ID: f.tenant, Name: "tenant", CreatedAt: f.now}))
	for range endpointCount {
		f.endpoints = append(f.endpoints, f.endpoint(func(*waypost.Endpoint) {}))
	}
	return f
}

func (f *fixture) ctx() context.Context { return f.tb.Context() }

func (f *fixture) must(err error) {
	f.tb.Helper()
	if err != nil {
		f.tb.Fatal(err)
	}
}

func (f *fixture) equal(what string, got, want any) {
	f.tb.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		f.tb.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func (f *fixture) kind(err error, want waypost.Kind) {
	f.tb.Helper()
	if err == nil || waypost.KindOf(err) != want {
		f.tb.Fatalf("error %v is of kind %d, want %d", err, waypost.KindOf(err), want)
	}
}

func (f *fixture) leaseLost(err error) {
	f.tb.Helper()
	if !errors.Is(err, store.ErrLeaseLost) {
		f.tb.Fatalf("error is %v, want %v", err, store.ErrLeaseLost)
	}
}

// join makes a node whose lease does not run out by itself.
func (f *fixture) join() (waypost.NodeID, int) {
	f.tb.Helper()
	node, slot, _, err := f.store.Join(f.ctx(), time.Hour, time.Now())
	f.must(err)
	return node, slot
}

// expire lets a node's lease run out at once.
func (f *fixture) expire(node waypost.NodeID) {
	f.tb.Helper()
	_, err := f.store.Renew(f.ctx(), node, -time.Second, time.Now(), 0)
	f.must(err)
}

func (f *fixture) endpoint(change func(*waypost.Endpoint)) waypost.EndpointID {
	f.tb.Helper()
	e := waypost.Endpoint{
		ID: waypost.EndpointID(f.ids.Next()), TenantID: f.tenant, Dialect: "standard",
		URL: "https://receiver.example/hook", State: waypost.EndpointActive, CreatedAt: f.now, UpdatedAt: f.now,
	}
	change(&e)
	f.must(f.store.CreateEndpoint(f.ctx(), e))
	return e.ID
}

func (f *fixture) editEndpoint(id waypost.EndpointID, edit func(*waypost.Endpoint)) {
	f.tb.Helper()
	_, err := f.store.UpdateEndpoint(f.ctx(), id, func(e *waypost.Endpoint) error {
		edit(e)
		return nil
	})
	f.must(err)
}

// event is a complete one, so that a column which is not stored shows.
func (f *fixture) event() waypost.Event {
	id := waypost.EventID(f.ids.Next())
	return waypost.Event{
		ID: id, Type: "whatsapp.message.text", State: waypost.EventRouted,
		TenantID: f.tenant, NumberID: 12, SourceID: 13,
		PhoneNumberID: "1234567890", WABAID: "9876543210", Conversation: -77,
		Form: waypost.FormCloud, Body: fmt.Appendf(nil, `{"object":"whatsapp_business_account","n":%d}`, id),
		OccurredAt: f.now.Add(-time.Minute),
	}
}

func (f *fixture) arrival(owed ...store.Owing) store.Arrival {
	return store.Arrival{Event: f.event(), Owed: owed}
}

func owing(endpoints ...waypost.EndpointID) []store.Owing {
	owed := make([]store.Owing, len(endpoints))
	for i, id := range endpoints {
		owed[i].Endpoint = id
	}
	return owed
}

func inHand(endpoints ...waypost.EndpointID) []store.Owing {
	owed := owing(endpoints...)
	for i := range owed {
		owed[i].Place = store.InHand
	}
	return owed
}

func (f *fixture) accept(batch ...store.Arrival) []store.Receipt {
	f.tb.Helper()
	receipts, err := f.store.Accept(f.ctx(), f.node, batch)
	f.must(err)
	if len(receipts) != len(batch) {
		f.tb.Fatalf("%d receipts for %d arrivals", len(receipts), len(batch))
	}
	return receipts
}

// accepted accepts one event and gives its id.
func (f *fixture) accepted(owed ...store.Owing) waypost.EventID {
	f.tb.Helper()
	return f.accept(f.arrival(owed...))[0].Event
}

// later is a time at which all that is accepted now is due.
func (f *fixture) later() time.Time { return time.Now().Add(time.Minute) }

func (f *fixture) take(node waypost.NodeID, endpoint waypost.EndpointID, limit int) []store.Owed {
	f.tb.Helper()
	taken, err := f.store.Take(f.ctx(), node, endpoint, f.later(), limit, store.OldestDue)
	f.must(err)
	return taken
}

func (f *fixture) settle(results ...store.Result) store.Settled {
	f.tb.Helper()
	settled, err := f.store.Settle(f.ctx(), f.node, results)
	f.must(err)
	return settled
}

func (f *fixture) delivery(event waypost.EventID, endpoint waypost.EndpointID) waypost.Delivery {
	f.tb.Helper()
	d, err := f.store.Delivery(f.ctx(), waypost.DeliveryID{Event: event, Endpoint: endpoint})
	f.must(err)
	return d
}

func (f *fixture) state(event waypost.EventID, endpoint waypost.EndpointID, want waypost.DeliveryState) {
	f.tb.Helper()
	if got := f.delivery(event, endpoint).State; got != want {
		f.tb.Fatalf("delivery is %s, want %s", got, want)
	}
}

func (f *fixture) backlog(endpoint waypost.EndpointID, want int) {
	f.tb.Helper()
	got, err := f.store.Backlog(f.ctx(), endpoint, 0)
	f.must(err)
	if got.Count != want {
		f.tb.Fatalf("backlog is %d, want %d", got.Count, want)
	}
}

// attempt is the nth request for a delivery, as it might have gone.
func (f *fixture) attempt(id waypost.DeliveryID, n int, outcome waypost.Outcome) *waypost.Attempt {
	a := &waypost.Attempt{
		Delivery: id, N: n, At: f.now.Add(time.Duration(n) * time.Second), Duration: 1234567 * time.Nanosecond,
		Status: 503, Outcome: outcome, Reason: waypost.ReasonStatus,
		Detail: waypost.AttemptDetail{
			Error: "status 503", Address: "192.0.2.1:443", Reused: true,
			Phases:   waypost.Phases{Connected: 1.5, Sent: 2, FirstByte: 3.25},
			Headers:  map[string]string{"retry-after": "120"},
			Response: "no \x00 service \u00e9",
		},
	}
	if outcome == waypost.OutcomeDelivered {
		a.Status, a.Reason = 200, waypost.ReasonOK
	}
	return a
}

func (f *fixture) delivered(id waypost.DeliveryID, n int) store.Result {
	return store.Result{Delivery: id, Next: store.NextDelivered, Attempt: f.attempt(id, n, waypost.OutcomeDelivered)}
}

func (f *fixture) exhausted(id waypost.DeliveryID, n int) store.Result {
	return store.Result{
		Delivery: id, Next: store.NextExhausted, Reason: waypost.ReasonStatus,
		Attempt: f.attempt(id, n, waypost.OutcomeExhausted),
	}
}

func (f *fixture) putOff(id waypost.DeliveryID, n int, at time.Time) store.Result {
	return store.Result{
		Delivery: id, Next: store.NextRetry, At: at, Step: n,
		Attempt: f.attempt(id, n, waypost.OutcomeRetry),
	}
}

func dedupeKey(second uint32, identity string) []byte {
	digest := sha256.Sum256([]byte(identity))
	return append(binary.BigEndian.AppendUint32(nil, second), digest[:16]...)
}

// Sealer is a store.Sealer for tests, under a key that all of a process share.
func Sealer() store.Sealer { return sealer{} }

type sealer struct{}

var sealerKey = sha256.Sum256([]byte("a key for tests"))

func (sealer) gcm() (cipher.AEAD, error) {
	block, err := aes.NewCipher(sealerKey[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (s sealer) Seal(plain []byte, context string) ([]byte, error) {
	gcm, err := s.gcm()
	if err != nil {
		return nil, err
	}
	return gcm.Seal(nil, nil, plain, []byte(context)), nil
}

func (s sealer) Open(sealed []byte, context string) ([]byte, error) {
	gcm, err := s.gcm()
	if err != nil {
		return nil, err
	}
	return gcm.Open(nil, nil, sealed, []byte(context))
}

// PlantSecrets writes settings of every kind whose secrets hold the returned
// text, so that the caller can look for it in the database itself.
func PlantSecrets(tb testing.TB, s store.Store) string {
	tb.Helper()
	f := &fixture{tb: tb, store: s, now: time.Now()}
	ids, err := waypost.NewIDs(1000, 0, time.Now)
	f.must(err)
	f.ids, f.tenant = ids, waypost.TenantID(ids.Next())
	planted := "planted-" + rand.Text()
	secret := waypost.Secret(planted)
	f.must(s.CreateTenant(f.ctx(), waypost.Tenant{ID: f.tenant, Name: "visible name", Secrets: map[string]waypost.Secret{"360dialog": secret}}))
	f.must(s.CreateNumber(f.ctx(), waypost.Number{ID: waypost.NumberID(ids.Next()), TenantID: f.tenant, AccessToken: secret}))
	f.must(s.PutSource(f.ctx(), waypost.Source{
		ID: waypost.SourceID(ids.Next()), Name: "planted", Kind: waypost.SourceMeta,
		Secrets: []waypost.Secret{secret}, VerifyToken: secret,
	}))
	f.endpoint(func(e *waypost.Endpoint) {
		e.Headers = map[string]waypost.Secret{"authorization": "Bearer " + secret}
		e.Options = map[string]any{"secret": planted}
		e.Secrets = []waypost.SigningSecret{{Value: secret}}
	})
	changes, err := s.Changes(f.ctx(), 0)
	f.must(err)
	if len(changes.Endpoints) != 1 || changes.Endpoints[0].Secrets[0].Value != secret {
		tb.Fatal("the planted secret does not come back")
	}
	return planted
}
