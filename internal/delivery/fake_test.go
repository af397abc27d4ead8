package delivery

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// table is an in-memory store.Queue with leases, claims and fencing.
type table struct {
	tb        testing.TB
	mu        sync.Mutex
	node      waypost.NodeID            // the one with a lease
	leases    map[waypost.NodeID]*lease // where there are several
	lastNode  waypost.NodeID
	rows      map[waypost.DeliveryID]*row
	done      map[waypost.DeliveryID]waypost.Reason // "": delivered
	attempts  map[waypost.DeliveryID][]waypost.Attempt
	down      error
	poison    waypost.DeliveryID // Settle fails with an unclassed error while a batch holds its details
	onTake    func(limit int)
	taken     int
	drops     int
	nextEvent waypost.EventID
	waiting   map[waypost.DeliveryID][]waypost.DeliveryID // by what is waited for
	wall      func() time.Time
}

// lease is one of several, by bubble time.
type lease struct {
	until time.Time
	seen  waypost.NodeID
}

func (q *table) live(node waypost.NodeID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.holds(node)
}

func (q *table) holds(node waypost.NodeID) bool {
	l := q.leases[node]
	return node == q.node || l != nil && time.Now().Before(l.until)
}

// joinAs adds a node.
func (q *table) joinAs(ttl time.Duration) (id waypost.NodeID, slot int) {
	q.adopt()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lastNode++
	q.leases[q.lastNode] = &lease{until: time.Now().Add(ttl)}
	return q.lastNode, int(q.lastNode % 1024)
}

func (q *table) renew(id waypost.NodeID, ttl time.Duration, seen waypost.NodeID) ([]store.Member, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.holds(id) {
		return nil, store.ErrLeaseLost
	}
	*q.leases[id] = lease{until: time.Now().Add(ttl), seen: seen}
	var members []store.Member
	for node, l := range q.leases {
		if q.holds(node) {
			members = append(members, store.Member{Node: node, Seen: l.seen})
		}
	}
	slices.SortFunc(members, func(a, b store.Member) int { return cmp.Compare(a.Node, b.Node) })
	return members, nil
}

func (q *table) leave(id waypost.NodeID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.leases, id)
	q.free(func(node waypost.NodeID) bool { return node == id })
}

func (q *table) adopt() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	maps.DeleteFunc(q.leases, func(id waypost.NodeID, _ *lease) bool { return !q.holds(id) })
	return q.free(func(node waypost.NodeID) bool { return q.leases[node] == nil })
}

// free makes due what is in the hands of nodes.
func (q *table) free(of func(waypost.NodeID) bool) (n int) {
	for _, r := range q.rows {
		if r.node != 0 && of(r.node) {
			r.node, r.due = 0, q.wall()
			n++
		}
	}
	return n
}

type row struct {
	event          *waypost.Event
	node           waypost.NodeID
	due            time.Time
	attempts, step int
	after          waypost.EndpointID
}

func newTable(tb testing.TB) *table {
	tb.Helper()
	return &table{
		tb: tb, node: 1, wall: time.Now,
		rows:     map[waypost.DeliveryID]*row{},
		done:     map[waypost.DeliveryID]waypost.Reason{},
		attempts: map[waypost.DeliveryID][]waypost.Attempt{},
		waiting:  map[waypost.DeliveryID][]waypost.DeliveryID{},
	}
}

func (q *table) Take(_ context.Context, node waypost.NodeID, endpoint waypost.EndpointID, now time.Time, limit int, order store.Order) ([]store.Owed, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.refuses(node); err != nil {
		return nil, err
	}
	if q.onTake != nil {
		q.onTake(limit)
	}
	var due []waypost.DeliveryID
	for id, r := range q.rows {
		if id.Endpoint == endpoint && r.node == 0 && r.after == 0 && !r.due.After(now) {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b waypost.DeliveryID) int {
		if order == store.NewestEvent {
			return cmp.Compare(b.Event, a.Event)
		}
		return cmp.Or(q.rows[a].due.Compare(q.rows[b].due), cmp.Compare(a.Event, b.Event))
	})
	var owed []store.Owed
	for _, id := range due[:min(len(due), limit)] {
		r := q.rows[id]
		r.node = node
		owed = append(owed, store.Owed{Event: r.event, Endpoint: endpoint, Attempts: r.attempts, Step: r.step})
	}
	q.taken += len(owed)
	return owed, nil
}

func (q *table) refuses(node waypost.NodeID) error {
	if q.down != nil {
		return q.down
	}
	if !q.holds(node) {
		return store.ErrLeaseLost
	}
	return nil
}

func (q *table) Due(context.Context) ([]store.Due, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down != nil {
		return nil, q.down
	}
	first := map[waypost.EndpointID]time.Time{}
	for id, r := range q.rows {
		at, seen := first[id.Endpoint]
		if r.node == 0 && r.after == 0 && (!seen || r.due.Before(at)) {
			first[id.Endpoint] = r.due
		}
	}
	var due []store.Due
	for id, at := range first {
		due = append(due, store.Due{Endpoint: id, At: at})
	}
	return due, nil
}

func (q *table) Settle(_ context.Context, node waypost.NodeID, results []store.Result) (settled store.Settled, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.refuses(node); err != nil {
		return settled, err
	}
	seen := map[waypost.DeliveryID]bool{}
	for _, r := range results {
		if seen[r.Delivery] && !r.Earlier { // several from earlier leases are written in their order
			q.tb.Errorf("two results of %s in one batch", r.Delivery)
		}
		seen[r.Delivery] = true
		if r.Delivery == q.poison && r.Attempt != nil && r.Attempt.Detail.Address != "" {
			return settled, errors.New("invalid byte sequence")
		}
	}
	for i, r := range results {
		in := q.rows[r.Delivery]
		if r.Earlier {
			if in == nil || in.node != 0 || in.attempts != r.Attempt.N-1 {
				settled.Lost = append(settled.Lost, i)
				continue
			}
			r.InHand = false
		} else if in == nil || in.node != node {
			settled.Lost = append(settled.Lost, i)
			continue
		}
		q.settle(in, &r, &settled)
	}
	return settled, nil
}

func (q *table) settle(in *row, r *store.Result, settled *store.Settled) {
	id := r.Delivery
	if r.Attempt != nil {
		if in.attempts++; r.Attempt.N != in.attempts {
			q.tb.Errorf("attempt %d of %s is numbered %d", in.attempts, id, r.Attempt.N)
		}
		q.attempts[id] = append(q.attempts[id], *r.Attempt)
	}
	switch r.Next {
	case store.NextRetry:
		if in.due, in.step = r.At, r.Step; !r.InHand {
			in.node = 0
		}
		return
	case store.NextDelivered:
		q.done[id] = ""
	case store.NextExhausted:
		q.done[id] = r.Reason
	}
	delete(q.rows, id)
	for _, waiting := range q.waiting[id] {
		w := q.rows[waiting]
		if r.Next == store.NextDelivered {
			w.after, w.due = 0, q.wall()
			settled.Released = append(settled.Released, waiting.Endpoint)
		} else {
			q.done[waiting] = waypost.ReasonMainFailed
			delete(q.rows, waiting)
		}
	}
}

func (q *table) Drop(_ context.Context, endpoint waypost.EndpointID, before waypost.EventID, reason waypost.Reason, _ time.Time, limit int) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down != nil {
		return 0, q.down
	}
	n := 0
	q.drops++
	for id, r := range q.rows {
		if id.Endpoint == endpoint && r.node == 0 && id.Event < before && n < limit {
			q.done[id] = reason
			delete(q.rows, id)
			n++
		}
	}
	return n, nil
}

// join gives the lease to a new node and adopts what the old one had in hand.
func (q *table) join() waypost.NodeID {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.node++
	q.free(func(waypost.NodeID) bool { return true })
	return q.node
}

// insert makes a delivery; node 0: in nobody's hand.
func (q *table) insert(endpoint waypost.EndpointID, node waypost.NodeID) *waypost.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.nextEvent = max(q.nextEvent+1, waypost.FirstEventID(q.wall()))
	event := &waypost.Event{ID: q.nextEvent, Type: "whatsapp.message.text", Body: []byte(`{"text":"hello"}`)}
	q.rows[waypost.DeliveryID{Event: event.ID, Endpoint: endpoint}] = &row{event: event, node: node, due: q.wall()}
	return event
}

// insertEvent makes a delivery of a known event, due now and in nobody's hand.
func (q *table) insertEvent(event *waypost.Event, endpoint waypost.EndpointID) waypost.DeliveryID {
	q.mu.Lock()
	defer q.mu.Unlock()
	id := waypost.DeliveryID{Event: event.ID, Endpoint: endpoint}
	delete(q.done, id)
	q.rows[id] = &row{event: event, due: q.wall(), attempts: len(q.attempts[id])}
	return id
}

// end tells how a delivery ended.
func (q *table) end(id waypost.DeliveryID) (reason waypost.Reason, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	reason, ended = q.done[id]
	return reason, ended
}

// insertAfter makes a delivery that waits for the one to main.
func (q *table) insertAfter(event *waypost.Event, endpoint, main waypost.EndpointID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	id := waypost.DeliveryID{Event: event.ID, Endpoint: endpoint}
	first := waypost.DeliveryID{Event: event.ID, Endpoint: main}
	q.rows[id] = &row{event: event, after: main}
	q.waiting[first] = append(q.waiting[first], id)
}

func (q *table) setDown(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.down = err
}

func (q *table) owed() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.rows)
}

func (q *table) inHand() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, r := range q.rows {
		if r.node != 0 {
			n++
		}
	}
	return n
}

// ends counts how deliveries ended, by reason ("" for delivered).
func (q *table) ends() map[waypost.Reason]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	ends := map[waypost.Reason]int{}
	for _, reason := range q.done {
		ends[reason]++
	}
	return ends
}

func (q *table) history(id waypost.DeliveryID) []waypost.Attempt {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.attempts[id])
}

// made counts the attempts on record, by endpoint.
func (q *table) made() map[waypost.EndpointID]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	made := map[waypost.EndpointID]int{}
	for id, attempts := range q.attempts {
		made[id.Endpoint] += len(attempts)
	}
	return made
}

// dropped is how often Drop was called.
func (q *table) dropped() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.drops
}

var errDown = waypost.Errorf(waypost.KindUnavailable, "the database can't be reached")

// settings is a Directory and the States that go with it.
type settings struct {
	mu        sync.Mutex
	endpoints map[waypost.EndpointID]*waypost.Endpoint
	engine    *Engine
	states    []waypost.EndpointState // set by the engine, in order
	fail      error
	pauseIn   int // reads until the present endpoint is paused; 0: it is not
}

func (s *settings) Endpoint(id waypost.EndpointID) *waypost.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pauseIn--; s.pauseIn == 0 {
		e := *s.endpoints[id]
		e.State = waypost.EndpointPaused
		s.endpoints[id] = &e
	}
	return s.endpoints[id]
}

// pauseAtRead pauses the endpoint that is looked up by the nth read from now, from 0.
func (s *settings) pauseAtRead(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pauseIn = n + 1
}

func (s *settings) Number(waypost.NumberID) *waypost.Number { return nil }

func (s *settings) Tenant(waypost.TenantID) *waypost.Tenant { return nil }

func (s *settings) SetState(_ context.Context, id waypost.EndpointID, state waypost.EndpointState, reason string, _ time.Time) error {
	s.mu.Lock()
	if err := s.fail; err != nil {
		s.mu.Unlock()
		return err
	}
	s.states = append(s.states, state)
	s.mu.Unlock()
	s.change(id, func(e *waypost.Endpoint) { e.State, e.StateReason = state, reason })
	return nil
}

func (s *settings) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *settings) change(id waypost.EndpointID, edit func(*waypost.Endpoint)) {
	s.mu.Lock()
	e := waypost.Endpoint{ID: id, URL: "https://example.test/hook?key=topsecret", Dialect: "plain", State: waypost.EndpointActive}
	if old := s.endpoints[id]; old != nil {
		e = *old
	}
	edit(&e)
	s.endpoints[id] = &e
	s.mu.Unlock()
	s.engine.EndpointChanged(id)
}

// plain is a dialect that sends the event's body.
type plain struct {
	policy waypost.Policy
	encode func(dialect.Item) (dialect.Hook, error)
}

func (plain) Info() dialect.Info                 { return dialect.Info{ID: "plain"} }
func (plain) Handler(dialect.Admin) http.Handler { return nil }

func (p *plain) Policy(*waypost.Endpoint) waypost.Policy { return p.policy }

func (p *plain) Encode(item dialect.Item) (dialect.Hook, error) {
	if p.encode != nil {
		return p.encode(item)
	}
	return dialect.Hook{Body: item.Event.Body}, nil
}

// world is an engine and all that is around it.
type world struct {
	*settings
	tb      testing.TB
	table   *table
	dialect plain
	engine  *Engine
	config  Config
	stop    context.CancelFunc
	lost    chan struct{}
	ended   chan error

	mu     sync.Mutex
	answer func(ctx context.Context, r egress.Request) egress.Answer
	sent   []time.Time
}

func newWorld(tb testing.TB, edit func(*Config)) *world {
	tb.Helper()
	// Bubbles begin before the first id can be made.
	<-time.After(time.Until(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)))
	w := &world{tb: tb, table: newTable(tb), settings: &settings{endpoints: map[waypost.EndpointID]*waypost.Endpoint{}}}
	w.dialect.policy = waypost.Policy{Success: waypost.Success200, Timeout: 5 * time.Second}
	w.answer = status(200)
	w.config = Config{
		Queue:     w.table,
		Directory: w.settings,
		States:    w.settings,
		Sender:    w,
		Dialects: func(id string) dialect.Dialect {
			if id != "plain" {
				return nil
			}
			return &w.dialect
		},
		Log: slog.New(slog.DiscardHandler),
	}
	if edit != nil {
		edit(&w.config)
	}
	w.engine = New(w.config)
	w.settings.engine = w.engine
	return w
}

// run starts the engine as the node that has the lease.
func (w *world) run() {
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.lost, w.ended = stop, make(chan struct{}), make(chan error, 1)
	node := w.table.node
	go func() { w.ended <- w.engine.Run(ctx, node, w.lost) }()
	synctest.Wait()
	w.engine.Members([]store.Member{{Node: node}})
	synctest.Wait()
}

// end stops the engine and gives what Run returned.
func (w *world) end() error {
	w.stop()
	return <-w.ended
}

// lose takes the lease away and gives what Run returned.
func (w *world) lose() error {
	close(w.lost)
	return <-w.ended
}

// shut stops the engine in good order.
func (w *world) shut() {
	w.tb.Helper()
	if err := w.end(); err != nil {
		w.tb.Error(err)
	}
}

func (w *world) Send(ctx context.Context, r egress.Request) egress.Answer {
	began := time.Now()
	w.mu.Lock()
	w.sent = append(w.sent, began)
	answer := w.answer
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	a := answer(ctx, r)
	a.Duration = time.Since(began)
	return a
}

func (w *world) setAnswer(answer func(context.Context, egress.Request) egress.Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

func (w *world) requests() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent)
}

// endpoint makes an endpoint.
func (w *world) endpoint(id waypost.EndpointID) waypost.EndpointID {
	w.change(id, func(*waypost.Endpoint) {})
	return id
}

// accept does what ingest does with one event owed to one endpoint.
func (w *world) accept(endpoint waypost.EndpointID) waypost.DeliveryID {
	var node waypost.NodeID
	inHand := w.engine.Reserve(endpoint) == store.InHand
	if inHand {
		node = w.table.node
	}
	event := w.table.insert(endpoint, node)
	if inHand {
		w.engine.Start([]store.Owed{{Event: event, Endpoint: endpoint}})
	} else {
		w.engine.Wake(endpoint)
	}
	return waypost.DeliveryID{Event: event.ID, Endpoint: endpoint}
}

// byURL answers one URL in one way and all others in another.
func byURL(url string, one, others func(context.Context, egress.Request) egress.Answer) func(context.Context, egress.Request) egress.Answer {
	return func(ctx context.Context, r egress.Request) egress.Answer {
		if r.URL == url {
			return one(ctx, r)
		}
		return others(ctx, r)
	}
}

func status(code int) func(context.Context, egress.Request) egress.Answer {
	return func(context.Context, egress.Request) egress.Answer { return egress.Answer{Status: code} }
}

// after answers with the status once the time has passed, like a real sender
// that heeds its context.
func after(wait time.Duration, code int) func(context.Context, egress.Request) egress.Answer {
	return func(ctx context.Context, _ egress.Request) egress.Answer {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
			return egress.Answer{Status: code}
		case <-ctx.Done():
			return egress.Answer{Err: ctx.Err(), Reason: waypost.ReasonTimeout}
		}
	}
}

// wait lets bubble time pass.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// until waits for something to become true.
func until(tb testing.TB, limit time.Duration, what string, ok func() bool) time.Duration {
	tb.Helper()
	const tick = 10 * time.Millisecond
	for waited := time.Duration(0); waited <= limit; waited += tick {
		synctest.Wait()
		if ok() {
			return waited
		}
		wait(tick)
	}
	tb.Fatalf("not within %s: %s", limit, what)
	return 0
}
