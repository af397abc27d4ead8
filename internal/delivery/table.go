package delivery

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/waypost-gateway/waypost/internal/store"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const (
	// errandRunners is how many goroutines ask the store on behalf of lanes.
	errandRunners = 4
	// A lane's pages begin small, because an endpoint that does not answer would
	// have to give back most of a large one, and grow as they are used up. They
	// are limited in bytes as well, by the size of what came before.
	firstPage = 16
	pageSize  = 256
	pageBytes = 4 << 20
	dropSize  = 1000 // deliveries given up at a time
	// scanGap is the least time between two looks at Queue.Due.
	scanGap = time.Second

	minErrandWait = 250 * time.Millisecond
	maxErrandWait = 10 * time.Second
)

// errand is one call to the store that a lane has need of: Take, or Drop when
// reason is set.
type errand struct {
	limit  int
	order  store.Order
	before waypost.EventID
	reason waypost.Reason
}

// plan says what the lane has need of now, if anything.
func (t *tenure) plan(l *lane, now time.Time) (errand, bool) {
	if t.phase != working || !t.tableOpen || l.busy || now.Before(l.tableFrom) {
		return errand{}, false
	}
	switch {
	case l.gate == gone && l.drop:
		return errand{limit: dropSize, before: math.MaxInt64, reason: waypost.ReasonEndpointDeleted}, true
	case l.gate == held && l.expire:
		before, ok := t.expired(l.id, now)
		return errand{limit: dropSize, before: before, reason: waypost.ReasonExpired}, ok
	case !l.backlogged(now):
		return errand{}, false
	case l.gate != open && l.gate != probing:
		return errand{}, false
	case l.skip > t.skipped[l.id]:
		return errand{limit: dropSize, before: l.skip, reason: waypost.ReasonSkipped}, true
	case l.gate == open:
		limit := t.page(l)
		return errand{limit: limit, order: l.order}, limit > 0
	case l.gate == probing:
		return errand{limit: 1, order: l.order}, l.occupied() == 0 && !now.Before(l.breaker.probeAt)
	}
	return errand{}, false
}

// page is how many deliveries the lane may take now: none while it has half of
// what it may have, so that they come in pages and not one by one, and a few
// whatever the others have in memory.
func (t *tenure) page(l *lane) int {
	room := t.depth(l) - l.occupied()
	if room < t.depth(l)/2 {
		return 0
	}
	granted := max(t.memory.room(), l.share-l.occupied())
	page := l.page
	if page == 0 {
		page = firstPage
	}
	return min(room, granted, page)
}

// expired gives the id below which events have waited longer than the
// endpoint's schedule runs. ok is false unless the endpoint has no URL.
func (t *tenure) expired(id waypost.EndpointID, now time.Time) (before waypost.EventID, ok bool) {
	ep := t.config.Directory.Endpoint(id)
	if ep == nil || ep.URL != "" {
		return 0, false
	}
	d := t.config.Dialects(ep.Dialect)
	if d == nil {
		return 0, false
	}
	p, err := policy(d, ep)
	return waypost.FirstEventID(now.Add(-p.Window())), err == nil
}

// sendErrand queues the lane for what it has need of. Lanes are served in turn,
// one page each.
func (t *tenure) sendErrand(l *lane, now time.Time) {
	if l.queued {
		return
	}
	l.drop = l.drop && l.gate == gone
	if l.expire {
		_, l.expire = t.expired(l.id, now)
	}
	if _, wanted := t.plan(l, now); !wanted {
		return
	}
	l.queued = true
	t.errands.push(l)
	t.errand.Signal()
}

func (t *tenure) runErrands() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		l := t.nextErrand()
		if l == nil {
			return
		}
		l.queued = false
		now := t.now()
		if e, wanted := t.plan(l, now); wanted {
			t.runErrand(l, e, now)
		}
		t.turn(l)
		t.checkDrained()
	}
}

// nextErrand waits for the lane whose turn it is: while those who wait for an accept
// go before old deliveries, the first that takes others. nil: the tenure has ended.
func (t *tenure) nextErrand() *lane {
	for !t.ended() {
		if t.errands.len() == 0 {
			t.errand.Wait()
			continue
		}
		i, wait := 0, t.giveWayFor(t.errands.all()[0])
		if wait > 0 {
			i = slices.IndexFunc(t.errands.all(), func(l *lane) bool { return !l.givesWay() })
		}
		if i >= 0 {
			return t.errands.take(i)
		}
		t.mu.Unlock()
		t.pause(min(wait, judgeEvery), nil)
		t.mu.Lock()
	}
	return nil
}

// giveWayFor is how long the lane's errand has to wait for accepts.
func (t *tenure) giveWayFor(l *lane) time.Duration {
	if t.config.Strain == nil || !l.givesWay() {
		return 0
	}
	now := time.Now()
	t.giveWay.judge(t.config.Strain(), now)
	return t.giveWay.wait(now)
}

// givesWay tells that the lane takes old deliveries from the table.
func (l *lane) givesWay() bool { return l.old && l.gate == open }

// runErrand asks the store, without the lock.
func (t *tenure) runErrand(l *lane, e errand, now time.Time) {
	l.busy = true
	t.busy++
	if e.reason == "" {
		l.taking = e.limit
		t.memory.taking += e.limit
		l.forgetDue(now) // what becomes known during the call must stay known
	}
	t.mu.Unlock()
	owed, got, err := t.ask(l.id, e, now)
	t.mu.Lock()
	l.busy = false
	t.busy--
	t.memory.taking -= l.taking
	l.taking = 0
	if t.ended() {
		return
	}
	if err != nil {
		t.errandFailed(l, e, err)
		return
	}
	l.failures = 0
	all := got < e.limit
	switch e.reason {
	case waypost.ReasonEndpointDeleted:
		l.drop = !all
	case waypost.ReasonExpired:
		l.expire = !all
	case waypost.ReasonSkipped:
		if all {
			t.skipped[l.id] = e.before
		}
	default:
		t.taken(l, owed, e)
	}
}

func (t *tenure) ask(id waypost.EndpointID, e errand, now time.Time) (owed []store.Owed, got int, err error) {
	if e.reason != "" {
		got, err = t.config.Queue.Drop(t.table, id, e.before, e.reason, now, e.limit)
		if got > 0 {
			t.config.Log.Info("gave up deliveries", "endpoint", id.String(), "reason", e.reason, "deliveries", got)
		}
		return nil, got, err
	}
	owed, err = t.config.Queue.Take(t.table, t.node, id, now, e.limit, e.order)
	return owed, len(owed), err
}

func (t *tenure) errandFailed(l *lane, e errand, err error) {
	now := t.now()
	if e.reason == "" {
		l.search(now)
	}
	wait := min(minErrandWait<<min(l.failures, 8), maxErrandWait)
	l.failures++
	l.tableFrom = now.Add(wait)
	switch {
	case errors.Is(err, store.ErrLeaseLost):
		t.lost()
	case t.table.Err() == nil:
		t.config.Log.Warn("owed deliveries not reached", "endpoint", l.id.String(), "error", err)
	}
}

// taken puts a page into the lane's memory.
func (t *tenure) taken(l *lane, owed []store.Owed, e errand) {
	now := t.now()
	t.giveWay.took(len(owed), time.Now())
	bytes := 0
	for _, o := range owed {
		t.hold(l, o, now)
		bytes += len(o.Event.Body)
	}
	l.page = nextPage(len(owed), bytes)
	l.old = len(owed) > 0 && now.Sub(owed[0].Event.ReceivedAt()) > oldAfter
	switch {
	case len(owed) >= e.limit:
		l.note(now, now) // there may be more
	case l.blind:
		l.blind = len(l.dues) > 0
		t.scanner.request() // for when the next is due
	}
}

// nextPage is how many deliveries to take after so many with so many bytes.
func nextPage(taken, bytes int) int {
	fit := pageBytes * max(taken, 1) / max(bytes, 1)
	return max(1, min(max(2*taken, firstPage), pageSize, fit))
}

// scanner looks at Queue.Due: at the start, regularly, and on request.
type scanner struct {
	wanted chan struct{}
	// okAt is when the last look succeeded; guarded by tenure.mu.
	okAt time.Time
}

func newScanner() scanner {
	return scanner{wanted: make(chan struct{}, 1), okAt: time.Now()}
}

// request asks for a look soon.
func (s *scanner) request() {
	select {
	case s.wanted <- struct{}{}:
	default:
	}
}

func (t *tenure) runScanner() {
	backstop := t.config.Limits.Backstop
	if !t.regroup() || !t.pause(backstop, t.scanner.wanted) { // Members wants the first look
		return
	}
	var expiredAt time.Time
	for {
		expire := time.Since(expiredAt) >= t.config.Limits.ExpireEvery
		if expire {
			expiredAt = time.Now()
		}
		t.scan(expire)
		t.sweep()
		if !t.pause(min(scanGap, backstop), nil) || !t.pause(backstop-min(scanGap, backstop), t.scanner.wanted) {
			return
		}
	}
}

// pause waits, at most until wanted says something, and reports false when the
// tenure has ended.
func (t *tenure) pause(wait time.Duration, wanted <-chan struct{}) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-t.table.Done():
		return false
	case <-wanted:
	case <-timer.C:
	}
	return true
}

// scan wakes every lane that the table holds something for. With expire it also
// sees to what has waited too long for a URL.
func (t *tenure) scan(expire bool) {
	due, err := t.config.Queue.Due(t.table)
	if err != nil {
		if t.table.Err() == nil {
			t.config.Log.Warn("owed deliveries not listed", "error", err)
		}
		return
	}
	t.mu.Lock()
	t.scanner.okAt = time.Now()
	t.mu.Unlock()
	for _, d := range due {
		t.found(d, expire)
	}
}

func (t *tenure) found(d store.Due, expire bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != working {
		return
	}
	l := t.lane(d.Endpoint)
	l.drop = true // heeded only if the endpoint is gone
	l.expire = expire
	l.blind = l.blind || !l.knows(d.At, t.now())
	t.wakeLane(d.Endpoint, d.At)
}

// sweep lets go of lanes that are kept for nothing any more.
func (t *tenure) sweep() {
	t.mu.Lock()
	ids := make([]waypost.EndpointID, 0, len(t.lanes))
	for id := range t.lanes {
		ids = append(ids, id)
	}
	t.mu.Unlock()
	for _, id := range ids {
		t.mu.Lock()
		if l := t.lanes[id]; l != nil {
			t.turn(l)
		}
		t.mu.Unlock()
	}
}
