package life

import (
	"fmt"
	"strings"
)

// Explore visits every state that can be reached and tells how many there are.
// The error describes the first one that breaks a promise, and the steps to it.
func Explore(rules Rules, limits Limits) (states int, err error) {
	x := explorer{rules, limits}
	start := Machine{}
	start.Table.Leases = [5]Lease{FirstNow: Live, SecondNow: Live}
	start.Processes = [2]Process{{Up: true, Member: true}, {Up: true, Member: true}}

	type origin struct {
		from int
		name string
	}
	index := map[Machine]int{start: 0}
	all, origins := []Machine{start}, []origin{{-1, "start"}}
	explain := func(i int, fault string) error {
		var steps []string
		for j := i; j >= 0; j = origins[j].from {
			steps = append(steps, origins[j].name)
		}
		var text strings.Builder
		fmt.Fprintf(&text, "%s, after:", fault)
		for k := len(steps) - 1; k >= 0; k-- {
			fmt.Fprintf(&text, "\n\t%s", steps[k])
		}
		return fmt.Errorf("%s\n%+v", text.String(), all[i])
	}
	var calm [][]int // by state: where steps lead that are no fault, reversed below
	for i := 0; i < len(all); i++ {
		if fault := x.broken(all[i]); fault != "" {
			return len(all), explain(i, fault)
		}
		calm = append(calm, nil)
		for _, s := range x.steps(all[i]) {
			j, known := index[s.next]
			if !known {
				j = len(all)
				index[s.next] = j
				all, origins = append(all, s.next), append(origins, origin{i, s.name})
			}
			if !s.fault {
				calm[i] = append(calm[i], j)
			}
		}
	}
	for i, ends := range settling(all, calm, limits) {
		if !ends {
			return len(all), explain(i, "left alone, this is never settled")
		}
	}
	return len(all), nil
}

// broken names the promise that m breaks.
func (x explorer) broken(m Machine) string {
	t := m.Table
	switch {
	case m.Answered && t.Stage == Unknown:
		return "the sender was answered and the event is not in the store"
	case t.Stage == Delivered && m.Received == 0:
		return "it counts as delivered and never arrived"
	case t.Holder != Nobody && (t.Stage != Owed || t.Leases[t.Holder] == Ended):
		return "it is in the hand of a node that is not there"
	case m.Twice:
		return "one attempt is on record twice"
	case m.Received > 1+m.Faults && !m.ByHand:
		return "the receiver got more copies than there were faults"
	case stranded(m):
		return "it is in the hand of a node that knows nothing of it"
	}
	return ""
}

// stranded tells that a living node has the delivery in hand, by the table, and
// will never do anything about it.
func stranded(m Machine) bool {
	t := m.Table
	if t.Stage != Owed || t.Holder == Nobody || t.Leases[t.Holder] != Live {
		return false
	}
	i := t.Holder.Process()
	p := m.Processes[i]
	return t.Holder == Now(i) && p.Up && p.Member && p.Phase == Idle && !p.Doubt
}

// settling tells of each state whether steps that are no fault can lead from it
// to one where nothing is owed any more (or to the edge of what is looked at).
func settling(all []Machine, calm [][]int, limits Limits) []bool {
	back := make([][]int, len(all))
	for i, ends := range calm {
		for _, j := range ends {
			back[j] = append(back[j], i)
		}
	}
	reached := make([]bool, len(all))
	var queue []int
	for i, m := range all {
		done := m.Table.Stage == Delivered || m.Table.Stage == Exhausted || m.Table.Attempts >= limits.Attempts
		if reached[i] = done; done {
			queue = append(queue, i)
		}
	}
	for len(queue) > 0 {
		i := queue[0]
		queue = queue[1:]
		for _, j := range back[i] {
			if !reached[j] {
				reached[j] = true
				queue = append(queue, j)
			}
		}
	}
	return reached
}
