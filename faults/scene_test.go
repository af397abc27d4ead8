package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The endpoints of a scene, by the path their hooks come to. The clone waits for
// the main one.
const (
	pathMain     = "/main"
	pathClone    = "/clone"
	pathWhizard  = "/whizard"
	pathStandard = "/standard"
	pathMeta     = "/meta"
)

var allPaths = []string{pathMain, pathClone, pathWhizard, pathStandard, pathMeta}

const (
	phone         = "15550142077"
	phoneNumberID = "208417730961245"
	wabaID        = "301956482217730"
)

// scene is a gateway with one number, five endpoints in four dialects, and the
// receiver behind them.
type scene struct {
	*gateway
	*ledger
	receiver  *receiver
	tenant    string
	number    string
	d360      http.Header       // the number's 360dialog key
	endpoints map[string]string // id by path
	again     []time.Duration   // how long it took to be delivering again, by fault
	caughtUp  time.Duration     // the longest until all that was owed at a fault had arrived
	resting   sync.RWMutex      // held by who needs the load to rest
}

// newScene starts the gateway and registers the endpoints through their own APIs.
func newScene(t *testing.T, g *gateway) *scene {
	t.Helper()
	s := &scene{gateway: g, ledger: newLedger(allPaths...), endpoints: map[string]string{}}
	s.receiver = newReceiver(t, s.ledger)
	g.start(t)
	s.tenant = g.call(t, http.MethodPost, "/api/v1/tenants", `{"name":"acme"}`)["id"].(string)
	s.number = g.call(t, http.MethodPost, "/api/v1/numbers",
		fmt.Sprintf(`{"tenant_id":%q,"phone":%q,"phone_number_id":%q,"waba_id":%q}`, s.tenant, phone, phoneNumberID, wabaID))["id"].(string)
	s.d360 = http.Header{"D360-Api-Key": {s.newKey(t, "360dialog")}}
	whizard := http.Header{"Whizard-Key": {s.newKey(t, "whizard")}}
	g.callWith(t, s.d360, http.MethodPost, "/v1/configs/webhook", fmt.Sprintf(`{"url":%q}`, s.receiver.URL+pathMain))
	g.callWith(t, s.d360, http.MethodPost, "/multi_webhook",
		fmt.Sprintf(`{"enabled":true,"destinations":[{"name":"b","url":%q}]}`, s.receiver.URL+pathClone))
	g.callWith(t, whizard, http.MethodPost, "/v1/configs/webhook", fmt.Sprintf(`{"url":%q}`, s.receiver.URL+pathWhizard))
	for dialect, path := range map[string]string{"standard": pathStandard, "meta": pathMeta} {
		g.call(t, http.MethodPost, "/api/v1/endpoints",
			fmt.Sprintf(`{"tenant_id":%q,"dialect":%q,"url":%q}`, s.tenant, dialect, s.receiver.URL+path))
	}
	for _, endpoint := range g.list(t, "/api/v1/endpoints?tenant_id="+s.tenant) {
		address, err := url.Parse(endpoint["url"].(string))
		if err != nil {
			t.Fatal(err)
		}
		s.endpoints[address.Path] = endpoint["id"].(string)
		s.patch(t, address.Path, fmt.Sprintf(`{"policy":{"schedule":%s,"timeout":"5s"}}`, schedule(300*time.Millisecond, 200)))
	}
	if len(s.endpoints) != len(allPaths) {
		t.Fatalf("%d endpoints were registered, want %d: %v", len(s.endpoints), len(allPaths), s.endpoints)
	}
	s.awaitSettings(t)
	return s
}

func (s *scene) newKey(t *testing.T, dialect string) string {
	t.Helper()
	return s.call(t, http.MethodPost, "/api/v1/keys", fmt.Sprintf(`{"dialect":%q,"number_id":%q}`, dialect, s.number))["key"].(string)
}

func (s *scene) patch(t *testing.T, path, change string) {
	t.Helper()
	s.call(t, http.MethodPatch, "/api/v1/endpoints/"+s.endpoints[path], change)
}

func (s *scene) endpoint(t *testing.T, path string) map[string]any {
	t.Helper()
	return s.call(t, http.MethodGet, "/api/v1/endpoints/"+s.endpoints[path], "")
}

// awaitSettings waits until every node knows the last change.
func (s *scene) awaitSettings(t *testing.T) {
	t.Helper()
	want := s.list(t, "/api/v1/endpoints?tenant_id="+s.tenant)
	for _, n := range s.nodes {
		within(t, againWithin, func() error {
			have := (&gateway{nodes: []*node{n}}).list(t, "/api/v1/endpoints?tenant_id="+s.tenant)
			for i := range want {
				if len(have) != len(want) || have[i]["updated_at"] != want[i]["updated_at"] {
					return fmt.Errorf("node %s does not know the settings", n.name)
				}
			}
			return nil
		})
	}
}

// schedule is a ladder of n equal waits, as JSON.
func schedule(wait time.Duration, n int) string {
	text, err := json.Marshal(slices.Repeat([]string{wait.String()}, n))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// request is a webhook of text messages, as Meta sends it. The text may be given.
func request(numbers []int, text ...string) []byte {
	body := strings.Join(append(text, "hi"), " ")
	var messages bytes.Buffer
	for i, number := range numbers {
		if i > 0 {
			messages.WriteByte(',')
		}
		fmt.Fprintf(&messages, `{"from":"447700900361","id":%q,"timestamp":"1767571200","type":"text","text":{"body":%q}}`, messageID(number), body)
	}
	return fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":%q,"changes":[{"value":{"messaging_product":"whatsapp",`+
		`"metadata":{"display_phone_number":%q,"phone_number_id":%q},`+
		`"contacts":[{"profile":{"name":"Maren Holt"},"wa_id":"447700900361"}],"messages":[%s]},"field":"messages"}]}]}`,
		wabaID, phone, phoneNumberID, messages.String())
}

// post posts fresh events and expects them to be accepted.
func (s *scene) post(t *testing.T, n int) []int {
	t.Helper()
	fresh := s.take(n)
	if status := s.balanced().ingest(t.Context(), request(fresh)); status != http.StatusOK {
		t.Fatalf("ingest answered %d", status)
	}
	s.accept(fresh)
	return fresh
}

// load is a generator at work.
type load struct {
	enough  chan struct{} // closed: what was begun is seen through, nothing new is begun
	cancel  context.CancelFunc
	workers sync.WaitGroup
	once    sync.Once

	mu      sync.Mutex
	answers map[int]int // by status; 0: no answer
	longest time.Duration
}

const senders = 4

// load posts a few hundred events a second from several connections, each
// repeated, at whatever node, until it is answered 200.
func (s *scene) load(t *testing.T) *load {
	t.Helper()
	return s.loadEvery(t, 40*time.Millisecond)
}

func (s *scene) loadEvery(t *testing.T, every time.Duration) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &load{enough: make(chan struct{}), cancel: cancel, answers: map[int]int{}}
	for range senders {
		l.workers.Go(func() {
			pace := time.NewTicker(every)
			defer pace.Stop()
			for l.going(ctx) {
				s.send(ctx, l, pace.C)
				await(ctx, pace.C)
			}
		})
	}
	t.Cleanup(func() { cancel(); l.workers.Wait() })
	return l
}

func (l *load) going(ctx context.Context) bool {
	select {
	case <-l.enough:
		return false
	default:
		return ctx.Err() == nil
	}
}

// send posts one request until it is accepted.
func (s *scene) send(ctx context.Context, l *load, pace <-chan time.Time) {
	s.resting.RLock()
	defer s.resting.RUnlock()
	fresh := s.take(1 + rand.IntN(3))
	body := request(fresh)
	for ctx.Err() == nil {
		began := time.Now()
		status := s.balanced().ingest(ctx, body)
		l.note(status, time.Since(began))
		if status == http.StatusOK {
			s.accept(fresh)
			return
		}
		await(ctx, pace)
	}
}

func await(ctx context.Context, tick <-chan time.Time) {
	select {
	case <-tick:
	case <-ctx.Done():
	}
}

// stop ends the load once everything that was posted is accepted.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.once.Do(func() { close(l.enough) })
	done := make(chan struct{})
	go func() { l.workers.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("a webhook was repeated for a minute and never accepted")
	}
	l.check(t)
}

func (l *load) note(status int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[status]++
	l.longest = max(l.longest, took)
}

// answered is how often the generator was given the status.
func (l *load) answered(status int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers[status]
}

// check fails on answers that no sender should get, whatever is broken.
func (l *load) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for status, count := range l.answers {
		if status != 0 && status != http.StatusOK && status != http.StatusServiceUnavailable {
			t.Errorf("ingest answered %d, %d times", status, count)
		}
	}
}

// awaitAccepted waits until n more events were accepted.
func (s *scene) awaitAccepted(t *testing.T, n int) {
	t.Helper()
	goal := s.acceptedTotal() + n
	within(t, 2*time.Minute, func() error {
		if have := s.acceptedTotal(); have < goal {
			return fmt.Errorf("%d events were accepted, want %d", have, goal)
		}
		return nil
	})
}

// awaitAgain waits until something has arrived everywhere since a time, and notes
// how long that took.
func (s *scene) awaitAgain(t *testing.T, since time.Time) {
	t.Helper()
	within(t, time.Minute, func() error {
		for path := range s.places {
			if !s.arrivedSince(path, since) {
				return fmt.Errorf("nothing arrives at %s", path)
			}
		}
		return nil
	})
	s.noteAgain(t, since)
}

// awaitNew is awaitAgain for an event that was made after another: it must have
// been accepted as well.
func (s *scene) awaitNew(t *testing.T, since time.Time, after int) {
	t.Helper()
	within(t, time.Minute, func() error {
		for path := range s.places {
			if !s.hasArrived(path, after) {
				return fmt.Errorf("no new event arrives at %s", path)
			}
		}
		return nil
	})
	s.noteAgain(t, since)
}

func (s *scene) noteAgain(t *testing.T, since time.Time) {
	t.Helper()
	took := time.Since(since)
	s.again = append(s.again, took)
	if took > againWithin {
		t.Errorf("delivering again only after %v", took.Round(time.Millisecond))
	}
}

// awaitOwed waits until all that was accepted up to an event has arrived, what
// dead nodes had in hand too, and notes how long that took.
func (s *scene) awaitOwed(t *testing.T, since time.Time, upTo int) {
	t.Helper()
	within(t, time.Minute, func() error {
		for path := range s.places {
			if count, example := s.missing(path, upTo); count > 0 {
				return fmt.Errorf("%s did not receive %d events that were accepted before the fault, such as %s", path, count, messageID(example))
			}
		}
		return nil
	})
	took := time.Since(since)
	s.caughtUp = max(s.caughtUp, took)
	if took > caughtUpWithin {
		t.Errorf("what was owed at the fault arrived only after %v", took.Round(time.Millisecond))
	}
}

// close is the closing check: everything accepted arrived everywhere, nothing is
// left owed or given up, and what arrived twice was under way at a fault.
func (s *scene) close(t *testing.T, name, remark string) {
	t.Helper()
	s.awaitEverything(t)
	for _, state := range []string{"pending", "held", "exhausted"} {
		within(t, 30*time.Second, func() error {
			if left := s.list(t, "/api/v1/deliveries?state="+state); len(left) > 0 {
				return fmt.Errorf("%d deliveries are still %s, such as %v", len(left), state, left[0])
			}
			return nil
		})
	}
	if strange := s.unexplained(); len(strange) > 0 {
		r := strange[0]
		t.Errorf("%d events arrived twice though nothing was broken, such as %s at %s: at %s and again at %s",
			len(strange), messageID(r.number), r.path, r.first.Format(time.StampMilli), r.again.Format(time.StampMilli))
	}
	s.report(t, name, remark)
}

// awaitEverything waits until all that was accepted has arrived.
func (s *scene) awaitEverything(t *testing.T) {
	t.Helper()
	for path := range s.places {
		within(t, 90*time.Second, func() error {
			if count, example := s.missing(path, s.newest()); count > 0 {
				return fmt.Errorf("%s never received %d accepted events, such as %s", path, count, messageID(example))
			}
			return nil
		})
	}
}

// expectOnce fails if anything arrived twice, for scenarios without excuse.
func (s *scene) expectOnce(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.repeats) > 0 {
		r := s.repeats[0]
		t.Errorf("%d events arrived twice, such as %s at %s: at %s and again at %s",
			len(s.repeats), messageID(r.number), r.path, r.first.Format(time.StampMilli), r.again.Format(time.StampMilli))
	}
}

// report adds the scenario's figures.
func (s *scene) report(t *testing.T, name, remark string) {
	t.Helper()
	arrived, repeated := s.totals()
	again, caughtUp := "–", "–"
	if len(s.again) > 0 {
		slices.Sort(s.again)
		again = fmt.Sprintf("%s, %s", brief(s.again[len(s.again)/2]), brief(s.again[len(s.again)-1]))
	}
	if s.caughtUp > 0 {
		caughtUp = brief(s.caughtUp)
	}
	figures.add(t, fmt.Sprintf("| %s | %d | %d | %d | %d | %d | %s | %s | %s |",
		name, len(s.faults), s.acceptedTotal(), s.acceptedTotal()*len(s.places), arrived, repeated, again, caughtUp, remark))
}

func brief(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// receiver is where all endpoints of a scene lead. It answers 200 and notes what
// arrived, unless a path was told to behave otherwise.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	behave map[string]behaviour
}

// behaviour decides on a hook: an answer of 2xx means that it arrived, and 0
// that the behaviour has answered, or not, by itself.
type behaviour func(w http.ResponseWriter, r *http.Request, numbers []int) (status int)

func newReceiver(t *testing.T, l *ledger) *receiver {
	t.Helper()
	v := &receiver{behave: map[string]behaviour{}}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		found, status := numbers(body), http.StatusOK
		v.mu.Lock()
		behave := v.behave[r.URL.Path]
		v.mu.Unlock()
		if behave != nil {
			status = behave(w, r, found)
		}
		if status/100 == 2 {
			l.arrive(r.URL.Path, found)
		}
		if status != 0 {
			w.WriteHeader(status)
		}
	}))
	t.Cleanup(func() {
		v.CloseClientConnections()
		v.Close()
	})
	return v
}

// at has a path behave from now on; nil: as it should.
func (v *receiver) at(path string, b behaviour) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.behave[path] = b
}

// answering always gives the same status.
func answering(status int) behaviour {
	return func(http.ResponseWriter, *http.Request, []int) int { return status }
}

// moody refuses one hook in sixteen, so that there are always retries about.
func moody() behaviour {
	return func(http.ResponseWriter, *http.Request, []int) int {
		if rand.IntN(16) == 0 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	}
}
