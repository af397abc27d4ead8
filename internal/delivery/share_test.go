package delivery

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// admitted is the view of a node that all others have made room for.
func admitted(self waypost.NodeID, nodes []waypost.NodeID) *cluster {
	c := &cluster{self: self}
	var members []store.Member
	for _, node := range nodes {
		members = append(members, store.Member{Node: node, Seen: 1 << 60})
	}
	c.update(members)
	return c
}

// The shares of an endpoint's limit add up to it, and one more node gives none of
// the others more: the two facts that the limit of a cluster rests on.
func TestShares(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Int64Range(1, 1<<62)
		endpoint := waypost.EndpointID(id.Draw(t, "endpoint"))
		limit := rapid.IntRange(1, 40).Draw(t, "limit")
		var nodes []waypost.NodeID
		for _, n := range rapid.SliceOfNDistinct(rapid.Int64Range(1, 500), 1, 12, rapid.ID).Draw(t, "nodes") {
			nodes = append(nodes, waypost.NodeID(n))
		}
		total := 0
		for _, self := range nodes {
			share := admitted(self, nodes).share(endpoint, limit)
			total += share
			if least := limit / len(nodes); share < least || share > least+1 {
				t.Errorf("a share of %d of %d among %d nodes", share, limit, len(nodes))
			}
			for i, left := range nodes {
				if left == self {
					continue
				}
				fewer := slices.Delete(slices.Clone(nodes), i, i+1)
				if was := admitted(self, fewer).share(endpoint, limit); share > was {
					t.Errorf("one more node raises a share from %d to %d", was, share)
				}
			}
		}
		if total != limit {
			t.Errorf("the shares of %d add up to %d", limit, total)
		}
	})
}

func TestSharesAreSpread(t *testing.T) {
	t.Parallel()
	nodes := []waypost.NodeID{7, 8, 9}
	const endpoints = 3000
	for _, self := range nodes {
		c, first := admitted(self, nodes), 0
		for id := range waypost.EndpointID(endpoints) {
			first += c.share(id+1<<30, 1)
		}
		if first < endpoints/4 || first > endpoints/2 {
			t.Errorf("node %d is the first of %d endpoints out of %d", self, first, endpoints)
		}
	}
}

func TestJoinerWaitsForThoseBefore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		members []store.Member
		want    int
	}{
		"alone":                           {[]store.Member{{Node: 5}}, 8},
		"not listed":                      {[]store.Member{{Node: 4, Seen: 9}}, 0},
		"not seen":                        {[]store.Member{{Node: 4, Seen: 4}, {Node: 5}}, 0},
		"seen":                            {[]store.Member{{Node: 4, Seen: 5}, {Node: 5}}, 4},
		"seen by one of two":              {[]store.Member{{Node: 3, Seen: 4}, {Node: 4, Seen: 5}, {Node: 5}}, 0},
		"those after it list it anyway":   {[]store.Member{{Node: 5}, {Node: 6}}, 4},
		"a version that does not share":   {[]store.Member{{Node: 4, Seen: -1}, {Node: 5}}, 8},
		"itself as it was written before": {[]store.Member{{Node: 5, Seen: -1}}, 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			view := &cluster{self: 5}
			view.update(c.members)
			if got := view.share(1, 8); got != c.want {
				t.Errorf("share %d, want %d", got, c.want)
			}
		})
	}
}
