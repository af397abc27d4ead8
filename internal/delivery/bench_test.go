package delivery

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/egress"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// BenchmarkFromMemory measures what the engine itself costs per delivery: from
// Reserve to Settle, with a receiver and a store that take no time and a log that
// goes nowhere.
func BenchmarkFromMemory(b *testing.B) {
	for _, endpoints := range []int{1, 100, 10000} {
		b.Run(fmt.Sprint("endpoints=", endpoints), func(b *testing.B) {
			s := &settings{endpoints: map[waypost.EndpointID]*waypost.Endpoint{}}
			q := &sink{}
			plain := &plain{policy: waypost.Policy{Success: waypost.Success200}}
			plain.encode = func(item dialect.Item) (dialect.Hook, error) {
				return dialect.Hook{Body: item.Event.Body, Header: http.Header{"X-Signature": {"sha256=0123456789abcdef"}}}, nil
			}
			engine := New(Config{
				Queue: q, Directory: s, States: s, Sender: q,
				Dialects: func(string) dialect.Dialect { return plain },
				Log:      unread(),
				// On a busy machine nothing is handed back, which the sink does not take.
				Limits: Limits{SlowAfter: time.Minute},
			})
			s.engine = engine
			for id := range waypost.EndpointID(endpoints) {
				s.change(id+1, func(*waypost.Endpoint) {})
			}
			ctx, stop := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			go func() { ended <- engine.Run(ctx, 1, nil) }()
			for settled := false; !settled; {
				_, settled = engine.Members([]store.Member{{Node: 1}})
			}
			event := &waypost.Event{ID: 1, Body: make([]byte, 1500)}
			owed := make([]store.Owed, 1)
			b.ReportAllocs()
			b.ResetTimer()
			for n := range b.N {
				ep := waypost.EndpointID(n%endpoints + 1)
				for engine.Reserve(ep) != store.InHand {
					q.await()
				}
				q.expect()
				owed[0] = store.Owed{Event: event, Endpoint: ep}
				engine.Start(owed)
			}
			q.drain()
			b.StopTimer()
			stop()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkAttempt measures what one attempt costs besides its request: the hook's
// header, the judgement, and what is told of it.
func BenchmarkAttempt(b *testing.B) {
	s := &settings{endpoints: map[waypost.EndpointID]*waypost.Endpoint{
		1: {ID: 1, URL: "https://example.test/hook", Dialect: "plain", State: waypost.EndpointActive},
	}}
	header := http.Header{"X-Signature": {"sha256=0123456789abcdef"}}
	plain := &plain{
		policy: waypost.Policy{Success: waypost.Success200},
		encode: func(item dialect.Item) (dialect.Hook, error) {
			return dialect.Hook{Body: item.Event.Body, Header: header}, nil
		},
	}
	engine := New(Config{
		Directory: s, Sender: &sink{},
		Dialects: func(string) dialect.Dialect { return plain },
		Log:      unread(),
	})
	t := newTenure(&engine.config, &engine.clock, 1, nil)
	f := &flight{job: &job{owed: store.Owed{Event: &waypost.Event{ID: 1}, Endpoint: 1}}}
	b.ReportAllocs()
	for b.Loop() {
		if y := t.try(f); y.ruling.outcome != waypost.OutcomeDelivered {
			b.Fatal(y.ruling)
		}
	}
}

// unread is a log that costs what a log does.
func unread() *slog.Logger {
	return slog.New(slog.NewTextHandler(io.Discard, nil)) //nolint:sloglint // DiscardHandler formats nothing
}

// sink is a Queue and a Sender that take everything at once.
type sink struct {
	mu      sync.Mutex
	cond    *sync.Cond
	pending int
	table
}

func (q *sink) locked(do func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cond == nil {
		q.cond = sync.NewCond(&q.mu)
	}
	do()
}

func (q *sink) expect() { q.locked(func() { q.pending++ }) }

// await waits for the next results; drain for all of them.
func (q *sink) await() {
	q.locked(func() {
		if before := q.pending; before > 0 {
			for q.pending == before {
				q.cond.Wait()
			}
		}
	})
}

func (q *sink) drain() {
	q.locked(func() {
		for q.pending > 0 {
			q.cond.Wait()
		}
	})
}

func (q *sink) Settle(_ context.Context, _ waypost.NodeID, results []store.Result) (store.Settled, error) {
	q.locked(func() {
		q.pending -= len(results)
		q.cond.Broadcast()
	})
	return store.Settled{}, nil
}

func (q *sink) Send(context.Context, egress.Request) egress.Answer {
	return egress.Answer{Status: 200}
}
