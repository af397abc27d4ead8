package delivery

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	// aheadShared is how much work of an endpoint that several nodes share one of
	// them has in memory. A little more than 4 s in nanoseconds.
	aheadShared = 1 << 32
	// maxDues bounds the due times a lane remembers; Queue.Due knows the rest.
	maxDues = 64
	// slowDepth is how many times InFlight a slow lane keeps in memory: more
	// would only take memory from the others.
	slowDepth = 4
	// quickAnswers in a row make a slow lane fast again.
	quickAnswers = 4
	// memoryOfFailure is how long an idle lane is kept for what it has learnt.
	memoryOfFailure = 10 * time.Minute
	memoryOfPace    = time.Minute
	// unknownGrace is how long the Directory may be behind before an endpoint
	// it does not know counts as deleted.
	unknownGrace = 10 * time.Minute
	// ownGrace is how long a state we set ourselves holds against a Directory
	// that does not show it.
	ownGrace = 10 * time.Second
)

// job is a delivery in memory, and so in this node's hand.
type job struct {
	owed    store.Owed
	due     time.Time
	skipped bool // it is to end, unless the attempt under way is received
}

func (j *job) id() waypost.DeliveryID {
	return waypost.DeliveryID{Event: j.owed.Event.ID, Endpoint: j.owed.Endpoint}
}

// gate is what a lane may do.
type gate uint8

const (
	unseen    gate = iota // a new lane
	open                  // send
	probing               // tripped: send one now and then
	elsewhere             // open or probing, but other nodes have all of the limit: as if held
	held                  // paused, disabled, no URL: send nothing, keep nothing in memory
	gone                  // deleted: give up everything
)

// lane is the work of one endpoint. All of it is guarded by tenure.mu.
type lane struct {
	id       waypost.EndpointID
	gate     gate
	retired  bool
	limit    int // requests that may be in flight, over all nodes
	share    int // of the limit
	window   int // requests that may be in flight while it grows after a resume; 0: it does not limit
	ramp     ramp
	held     int // deliveries in memory: ready, later, in flight, and those whose attempt is not on record yet
	reserved int
	started  bool // by Start, and not looked at yet
	ready    fifo[*job]
	later    []*job // retries in hand, soonest first
	flights  []*flight
	waiting  bool // for a slot

	toldAt  time.Time       // when other nodes were last asked for help
	order   store.Order     // in which the table is to hand out
	skip    waypost.EventID // what is older does not go out any more
	skimmed waypost.EventID // such as it was when memory was last searched for it

	// What is known of the table.
	dues      []time.Time // when deliveries in nobody's hand are due, soonest first
	blind     bool        // there may be more of them than dues knows
	drop      bool        // deleted, and rows may be left
	expire    bool        // no URL, and rows may be too old
	queued    bool        // for an errand
	busy      bool        // an errand is under way
	taking    int         // deliveries it asks for
	page      int         // how many to ask for next; see page
	old       bool        // what was taken from the table last had been there for a while
	failures  int         // errands in a row that failed
	tableFrom time.Time   // no errand before

	slow    bool
	quick   int           // quick answers in a row of a slow lane
	took    time.Duration // a request, about
	used    time.Time
	breaker breaker
	own     *ownState

	unknownSince time.Time // by a clock that nobody sets: much would be given up for nothing
	timer        *time.Timer
	timerAt      time.Time
}

// ownState is a state that the engine found and that the Directory may not
// show yet.
type ownState struct {
	state  waypost.EndpointState
	reason string
	seen   *waypost.Endpoint // the snapshot it was set against
	until  time.Time         // zero while it is being written
}

// occupied is the deliveries that have, or may soon have, a place in memory.
func (l *lane) occupied() int { return l.held + l.reserved + l.taking }

// width is how many requests this node may have in flight.
func (l *lane) width() int {
	switch {
	case l.gate == open && l.window == 0:
		return l.share
	case l.gate == open:
		return min(l.window, l.share)
	case l.gate == probing:
		return min(1, l.share)
	}
	return 0
}

// note remembers that a delivery in nobody's hand is due at the time.
func (l *lane) note(at, now time.Time) {
	if len(l.dues) > 0 && !l.dues[0].After(now) && !at.After(now) {
		return
	}
	i, found := slices.BinarySearchFunc(l.dues, at, time.Time.Compare)
	if found {
		return
	}
	l.dues = slices.Insert(l.dues, i, at)
	if len(l.dues) > maxDues {
		l.dues = l.dues[:maxDues]
		l.blind = true
	}
}

// forgetDue drops the due times up to now: what they stand for is being taken.
func (l *lane) forgetDue(now time.Time) {
	n := 0
	for n < len(l.dues) && !l.dues[n].After(now) {
		n++
	}
	l.dues = slices.Delete(l.dues, 0, n)
}

// knows tells whether it is no news that a delivery is due at the time.
func (l *lane) knows(at, now time.Time) bool {
	if l.backlogged(now) && !at.After(now) {
		return true
	}
	_, found := slices.BinarySearchFunc(l.dues, at, time.Time.Compare)
	return found
}

// backlogged tells that the table holds deliveries that are due.
func (l *lane) backlogged(now time.Time) bool {
	return len(l.dues) > 0 && !l.dues[0].After(now)
}

// putOff keeps a retry in memory until it is due.
func (l *lane) putOff(j *job) {
	i, _ := slices.BinarySearchFunc(l.later, j, func(a, b *job) int { return a.due.Compare(b.due) })
	l.later = slices.Insert(l.later, i, j)
}

// ripen moves retries that are due to the queue.
func (l *lane) ripen(now time.Time) {
	n := 0
	for n < len(l.later) && !l.later[n].due.After(now) {
		l.ready.push(l.later[n])
		n++
	}
	l.later = slices.Delete(l.later, 0, n)
}

// state is the endpoint's state, or what the engine itself has found it to be.
func (l *lane) state(ep *waypost.Endpoint, now time.Time) waypost.EndpointState {
	if own := l.own; own != nil {
		writing := own.until.IsZero()
		if own.seen == ep && (writing || now.Before(own.until)) {
			return own.state
		}
		if !writing {
			l.own = nil
		}
	}
	return ep.State
}

// remembers tells that the lane has learnt something worth keeping while idle.
func (l *lane) remembers(now time.Time) bool {
	idle := now.Sub(l.used)
	return l.gate == probing ||
		l.breaker.failures > 0 && idle < memoryOfFailure ||
		(l.slow || l.window > 0) && idle < memoryOfPace
}

// lane finds or makes the lane of an endpoint.
func (t *tenure) lane(id waypost.EndpointID) *lane {
	l := t.lanes[id]
	if l == nil {
		l = &lane{id: id}
		if t.heldIdle[id] {
			l.gate = held
			delete(t.heldIdle, id)
		}
		t.lanes[id] = l
	}
	return l
}

// turn does all that can be done for a lane now, and sets a timer for the rest.
// It is called after every change that could matter to the lane, and calling it
// once too often does no harm.
func (t *tenure) turn(l *lane) { t.turnAt(l, t.now()) }

func (t *tenure) turnAt(l *lane, now time.Time) {
	if l.retired || t.ended() {
		return
	}
	t.pass(l, t.look(l, now), now)
	t.skim(l)
	switch {
	case t.phase == draining:
		t.shed(l, 0)
	case l.gate == open:
		l.ripen(now)
		t.shed(l, t.depth(l))
		t.pump(l, now)
	case l.gate == probing && !now.Before(l.breaker.probeAt):
		l.ripen(now)
		t.shed(l, 1)
		t.pump(l, now)
	case l.gate == gone:
		t.giveUpAll(l, waypost.ReasonEndpointDeleted, math.MaxInt64)
	default:
		t.shed(l, 0)
	}
	if l.gate != open && l.gate != probing {
		l.dues = nil
	}
	t.sendErrand(l, now)
	if l.gate == open && l.ready.len() == 0 && !l.backlogged(now) && !l.queued && !l.busy {
		l.ramp = ramp{} // nothing is left of the backlog
	}
	t.arm(l, now)
}

// look reads from the Directory what the lane may do.
func (t *tenure) look(l *lane, now time.Time) gate {
	ep := t.config.Directory.Endpoint(l.id)
	if ep == nil {
		l.own = nil
		if l.unknownSince.IsZero() {
			l.unknownSince = time.Now()
		}
		if time.Since(l.unknownSince) < unknownGrace {
			return held
		}
		return gone
	}
	l.unknownSince = time.Time{}
	state := l.state(ep, now)
	l.heed(ep)
	l.limit = t.limit(ep, state)
	l.share = t.cluster.share(l.id, l.limit)
	switch {
	case !ep.DeletedAt.IsZero():
		return gone
	case !t.sendable(ep):
		return held
	case state != waypost.EndpointActive && state != waypost.EndpointTripped:
		return held
	case l.share == 0:
		return elsewhere
	case state == waypost.EndpointTripped:
		return probing
	}
	return open
}

// heed takes in what the last resume asked for.
func (l *lane) heed(ep *waypost.Endpoint) {
	l.skip = ep.SkipBefore
	l.order = store.OldestDue
	if ep.Drain == waypost.DrainNewest {
		l.order = store.NewestEvent
	}
}

// limit is how many requests to the endpoint may be in flight, over all nodes. A
// probe is one request, so one node makes it.
func (t *tenure) limit(ep *waypost.Endpoint, state waypost.EndpointState) int {
	switch {
	case state == waypost.EndpointTripped:
		return 1
	case ep.InFlight > 0:
		return ep.InFlight
	}
	return t.config.Limits.InFlight
}

// sendable tells whether there is an endpoint, somewhere to send to, and a
// dialect to speak there.
func (t *tenure) sendable(ep *waypost.Endpoint) bool {
	return ep != nil && ep.DeletedAt.IsZero() && ep.URL != "" && t.config.Dialects(ep.Dialect) != nil
}

// pass takes a lane through a gate it was not in.
func (t *tenure) pass(l *lane, to gate, now time.Time) {
	from := l.gate
	if l.gate = to; from == to {
		return
	}
	l.ramp = ramp{}
	switch to {
	case open:
		if from != unseen && from != elsewhere { // it is resumed: begin slowly
			l.breaker.reset()
			l.window = 1
			l.ramp.begin(&t.config.Limits, now)
		}
	case probing:
		l.breaker.open(&t.config.Breaker, now)
	case gone:
		l.drop = true
	case elsewhere, held, unseen:
	}
	if from != unseen && (to == open || to == probing) {
		l.search(now)
	}
}

// search makes the lane ask the table for whatever there is.
func (l *lane) search(now time.Time) {
	l.note(now, now)
	l.blind = true
}

// depth is how many deliveries of the lane may be in memory: of what several
// nodes share, and of what goes out slowly, not much more than it will have use
// for soon.
func (t *tenure) depth(l *lane) int {
	few := slowDepth * max(l.share, 1)
	switch {
	case l.slow:
		return few
	case l.ramp.on():
		return min(max(few, l.ramp.ahead(&t.config.Limits, l.share, l.limit)), t.config.Limits.LaneMemory)
	case l.share < l.limit:
		// What lies here nobody else can send, so no more than is soon gone: when
		// a node joins or the limit is raised, the rest is for the others.
		return max(few, min(t.config.Limits.LaneMemory*l.share/l.limit, l.share*l.soon()))
	}
	return t.config.Limits.LaneMemory
}

// soon is how many requests one after the other take about aheadShared. It moves
// in large steps, so that a little more or less time changes nothing.
func (l *lane) soon() int {
	if l.took <= 0 {
		return math.MaxInt32
	}
	return int(aheadShared >> bits.Len64(uint64(l.took)))
}

// shed hands back what waits in memory beyond keep, the newest first.
func (t *tenure) shed(l *lane, keep int) {
	for len(l.later) > 0 && l.held > keep {
		last := len(l.later) - 1
		t.handBack(l, l.later[last])
		l.later = slices.Delete(l.later, last, last+1)
	}
	for l.ready.len() > 0 && l.held > keep {
		t.handBack(l, l.ready.popLast())
	}
}

// handBack gives a delivery back to the table, due as it was.
func (t *tenure) handBack(l *lane, j *job) {
	t.forget(l, j)
	t.record(entry{result: store.Result{
		Delivery: j.id(), Next: store.NextRetry, At: j.due, Step: j.owed.Step,
	}})
}

// giveUpAll ends what waits in memory, of events before the given one.
func (t *tenure) giveUpAll(l *lane, reason waypost.Reason, before waypost.EventID) {
	old := func(j *job) bool {
		if j.owed.Event.ID >= before {
			return false
		}
		t.giveUp(l, j, reason)
		return true
	}
	l.later = slices.DeleteFunc(l.later, old)
	for range l.ready.len() {
		if j := l.ready.pop(); !old(j) {
			l.ready.push(j)
		}
	}
}

// giveUp ends a delivery in memory without an attempt.
func (t *tenure) giveUp(l *lane, j *job, reason waypost.Reason) {
	t.forget(l, j)
	t.record(entry{result: store.Result{
		Delivery: j.id(), Next: store.NextExhausted, Step: j.owed.Step, Reason: reason,
	}})
}

// skim gives up what is in memory and too old for what the last resume asked for,
// once: what is taken later was made due by hand.
func (t *tenure) skim(l *lane) {
	if l.skip <= l.skimmed || l.gate != open && l.gate != probing {
		return
	}
	l.skimmed = l.skip
	t.giveUpAll(l, waypost.ReasonSkipped, l.skip)
	mark := func(j *job) { j.skipped = j.skipped || j.owed.Event.ID < l.skip }
	for _, f := range l.flights {
		mark(f.job)
	}
	for i := range t.recorder.pending {
		if e := &t.recorder.pending[i]; e.lane == l {
			mark(e.job)
		}
	}
}

// has tells whether the delivery is in memory, or a result of it is.
func (t *tenure) has(l *lane, id waypost.DeliveryID) bool {
	is := func(j *job) bool { return j.id() == id }
	return slices.ContainsFunc(l.ready.all(), is) || slices.ContainsFunc(l.later, is) ||
		slices.ContainsFunc(l.flights, func(f *flight) bool { return is(f.job) }) ||
		slices.ContainsFunc(t.recorder.pending, func(e entry) bool { return e.result.Delivery == id })
}

// hold puts a delivery into the lane's memory.
func (t *tenure) hold(l *lane, owed store.Owed, now time.Time) {
	j := &job{owed: owed, due: now.Truncate(time.Millisecond)}
	if owed.Attempts == 0 { // handed back, it keeps its place in the order
		if at := owed.Event.ReceivedAt(); at.Before(j.due) {
			j.due = at
		}
	}
	l.held++
	t.memory.add(j)
	l.ready.push(j)
}

// forget takes a delivery out of the lane's memory.
func (t *tenure) forget(l *lane, j *job) {
	l.held--
	t.memory.remove(j)
}

// arm sets the lane's timer for the next thing that will come up by itself, and
// drops the lane when there is nothing left of it.
func (t *tenure) arm(l *lane, now time.Time) {
	at := t.nextTurn(l, now)
	if at.IsZero() {
		l.disarm()
		t.retire(l, now)
		return
	}
	if at.Equal(l.timerAt) {
		return
	}
	l.timerAt = at
	if l.timer != nil {
		l.timer.Reset(at.Sub(now))
		return
	}
	l.timer = time.AfterFunc(at.Sub(now), func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		l.timerAt = time.Time{}
		t.turn(l)
	})
}

func (l *lane) disarm() {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.timerAt = time.Time{}
}

// nextTurn is the earliest time after now at which something becomes possible
// by the mere passing of time; zero if nothing does.
func (t *tenure) nextTurn(l *lane, now time.Time) time.Time {
	var next time.Time
	consider := func(at time.Time) {
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if len(l.later) > 0 {
		consider(l.later[0].due)
	}
	if l.ready.len() > 0 && l.gate == open && l.ramp.on() {
		consider(l.ramp.next)
	}
	if l.ready.len() > 0 && l.gate == probing {
		consider(l.breaker.probeAt)
	}
	if len(l.dues) > 0 {
		at := latest(l.dues[0], l.tableFrom)
		if l.gate == probing {
			at = latest(at, l.breaker.probeAt)
		}
		consider(at)
	}
	if l.drop || l.expire {
		consider(l.tableFrom)
	}
	if l.own != nil {
		consider(l.own.until)
	}
	if !l.unknownSince.IsZero() {
		consider(now.Add(unknownGrace - time.Since(l.unknownSince)))
	}
	return next
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// retire drops an idle lane from memory.
func (t *tenure) retire(l *lane, now time.Time) {
	if l.occupied() > 0 || l.queued || l.busy || l.drop || l.expire || l.own != nil ||
		len(l.dues) > 0 || l.remembers(now) {
		return
	}
	l.retired = true
	if l.timer != nil {
		l.timer.Stop()
	}
	delete(t.lanes, l.id)
	if l.gate == held {
		t.heldIdle[l.id] = true // for the ramp, should it be resumed
	}
}
