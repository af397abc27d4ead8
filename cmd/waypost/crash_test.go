package main_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// TestKilledAtAnyMoment is the promise itself: a gateway under load is killed
// with SIGKILL at random moments, again and again on the same data, and every
// event it answered 200 reaches every endpoint; nothing is left owed.
// WAYPOST_KILL_ROUNDS sets how often (default 20).
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	binary := build(t)
	for name, database := range map[string]func(*testing.T) string{
		"sqlite":   func(*testing.T) string { return "" },
		"postgres": func(t *testing.T) string { return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killRounds(t, binary, database(t), rounds(t))
		})
	}
}

func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("WAYPOST_KILL_ROUNDS")
	if text == "" {
		return 20
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("WAYPOST_KILL_ROUNDS=%q is not a number of rounds", text)
	}
	return n
}

func killRounds(t *testing.T, binary, database string, rounds int) {
	receiver := newLedger(t)
	g := newGateway(t, binary, database)
	g.start(t)
	g.configure(t, receiver.URL)

	accepted := newSet()
	for range rounds {
		stop := g.load(t, accepted)
		pause(t, time.Duration(20+rand.IntN(400))*time.Millisecond)
		g.kill(t)
		stop()
		g.start(t)
	}
	if accepted.len() < rounds {
		t.Fatalf("only %d events were accepted in %d rounds: the load was no load", accepted.len(), rounds)
	}
	t.Logf("%d events accepted over %d kills", accepted.len(), rounds)

	for _, endpoint := range []string{"/main", "/second", "/whizard"} {
		within(t, 60*time.Second, func() error {
			if missing := receiver.missing(endpoint, accepted); len(missing) > 0 {
				return fmt.Errorf("%s never received %d accepted events, such as %s", endpoint, len(missing), missing[0])
			}
			return nil
		})
	}
	for _, state := range []string{"pending", "held", "exhausted"} {
		within(t, 30*time.Second, func() error {
			if left := g.deliveries(t, state); left > 0 {
				return fmt.Errorf("%d deliveries are still %s", left, state)
			}
			return nil
		})
	}
	g.stop(t)
}

// gateway is one waypost process after another on the same data.
type gateway struct {
	binary, base string
	env          []string
	process      *exec.Cmd
	exited       chan struct{} // closed once process has ended
	log          *bytes.Buffer
}

const (
	adminToken = "admin-token-for-tests"
	appSecret  = "app-secret-for-tests"
)

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "waypost")
	command := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	return binary
}

func newGateway(t *testing.T, binary, database string) *gateway {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"WAYPOST_LISTEN=" + address, "WAYPOST_DATA=" + t.TempDir(), "WAYPOST_ADMIN_TOKEN=" + adminToken,
		"WAYPOST_META_APP_SECRET=" + appSecret, "WAYPOST_META_VERIFY_TOKEN=verify-token-for-tests",
		"WAYPOST_EGRESS_ALLOW=127.0.0.0/8", "WAYPOST_LOG=warn",
	}
	if database != "" {
		env = append(env, "WAYPOST_DATABASE="+database)
	}
	return &gateway{binary: binary, base: "http://" + address, env: env}
}

func (g *gateway) start(t *testing.T) {
	t.Helper()
	g.log = &bytes.Buffer{}
	g.process = exec.CommandContext(context.WithoutCancel(t.Context()), g.binary, "serve")
	g.process.Env, g.process.Stdout, g.process.Stderr = g.env, g.log, g.log
	if err := g.process.Start(); err != nil {
		t.Fatal(err)
	}
	process, exited := g.process, make(chan struct{})
	g.exited = exited
	t.Cleanup(func() { _ = process.Process.Kill() })
	go func() { _ = process.Wait(); close(exited) }()
	within(t, 30*time.Second, func() error {
		select {
		case <-exited:
			t.Fatalf("waypost ended by itself:\n%s", g.log)
		default:
		}
		response, err := http.Get(g.base + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz answers %s", response.Status)
		}
		return nil
	})
}

func (g *gateway) kill(t *testing.T) {
	t.Helper()
	if err := g.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-g.exited
}

func (g *gateway) stop(t *testing.T) {
	t.Helper()
	if err := g.process.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-g.exited
	if code := g.process.ProcessState.ExitCode(); code != 0 {
		t.Errorf("an orderly shutdown ended with exit code %d:\n%s", code, g.log)
	}
}

// configure registers a 360dialog webhook with a second destination, and a
// whizard one, all through their own APIs, with a ladder of short waits.
func (g *gateway) configure(t *testing.T, receiver string) {
	t.Helper()
	tenant := g.call(t, "POST", "/api/v1/tenants", `{"name":"acme"}`)["id"]
	number := g.call(t, "POST", "/api/v1/numbers",
		fmt.Sprintf(`{"tenant_id":%q,"phone":"15550142077","phone_number_id":"208417730961245","waba_id":"301956482217730"}`, tenant))["id"]
	key := func(dialect string) string {
		return g.call(t, "POST", "/api/v1/keys", fmt.Sprintf(`{"dialect":%q,"number_id":%q}`, dialect, number))["key"].(string)
	}
	d360 := http.Header{"D360-API-KEY": {key("360dialog")}}
	g.callWith(t, d360, "POST", "/v1/configs/webhook", fmt.Sprintf(`{"url":%q}`, receiver+"/main"))
	g.callWith(t, d360, "POST", "/multi_webhook", fmt.Sprintf(`{"enabled":true,"destinations":[{"name":"b","url":%q}]}`, receiver+"/second"))
	g.callWith(t, http.Header{"WHIZARD-KEY": {key("whizard")}}, "POST", "/v1/configs/webhook", fmt.Sprintf(`{"url":%q}`, receiver+"/whizard"))
	endpoints := g.call(t, "GET", fmt.Sprintf("/api/v1/endpoints?tenant_id=%s", tenant), "")["data"].([]any)
	if len(endpoints) != 3 {
		t.Fatalf("%d endpoints were registered, want 3: %v", len(endpoints), endpoints)
	}
	schedule, err := json.Marshal(repeat("300ms", 200))
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range endpoints {
		g.call(t, "PATCH", "/api/v1/endpoints/"+endpoint.(map[string]any)["id"].(string), fmt.Sprintf(`{"policy":{"schedule":%s}}`, schedule))
	}
}

func repeat(text string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = text
	}
	return list
}

var messageNumber atomic.Int64

// load posts signed events from several connections until it is stopped, and
// notes the ids of those that were answered 200.
func (g *gateway) load(t *testing.T, accepted *set) (stop func()) {
	t.Helper()
	var workers sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 6 {
		workers.Go(func() {
			for ctx.Err() == nil {
				ids := make([]string, 1+rand.IntN(3))
				for i := range ids {
					ids[i] = fmt.Sprintf("wamid.CRASH%08d", messageNumber.Add(1))
				}
				if g.post(ctx, batch(ids)) == http.StatusOK {
					accepted.add(ids...)
				}
			}
		})
	}
	return func() { cancel(); workers.Wait() }
}

func batch(ids []string) []byte {
	var messages bytes.Buffer
	for i, id := range ids {
		if i > 0 {
			messages.WriteByte(',')
		}
		fmt.Fprintf(&messages, `{"from":"447700900361","id":%q,"timestamp":"1767571200","type":"text","text":{"body":"hi"}}`, id)
	}
	return fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[{"value":{"messaging_product":"whatsapp",`+
		`"metadata":{"display_phone_number":"15550142077","phone_number_id":"208417730961245"},`+
		`"contacts":[{"profile":{"name":"Maren Holt"},"wa_id":"447700900361"}],"messages":[%s]},"field":"messages"}]}]}`, messages.String())
}

func (g *gateway) post(ctx context.Context, body []byte) int {
	mac := hmac.New(sha256.New, []byte(appSecret))
	mac.Write(body)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.base+"/ingest/meta/default", bytes.NewReader(body))
	if err != nil {
		return 0
	}
	request.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func (g *gateway) call(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	return g.callWith(t, http.Header{"Authorization": {"Bearer " + adminToken}}, method, path, body)
}

func (g *gateway) callWith(t *testing.T, header http.Header, method, path, body string) map[string]any {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, g.base+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		request.Header.Set(name, values[0])
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %s %v", method, path, response.Status, answer, err)
	}
	var decoded map[string]any
	if err := json.Unmarshal(answer, &decoded); err != nil {
		t.Fatalf("%s %s answered %s: %v", method, path, answer, err)
	}
	return decoded
}

func (g *gateway) deliveries(t *testing.T, state string) int {
	t.Helper()
	return len(g.call(t, "GET", "/api/v1/deliveries?state="+state+"&limit=1000", "")["data"].([]any))
}

// ledger is a receiver that notes which message ids arrived at which path.
type ledger struct {
	*httptest.Server
	mu       sync.Mutex
	received map[string]map[string]bool
}

var messageID = regexp.MustCompile(`wamid\.CRASH[0-9]+`)

func newLedger(t *testing.T) *ledger {
	t.Helper()
	l := &ledger{received: map[string]map[string]bool{}}
	l.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.received[r.URL.Path] == nil {
			l.received[r.URL.Path] = map[string]bool{}
		}
		for _, id := range messageID.FindAllString(string(body), -1) {
			l.received[r.URL.Path][id] = true
		}
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *ledger) missing(path string, want *set) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var missing []string
	for id := range want.all() {
		if !l.received[path][id] {
			missing = append(missing, id)
		}
	}
	return missing
}

type set struct {
	mu    sync.Mutex
	items map[string]bool
}

func newSet() *set { return &set{items: map[string]bool{}} }

func (s *set) add(items ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range items {
		s.items[item] = true
	}
}

func (s *set) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.items)
}

func (s *set) all() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := make(map[string]bool, len(s.items))
	for item := range s.items {
		items[item] = true
	}
	return items
}

// within polls until check passes, or fails with its last word.
func within(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after %v: %v", limit, err)
		}
	}
}

// pause lets the load run: it is the length of the experiment, not a wait for
// something to be done.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
