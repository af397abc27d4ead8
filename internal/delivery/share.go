package delivery

import (
	"slices"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// cluster divides each endpoint's limit among the nodes whose lease is live.
//
// For each endpoint the nodes have an order of their own, and a node's share
// follows from its rank and their number alone. One more node pushes the others
// down in that order and never up, so it never gives any of them a larger share.
// Hence no endpoint has more in flight than its limit, as long as every node that
// sends counts in, and has come within the share it has beside, every other one
// that sends. That is what a node waits for when it joins: it is counted in as
// soon as it is listed, and sends once all that came before it have said that
// they are within what is left to them. Those that come after it list it from
// the start. A node whose lease runs out has ended its requests by then.
type cluster struct {
	self     waypost.NodeID
	nodes    []waypost.NodeID // those that share, by id
	admitted bool             // all that came before have made room
	seen     waypost.NodeID   // the newest node that we have made room for
}

// update takes in which leases are live and reports whether that makes a
// difference. Nodes of a version that does not share are left out: they send as
// they always did.
func (c *cluster) update(members []store.Member) (changed bool) {
	nodes := make([]waypost.NodeID, 0, len(members))
	listed, room := false, true
	for _, m := range members {
		listed = listed || m.Node == c.self
		if m.Seen < 0 && m.Node != c.self {
			continue
		}
		nodes = append(nodes, m.Node)
		room = room && (m.Node >= c.self || m.Seen >= c.self)
	}
	if !listed {
		return false
	}
	slices.Sort(nodes)
	changed = !slices.Equal(nodes, c.nodes) || room && !c.admitted
	c.nodes, c.admitted = nodes, c.admitted || room
	return changed
}

// newest is the newest node we know of.
func (c *cluster) newest() waypost.NodeID {
	if len(c.nodes) == 0 {
		return 0
	}
	return c.nodes[len(c.nodes)-1]
}

// shared tells that there is more than one node.
func (c *cluster) shared() bool { return len(c.nodes) > 1 }

// share is how many requests of an endpoint's limit this node may have in flight.
func (c *cluster) share(endpoint waypost.EndpointID, limit int) int {
	if !c.admitted {
		return 0
	}
	n := len(c.nodes)
	share, rest := limit/n, limit%n
	if rest > 0 && c.rank(endpoint) < rest {
		share++
	}
	return share
}

// rank is this node's place in the endpoint's order.
func (c *cluster) rank(endpoint waypost.EndpointID) int {
	own := weight(endpoint, c.self)
	rank := 0
	for _, node := range c.nodes {
		if w := weight(endpoint, node); w > own || w == own && node > c.self {
			rank++
		}
	}
	return rank
}

// weight orders the nodes of an endpoint: the two ids, well mixed.
func weight(endpoint waypost.EndpointID, node waypost.NodeID) uint64 {
	return mix(mix(uint64(endpoint)) + uint64(node))
}

// mix is the finalizer of splitmix64: every bit of x has its part in every bit
// of the outcome.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
