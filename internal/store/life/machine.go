package life

import "fmt"

// Machine is the whole: the store, the sender, the receiver and two processes.
// It is a value, and comparable.
type Machine struct {
	Table     Table
	Answered  bool  // the sender was told that its event is accepted
	Received  uint8 // copies that reached the receiver
	Faults    uint8 // what went wrong so far that may cost a repeated copy
	ByHand    bool  // a retry was asked for
	Recorded  uint8 // the highest attempt on record
	Twice     bool  // an attempt number was recorded twice
	Processes [2]Process
}

// Process is one process and what it believes. What it has in memory may be out
// of date: only the store says whose the delivery is.
type Process struct {
	Up     bool
	Member bool // it believes to hold a lease
	Phase  Phase
	N      uint8  // the number of the attempt it makes or has made
	Result Result // what the attempt came to, once Judged
	// Offered: the result was written, and the process does not know. It will
	// offer the very same again, which leaves one record of it.
	Offered bool
	// Doubt: a transaction that put the delivery in its hand may or may not have
	// been committed; it gives back whatever is there with its next renewal.
	Doubt bool
	// Kept is the result of an earlier run that could not be written.
	Kept        Result
	KeptOffered bool
}

// Phase is how far a process is with a delivery in its memory.
type Phase uint8

// The phases.
const (
	Idle    Phase = iota
	Ready         // in memory, no request made
	Waiting       // a request is under way
	Judged        // the answer is in, and not written yet
	Paused        // a short wait before the next attempt
)

// Rules are the mechanism's; each can be broken to see that the proof would
// notice.
type Rules struct {
	AnswerBeforeCommit bool // the sender is answered before the transaction is on disk
	Unfenced           bool // a result is written without asking whose the delivery is
	NoAdoption         bool // leases that run out are never ended
	ForgetDoubt        bool // a commit in doubt is taken for one that failed
	BlindEarlier       bool // a kept result is written without asking whether another attempt was made
	SettleThenSend     bool // the delivery is settled before the receiver has answered
}

// Limits of what is looked at.
type Limits struct {
	Faults   uint8
	Attempts uint8
}

// step is one thing that can happen.
type step struct {
	name string
	next Machine
	// fault: it need not happen. The others do, sooner or later, in a system that
	// is left alone.
	fault bool
}

type explorer struct {
	rules  Rules
	limits Limits
}

// steps are all the things that can happen in m.
func (x explorer) steps(m Machine) []step {
	var steps []step
	add := func(fault bool, name string, next Machine) {
		if fault {
			if m.Faults == x.limits.Faults {
				return
			}
			next.Faults++
		}
		if next != m {
			steps = append(steps, step{name, next, fault})
		}
	}
	for i := range m.Processes {
		x.process(m, i, add)
	}
	x.time(m, add)
	if !m.ByHand {
		next := m
		var answer Answer
		if next.Table, answer = m.Table.Retry(); answer == Done {
			next.ByHand = true
			add(false, "retry by hand", next)
		}
	}
	return steps
}

// time is what happens without anybody: waits end and leases run out.
func (x explorer) time(m Machine, add func(bool, string, Machine)) {
	next := m
	next.Table, _ = m.Table.Ripen()
	add(false, "the wait ends", next)
	for run := FirstNow; run <= SecondBefore; run++ {
		next := m
		next.Table, _ = m.Table.Expire(run)
		p := m.Processes[run.Process()]
		alive := run == Now(run.Process()) && p.Up && p.Member
		add(alive, fmt.Sprintf("lease of run %d runs out", run), next)
	}
}

func (x explorer) process(m Machine, i int, add func(bool, string, Machine)) {
	p := m.Processes[i]
	with := func(p Process) Machine {
		next := m
		next.Processes[i] = p
		return next
	}
	name := func(what string) string { return fmt.Sprintf("process %d: %s", i+1, what) }
	if !p.Up {
		x.start(m, i, add)
		return
	}
	add(true, name("crashes"), with(Process{}))
	if !p.Member {
		x.rejoin(m, i, add)
		return
	}
	x.accept(m, i, add)
	x.renew(m, i, add)
	switch p.Phase {
	case Idle:
		x.take(m, i, add)
		x.offerKept(m, i, add)
	case Ready:
		next := p
		next.Phase = Waiting
		sent := with(next)
		if x.rules.SettleThenSend {
			sent.Table, _ = m.Table.Settle(Now(i), Result{N: p.N, Next: Delivered})
		}
		add(false, name("sends"), sent)
		// Paused, tripped or shutting down: handed back without an attempt.
		back := with(forget(p))
		var answer Answer
		if back.Table, answer = m.Table.Settle(Now(i), Result{Next: Owed}); answer == LeaseLost {
			back = with(lost(p))
		}
		add(false, name("hands back"), back)
	case Waiting:
		x.receive(m, i, add)
	case Judged:
		x.settle(m, i, add)
	case Paused:
		next := p
		next.Phase, next.N = Ready, p.N+1
		if p.N < x.limits.Attempts {
			add(false, name("goes on"), with(next))
		}
	}
}

// start brings a process up again: it joins.
func (x explorer) start(m Machine, i int, add func(bool, string, Machine)) {
	next := m
	var answer Answer
	if next.Table, answer = x.join(m.Table, i); answer == Done {
		next.Processes[i] = Process{Up: true, Member: true}
		add(false, fmt.Sprintf("process %d: starts", i+1), next)
	}
}

// rejoin is what a process does that has lost its lease. What it has not been
// able to write it keeps.
func (x explorer) rejoin(m Machine, i int, add func(bool, string, Machine)) {
	next := m
	var answer Answer
	if next.Table, answer = x.join(m.Table, i); answer == Done {
		next.Processes[i].Member = true
		add(false, fmt.Sprintf("process %d: joins again", i+1), next)
	}
}

func (x explorer) join(t Table, i int) (Table, Answer) {
	if x.rules.NoAdoption {
		before := t
		t, answer := t.Join(i)
		if before.Holder != Nobody && t.Holder == Nobody {
			t.Holder = before.Holder
		}
		return t, answer
	}
	return t.Join(i)
}

// lost is what is left of a process's memory when it learns that its lease has
// run out: only a result that was not written.
func lost(p Process) Process {
	next := Process{Up: true, Kept: p.Kept, KeptOffered: p.KeptOffered}
	if p.Phase == Judged {
		next.Kept, next.KeptOffered = p.Result, p.Offered
		next.Kept.InHand, next.Kept.Earlier = false, true
	}
	return next
}

func forget(p Process) Process {
	p.Phase, p.N, p.Result, p.Offered = Idle, 0, Result{}, false
	return p
}

func (x explorer) accept(m Machine, i int, add func(bool, string, Machine)) {
	p := m.Processes[i]
	if m.Answered || p.Phase != Idle {
		return
	}
	name := func(what string) string { return fmt.Sprintf("process %d: %s", i+1, what) }
	for _, inHand := range []bool{true, false} {
		table, answer := m.Table.Accept(Now(i), inHand)
		next := m
		next.Table = table
		if answer == LeaseLost {
			next.Processes[i] = lost(p)
			add(false, name("may not accept"), next)
			return
		}
		if inHand && answer == Done {
			next.Processes[i].Phase, next.Processes[i].N = Ready, 1
		}
		next.Answered = true
		add(false, name("accepts"), next)

		crashed := next
		crashed.Answered, crashed.Processes[i] = false, Process{}
		add(true, name("commits, and crashes before it answers"), crashed)

		unknown := next // the connection broke in the commit; the sender gets a 503
		unknown.Answered, unknown.Processes[i] = false, p
		unknown.Processes[i].Doubt = p.Doubt || !x.rules.ForgetDoubt && inHand
		add(true, name("commits, and does not learn of it"), unknown)

		if x.rules.AnswerBeforeCommit {
			early := m
			early.Answered, early.Processes[i] = true, Process{}
			add(true, name("answers, and crashes before it commits"), early)
		}
	}
}

// renew extends the lease or finds that it is lost; it ends the leases of others
// that are out, and gives back what is in doubt.
func (x explorer) renew(m Machine, i int, add func(bool, string, Machine)) {
	p := m.Processes[i]
	next := m
	if m.Table.Leases[Now(i)] != Live {
		next.Processes[i] = lost(p)
		add(false, fmt.Sprintf("process %d: learns that its lease has run out", i+1), next)
		return
	}
	if p.Doubt && p.Phase == Idle {
		next.Processes[i].Doubt = false
		if m.Table.Stage == Owed && m.Table.Holder == Now(i) {
			next.Table.Holder = Nobody
			next.Table.Later = false
		}
	}
	if !x.rules.NoAdoption {
		next.Table, _ = next.Table.Adopt()
	}
	add(false, fmt.Sprintf("process %d: renews", i+1), next)
}

func (x explorer) take(m Machine, i int, add func(bool, string, Machine)) {
	p := m.Processes[i]
	if p.Kept != (Result{}) { // its results come first
		return
	}
	table, answer := m.Table.Take(Now(i))
	next := m
	next.Table = table
	switch answer {
	case LeaseLost:
		next.Processes[i] = lost(p)
		add(false, fmt.Sprintf("process %d: may not take", i+1), next)
	case Done:
		if table.Attempts >= x.limits.Attempts {
			return // further attempts are beyond what is looked at
		}
		unknown := next
		unknown.Processes[i].Doubt = !x.rules.ForgetDoubt
		add(true, fmt.Sprintf("process %d: takes, and does not learn of it", i+1), unknown)
		next.Processes[i].Phase, next.Processes[i].N = Ready, table.Attempts+1
		add(false, fmt.Sprintf("process %d: takes", i+1), next)
	case Nothing:
	}
}

// receive is how a request can end: received and known, received and not known,
// not received; and what is made of that.
func (x explorer) receive(m Machine, i int, add func(bool, string, Machine)) {
	name := func(what string) string { return fmt.Sprintf("process %d: %s", i+1, what) }
	judged := func(received uint8, r Result) Machine {
		next := m
		next.Received = min(m.Received+received, 7)
		next.Processes[i].Phase, next.Processes[i].Result = Judged, r
		return next
	}
	n := m.Processes[i].N
	add(false, name("is received"), judged(1, Result{N: n, Next: Delivered}))
	for _, r := range []Result{{N: n, Next: Owed}, {N: n, Next: Owed, InHand: true}, {N: n, Next: Exhausted}} {
		add(true, name(fmt.Sprintf("is refused, so %+v", r)), judged(0, r))
		add(true, name(fmt.Sprintf("is received and does not hear it, so %+v", r)), judged(1, r))
	}
}

// settle writes back the result that is in.
func (x explorer) settle(m Machine, i int, add func(bool, string, Machine)) {
	p := m.Processes[i]
	next, answer := x.write(m, i, p.Result, p.Offered)
	what := fmt.Sprintf("process %d: writes %+v", i+1, p.Result)
	switch answer {
	case LeaseLost:
		next.Processes[i] = lost(p)
	case Nothing:
		next.Processes[i] = forget(p)
	case Done:
		unknown := next
		unknown.Processes[i].Offered = true
		add(true, what+", and does not learn of it", unknown)
		if next.Processes[i] = forget(p); p.Result.InHand {
			next.Processes[i].Phase, next.Processes[i].N = Paused, p.N
		}
	}
	add(false, what, next)
}

// offerKept writes a result of the run before.
func (x explorer) offerKept(m Machine, i int, add func(bool, string, Machine)) {
	p := m.Processes[i]
	if p.Kept == (Result{}) {
		return
	}
	next, answer := x.write(m, i, p.Kept, p.KeptOffered)
	what := fmt.Sprintf("process %d: writes %+v", i+1, p.Kept)
	if answer == LeaseLost {
		next.Processes[i] = lost(p)
		add(false, what, next)
		return
	}
	if answer == Done {
		unknown := next
		unknown.Processes[i].KeptOffered = true
		add(true, what+", and does not learn of it", unknown)
	}
	next.Processes[i].Kept, next.Processes[i].KeptOffered = Result{}, false
	add(false, what, next)
}

// write is one Settle. again: the same result was written before.
func (x explorer) write(m Machine, i int, r Result, again bool) (Machine, Answer) {
	next := m
	table := m.Table
	if x.rules.Unfenced && table.Stage == Owed {
		table.Holder, table.Leases[Now(i)] = Now(i), Live
	}
	if x.rules.BlindEarlier && r.Earlier && table.Stage == Owed {
		table.Holder, table.Attempts = Nobody, r.N-1
	}
	settled, answer := table.Settle(Now(i), r)
	if answer != Done {
		return next, answer
	}
	next.Table = settled
	next.Table.Leases = m.Table.Leases
	if !again {
		next.Twice = m.Twice || r.N <= m.Recorded
		next.Recorded = max(m.Recorded, r.N)
	}
	return next, answer
}
