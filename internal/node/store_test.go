package node_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/node"
	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
	"github.com/waypost-gateway/waypost/internal/store/postgres"
	"github.com/waypost-gateway/waypost/internal/store/sqlite"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// plainly is a store.Sealer for what is no secret.
type plainly struct{}

func (plainly) Seal(plain []byte, _ string) ([]byte, error)  { return plain, nil }
func (plainly) Open(sealed []byte, _ string) ([]byte, error) { return sealed, nil }

// crew is a node.Work that tells how many members it knows and which of them has
// seen all others.
type crew struct {
	node    *node.Node
	stop    context.CancelFunc
	ended   chan error
	changed chan struct{}

	mu      sync.Mutex
	members []store.Member
	runs    int
}

func board(t *testing.T, leases store.Nodes, now func() time.Time) *crew {
	t.Helper()
	c := &crew{
		node:    node.New(leases, node.Options{TTL: 3 * time.Second, Renew: 100 * time.Millisecond, Now: now}),
		ended:   make(chan error, 1),
		changed: make(chan struct{}, 1),
	}
	if err := c.node.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	go func() { c.ended <- c.node.Run(ctx, c) }()
	return c
}

func (c *crew) Run(ctx context.Context, _ waypost.NodeID, lost <-chan struct{}) error {
	c.mu.Lock()
	c.runs++
	c.mu.Unlock()
	select {
	case <-lost:
		return store.ErrLeaseLost
	case <-ctx.Done():
		return nil
	}
}

func (c *crew) Members(members []store.Member) (waypost.NodeID, bool) {
	c.mu.Lock()
	c.members = members
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
	return members[len(members)-1].Node, true
}

// until waits for a look at the members that satisfies.
func (c *crew) until(t *testing.T, what string, ok func(members []store.Member, runs int) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		done := ok(c.members, c.runs)
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-c.changed:
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func (c *crew) leave(t *testing.T) {
	t.Helper()
	c.stop()
	if err := <-c.ended; err != nil {
		t.Error(err)
	}
}

func TestNodesOnPostgres(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	open := func() *postgres.Store {
		s, err := postgres.Open(t.Context(), postgres.Options{URL: url, Sealer: plainly{}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	// The clocks of the nodes are hours apart.
	skewed := func(by time.Duration) func() time.Time {
		return func() time.Time { return time.Now().Add(by) }
	}
	first := board(t, open(), skewed(-2*time.Hour))
	second := board(t, open(), skewed(3*time.Hour))
	seen := func(members []store.Member, _ int) bool {
		for _, m := range members {
			if m.Seen != second.node.ID() {
				return false
			}
		}
		return len(members) == 2
	}
	first.until(t, "both have seen both", seen)
	second.until(t, "both have seen both", seen)
	second.leave(t)
	first.until(t, "alone again", func(members []store.Member, _ int) bool { return len(members) == 1 })
	first.leave(t)
	if first.runs != 1 || second.runs != 1 {
		t.Errorf("a lease was lost: %d and %d runs", first.runs, second.runs)
	}
}

// The clock of a node that is alone with its data may be set; at worst it joins
// anew at once.
func TestClockIsSetOnSQLite(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Round(0).Add(time.Duration(ahead.Load())) }
	s, err := sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir(), Sealer: plainly{}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := board(t, s, now)
	for _, leap := range []time.Duration{0, time.Hour, -time.Hour} {
		ahead.Store(int64(leap))
		looks := 0
		c.until(t, "it goes on", func(members []store.Member, _ int) bool {
			if _, err := s.Accept(t.Context(), c.node.ID(), nil); err != nil || len(members) != 1 {
				looks = 0
				return false
			}
			looks++
			return looks > 5
		})
	}
	c.leave(t)
}
