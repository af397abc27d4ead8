package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// hear gives the next notice.
func (m *member) hear() store.Notice {
	m.t.Helper()
	select {
	case n := <-m.Notices():
		return n
	case <-time.After(20 * time.Second):
		m.t.Fatal("no notice came")
		return store.Notice{}
	}
}

func (m *member) hears(want store.Notice) {
	m.t.Helper()
	if diff := cmp.Diff(want, m.hear()); diff != "" {
		m.t.Fatalf("notice (-want +got):\n%s", diff)
	}
}

// TestElsewhereIsTold has one node accept what another is to deliver.
func TestElsewhereIsTold(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	first, second := join(t, url), join(t, url)
	for _, m := range []*member{first, second} {
		m.hears(store.Notice{}) // as whenever it comes to listen
	}
	owed := func(place store.Place, endpoints ...waypost.EndpointID) store.Arrival {
		arrival := first.arrival(place)
		arrival.Owed = nil
		for _, id := range endpoints {
			arrival.Owed = append(arrival.Owed, store.Owing{Endpoint: id, Place: place})
		}
		return arrival
	}
	accept := func(batch ...store.Arrival) {
		t.Helper()
		if _, err := first.Accept(t.Context(), first.node, batch); err != nil {
			t.Fatal(err)
		}
	}
	told := owed(store.Elsewhere, 9, 8)
	accept(told, owed(store.InTable, 7), owed(store.Elsewhere, 8))
	for _, m := range []*member{first, second} {
		m.hears(store.Notice{Due: []waypost.EndpointID{8, 9}})
	}
	// Of a repeat, and of what starts here or waits for another, nothing is told.
	clone := owed(store.Elsewhere, 21, 22)
	clone.Owed[0].Place, clone.Owed[1].After = store.InTable, 21
	accept(told, owed(store.InTable, 7), owed(store.InHand, 7), clone)
	accept(owed(store.Elsewhere, 10))
	second.hears(store.Notice{Due: []waypost.EndpointID{10}})

	many := make([]waypost.EndpointID, 1000)
	for i := range many {
		many[i] = waypost.EndpointID(1<<60 + i)
	}
	accept(owed(store.Elsewhere, many...))
	second.hears(store.Notice{})

	taken, err := second.Take(t.Context(), second.node, 9, time.Now(), 10, store.OldestDue)
	if err != nil || len(taken) != 1 {
		t.Fatalf("took %d deliveries (%v), want the one that was told", len(taken), err)
	}
}

// TestOtherPayloads sends what other versions might.
func TestOtherPayloads(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	m := join(t, url)
	m.hears(store.Notice{})
	for _, payload := range []string{"", "drain 5", "due 5 lane:7"} {
		query(t, url, `SELECT pg_notify('waypost', '`+payload+`')::text`)
		m.hears(store.Notice{})
	}
	query(t, url, `SELECT pg_notify('waypost', 'due 5 zz')::text`)
	m.hears(store.Notice{Due: []waypost.EndpointID{5, 35*36 + 35}})
}

// TestClocksApart has nodes whose own clocks are an hour apart share a database.
// Leases are judged by the server's clock, so neither takes the other for dead,
// and a node that stops is taken over when its lease has run out.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	for name, skew := range map[string]time.Duration{"the other is ahead": time.Hour, "the other is behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			first, other := join(t, url), joinAt(t, url, func() time.Time { return time.Now().Add(skew) })

			// What the other accepts is due at once for this one, too.
			if _, err := other.accept(other.arrival(store.InTable)); err != nil {
				t.Fatal(err)
			}
			if n := first.takeNow(); n != 1 {
				t.Fatalf("took %d of the other's deliveries, want 1", n)
			}
			if _, err := first.accept(first.arrival(store.InHand)); err != nil {
				t.Fatal(err)
			}

			const ttl = time.Second
			renewed := time.Now()
			if _, err := first.Renew(t.Context(), first.node, ttl, first.now(), 0); err != nil {
				t.Fatal(err)
			}
			if n := other.takeNow(); n > 0 {
				t.Fatalf("took %d deliveries out of a hand", n)
			}
			adopted := other.adopt()
			if adopted > 0 && time.Since(renewed) < ttl {
				t.Fatalf("%d deliveries were stolen from a living node", adopted)
			}
			first.adopt()
			if _, err := other.Renew(t.Context(), other.node, time.Hour, other.now(), 0); err != nil {
				t.Fatalf("the other was taken for dead: %v", err)
			}

			// The first node stops.
			deadline := time.After(ttl + 20*time.Second)
			for ; adopted == 0; adopted = other.adopt() {
				select {
				case <-time.After(20 * time.Millisecond):
				case <-deadline:
					t.Fatal("the dead node was not taken over")
				}
			}
			if early := ttl - time.Since(renewed); early > 0 {
				t.Fatalf("it was taken over %s before its lease ran out", early)
			}
			if n := other.takeNow(); adopted != 2 || n != 2 {
				t.Fatalf("adopted %d deliveries and took %d, want 2", adopted, n)
			}
		})
	}
}

// adopt and takeNow go by the member's own clock.

func (m *member) adopt() int {
	m.t.Helper()
	n, err := m.Adopt(m.t.Context(), m.now())
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

func (m *member) takeNow() int {
	m.t.Helper()
	taken, err := m.Take(m.t.Context(), m.node, endpoint, m.now(), 10, store.OldestDue)
	if err != nil {
		m.t.Fatal(err)
	}
	return len(taken)
}
