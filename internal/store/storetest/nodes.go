package storetest

import (
	"sync"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

var nodeTests = []test{
	{"ids are new and slots are free", nodeJoin},
	{"many join at once", nodeJoinTogether},
	{"leaving gives back what was in hand", nodeLeave},
	{"a lost lease shuts the node out", nodeLost},
	{"adoption takes from the dead and not from the living", nodeAdopt},
	{"joining adopts too", nodeJoinAdopts},
	{"what is adopted is due at once", nodeAdoptedDue},
	{"renewing lists the living and what they have seen", nodeMembers},
}

func nodeJoin(f *fixture) {
	second, slot := f.join()
	if second == f.node || slot == 0 {
		f.tb.Fatalf("node %s in slot %d beside %s in slot 0", second, slot, f.node)
	}
	f.must(f.store.Leave(f.ctx(), f.node, time.Now()))
	event := f.event()
	_, err := f.store.Accept(f.ctx(), second, []store.Arrival{{Event: event}})
	f.must(err)
	third, slot, floor, err := f.store.Join(f.ctx(), time.Hour, time.Now())
	f.must(err)
	if third == f.node || third == second || slot != 0 {
		f.tb.Fatalf("node %s in slot %d, want a new one in slot 0", third, slot)
	}
	f.equal("floor", floor, int64(event.ID))
}

func nodeJoinTogether(f *fixture) {
	const total = 8
	nodes := make([]waypost.NodeID, total)
	slots := make([]int, total)
	var group sync.WaitGroup
	for i := range total {
		group.Go(func() {
			var err error
			if nodes[i], slots[i], _, err = f.store.Join(f.ctx(), time.Hour, time.Now()); err != nil {
				f.tb.Error(err)
			}
		})
	}
	group.Wait()
	seenNodes, seenSlots := map[waypost.NodeID]bool{f.node: true}, map[int]bool{0: true}
	for i := range total {
		if seenNodes[nodes[i]] || seenSlots[slots[i]] {
			f.tb.Fatalf("node %s and slot %d were given twice", nodes[i], slots[i])
		}
		seenNodes[nodes[i]], seenSlots[slots[i]] = true, true
	}
}

func nodeLeave(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.must(f.store.Leave(f.ctx(), f.node, time.Now()))
	_, err := f.store.Accept(f.ctx(), f.node, []store.Arrival{f.arrival()})
	f.leaseLost(err)
	_, err = f.store.Renew(f.ctx(), f.node, time.Hour, time.Now(), 0)
	f.leaseLost(err)
	f.must(f.store.Leave(f.ctx(), f.node, time.Now())) // again: nothing to do
	next, _ := f.join()
	f.equal("taken", events(f.take(next, f.endpoints[0], 10)), []waypost.EventID{id.Event})
}

func nodeLost(f *fixture) {
	id := f.handed(f.endpoints[0])
	f.expire(f.node)
	_, err := f.store.Renew(f.ctx(), f.node, time.Hour, time.Now(), 0)
	f.leaseLost(err)
	lost := f.arrival(owing(f.endpoints[1])...)
	lost.DedupeKey = dedupeKey(1, "lost")
	_, err = f.store.Accept(f.ctx(), f.node, []store.Arrival{lost})
	f.leaseLost(err)
	_, err = f.store.Settle(f.ctx(), f.node, []store.Result{f.delivered(id, 1)})
	f.leaseLost(err)
	f.equal("attempts", f.attempts(id.Event), []waypost.Attempt{})
	f.backlog(f.endpoints[1], 0)
	f.state(id.Event, id.Endpoint, waypost.DeliveryPending)

	f.node, _ = f.join()
	f.equal("receipt", f.accept(lost)[0], store.Receipt{Event: lost.Event.ID})
}

func nodeAdopt(f *fixture) {
	a := f.endpoints[0]
	mine := f.handed(a)
	other, _ := f.join()
	f.accepted(owing(a)...)
	f.accepted(owing(a)...)
	f.equal("taken by the other", len(f.take(other, a, 10)), 2)
	adopt := func(want int) {
		f.tb.Helper()
		n, err := f.store.Adopt(f.ctx(), time.Now())
		f.must(err)
		f.equal("adopted", n, want)
	}
	adopt(0)
	f.expire(other)
	adopt(2)
	adopt(0)
	f.equal("taken", len(f.take(f.node, a, 10)), 2)
	f.equal("lost", f.settle(f.delivered(mine, 1)).Lost, []int{})
}

func nodeJoinAdopts(f *fixture) {
	f.handed(f.endpoints[0])
	f.expire(f.node)
	next, slot := f.join()
	f.equal("slot", slot, 0)
	f.equal("taken", len(f.take(next, f.endpoints[0], 10)), 1)
}

func nodeAdoptedDue(f *fixture) {
	id := f.handed(f.endpoints[0])
	retry := f.putOff(id, 1, f.now.Add(time.Hour))
	retry.InHand = true
	f.settle(retry)
	left := f.now.Add(time.Second)
	f.must(f.store.Leave(f.ctx(), f.node, left))
	due, err := f.store.Due(f.ctx())
	f.must(err)
	f.equal("due", due, []store.Due{{Endpoint: id.Endpoint, At: left}})
}

func nodeMembers(f *fixture) {
	renew := func(node waypost.NodeID, ttl time.Duration, seen waypost.NodeID, want ...store.Member) {
		f.tb.Helper()
		members, err := f.store.Renew(f.ctx(), node, ttl, time.Now(), seen)
		f.must(err)
		f.equal("members", members, want)
	}
	renew(f.node, time.Hour, 5, store.Member{Node: f.node, Seen: 5})
	second, _ := f.join()
	third, _ := f.join()
	renew(f.node, time.Hour, 6, store.Member{Node: f.node, Seen: 6}, store.Member{Node: second}, store.Member{Node: third})
	renew(third, time.Hour, second, store.Member{Node: f.node, Seen: 6}, store.Member{Node: second}, store.Member{Node: third, Seen: second})
	// One whose lease has run out is not listed, even before it is adopted; but a
	// node always sees itself.
	renew(third, -time.Second, 8, store.Member{Node: f.node, Seen: 6}, store.Member{Node: second}, store.Member{Node: third, Seen: 8})
	renew(second, time.Hour, 7, store.Member{Node: f.node, Seen: 6}, store.Member{Node: second, Seen: 7})
	f.must(f.store.Leave(f.ctx(), f.node, time.Now()))
	renew(second, time.Hour, 7, store.Member{Node: second, Seen: 7})
}
