// Package life is the life of one delivery as a state machine, small enough to
// be looked at whole.
//
// Table is what the store's contract says of a single delivery and of the leases
// of the nodes that may have it in hand: each method is one transaction. Machine
// puts two processes around it that accept, send, write back, pause, crash, start
// again and lose answers, and Explore visits every state that any order of such
// steps can reach. The tests prove that in each of them the delivery is owed, in
// a hand that will let go of it, or settled; that what was answered for is in the
// store; and that a receiver is sent more than one copy only after a fault.
//
// The proof is about these rules. That the two databases keep to them is checked
// by store/storetest, which walks the same Table and the real store side by side.
package life

// Stage is where the delivery stands in the store.
type Stage uint8

// The stages.
const (
	Unknown Stage = iota // no such event was committed
	Owed
	Delivered
	Exhausted
)

// Lease is what the store knows of one run of a process.
type Lease uint8

// The leases.
const (
	Ended Lease = iota // the node is not in the table
	Live
	Out // its time has run out, and nobody has ended it yet
)

// Run is one run of one of the two processes: a node id. A process that joins
// again leaves its run before behind, whose lease may still be live.
type Run uint8

// The runs. Nobody is the holder of a delivery that is in the table only.
const (
	Nobody Run = iota
	FirstNow
	FirstBefore
	SecondNow
	SecondBefore
)

// Now is the present run of process 0 or 1.
func Now(process int) Run { return Run(2*process) + FirstNow }

// Before is the run before the present one.
func Before(process int) Run { return Now(process) + 1 }

// Process tells whose run it is.
func (r Run) Process() int { return int(r-1) / 2 }

// Table is one delivery and the leases. It is a value: methods give a new one.
type Table struct {
	Stage    Stage
	Holder   Run  // while owed
	Later    bool // owed, in nobody's hand, and not due yet
	Asked    bool // a retry by hand came while it was in a hand
	Attempts uint8
	Leases   [5]Lease // by Run
}

// Answer is what a transaction comes to.
type Answer uint8

// The answers.
const (
	Done      Answer = iota
	Nothing          // there was nothing to do: a duplicate, nothing due, a result that is lost
	LeaseLost        // refused: the node's lease has run out
)

// Accept appends the event and its delivery, in run's hand or in the table.
func (t Table) Accept(run Run, inHand bool) (Table, Answer) {
	if t.Leases[run] != Live {
		return t, LeaseLost
	}
	if t.Stage != Unknown {
		return t, Nothing
	}
	t.Stage = Owed
	if inHand {
		t.Holder = run
	}
	return t, Done
}

// Take puts what is due into run's hand.
func (t Table) Take(run Run) (Table, Answer) {
	switch {
	case t.Leases[run] != Live:
		return t, LeaseLost
	case t.Stage != Owed || t.Holder != Nobody || t.Later:
		return t, Nothing
	}
	t.Holder = run
	return t, Done
}

// Result is what became of an attempt, or, with N 0, of a delivery that is handed
// back without one and is due as before.
type Result struct {
	N       uint8 // the attempt's number
	Next    Stage // Delivered, Exhausted, or Owed for a retry later
	InHand  bool  // a retry that stays in hand
	Earlier bool  // it came about under the process's run before
}

// Settle writes back a result.
func (t Table) Settle(run Run, r Result) (Table, Answer) {
	if t.Leases[run] != Live {
		return t, LeaseLost
	}
	mine := t.Holder == run
	if r.Earlier {
		mine = t.Holder == Nobody && t.Attempts+1 == r.N
	}
	if t.Stage != Owed || !mine {
		return t, Nothing
	}
	t.Attempts = max(t.Attempts, r.N)
	t.Stage, t.Holder, t.Later = r.Next, Nobody, false
	switch {
	case r.Next == Owed && r.InHand:
		t.Holder = run // for a wait so short that being asked for changes nothing
	case r.Next == Owed:
		t.Later = r.N > 0 && !t.Asked
	}
	t.Asked = false
	return t, Done
}

// Ripen lets time pass until what was put off is due.
func (t Table) Ripen() (Table, Answer) {
	if !t.Later {
		return t, Nothing
	}
	t.Later = false
	return t, Done
}

// Retry is asked for by hand.
func (t Table) Retry() (Table, Answer) {
	switch {
	case t.Stage == Unknown:
		return t, Nothing
	case t.Stage == Owed && t.Holder != Nobody:
		t.Asked = true
	default:
		t.Stage, t.Later = Owed, false
	}
	return t, Done
}

// Join gives a process a new run. Leases that are out are ended on the way. The
// run before keeps its lease and what it has in hand, until time ends it.
func (t Table) Join(process int) (Table, Answer) {
	t, _ = t.Adopt()
	now, before := Now(process), Before(process)
	if t.Leases[before] != Ended {
		return t, Nothing // one run before is enough to look at
	}
	t.Leases[before], t.Leases[now] = t.Leases[now], Live
	if t.Holder == now {
		t.Holder = before
	}
	return t, Done
}

// Expire lets a lease run out.
func (t Table) Expire(run Run) (Table, Answer) {
	if t.Leases[run] != Live {
		return t, Nothing
	}
	t.Leases[run] = Out
	return t, Done
}

// Adopt ends every lease that is out; what those nodes had in hand is due.
func (t Table) Adopt() (Table, Answer) {
	answer := Nothing
	for run := FirstNow; run <= SecondBefore; run++ {
		if t.Leases[run] == Out {
			t, answer = t.end(run), Done
		}
	}
	return t, answer
}

// Leave gives a lease back.
func (t Table) Leave(run Run) (Table, Answer) {
	if t.Leases[run] == Ended {
		return t, Nothing
	}
	return t.end(run), Done
}

func (t Table) end(run Run) Table {
	t.Leases[run] = Ended
	if t.Holder == run {
		t.Holder, t.Later, t.Asked = Nobody, false, false
	}
	return t
}
