package backup_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/app/apptest"
	"github.com/waypost-gateway/waypost/internal/backup"
	"github.com/waypost-gateway/waypost/internal/emulator"
)

// TestRestoringUnderLoadAndCounting backs up a gateway of each kind while events
// pour in, kills it, and restores each backup into a store of each kind. Every
// event that was answered 200 before a backup began is in it and is delivered by
// what was restored from it, and nothing is left owed.
// WAYPOST_FAULTS=long makes more backups.
func TestRestoringUnderLoadAndCounting(t *testing.T) {
	t.Parallel()
	backups := 2
	if os.Getenv("WAYPOST_FAULTS") == "long" {
		backups = 12
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			underLoad(t, newPlace(t, kind), backups)
		})
	}
}

func underLoad(t *testing.T, from place, backups int) {
	s := newStage(t)
	g := start(t, from, secretKey)
	s.configure(t, g)
	settings := g.settings(t)
	stop := s.load(t, g)
	var all []taken
	for i := range backups {
		s.more(t, 40)
		all = append(all, s.backUp(t, from))
		all[i].first = i == 0
	}
	s.more(t, 20)
	g.kill(t)
	stop()
	s.mended.Store(true)
	for _, one := range all {
		for _, kind := range kinds {
			t.Run("into "+kind, func(t *testing.T) { s.restore(t, one, newPlace(t, kind), settings) })
		}
	}
	if fault := s.fault.Load(); fault != nil {
		t.Errorf("a hook was not signed with its endpoint's secret: %v", *fault)
	}
}

// taken is a backup and what had been accepted before it began.
type taken struct {
	first    bool
	summary  backup.Summary
	accepted map[string]bool
}

func (s *stage) backUp(t *testing.T, from place) taken {
	t.Helper()
	one := taken{accepted: s.acceptedNow()}
	file := filepath.Join(t.TempDir(), "backup")
	must(t, json.Unmarshal(from.run(t, "backup", file, "--json"), &one.summary))
	t.Logf("%s: %d events accepted before, %d in the backup, %d owed", from.kind, len(one.accepted), one.summary.Events, one.summary.Owed)
	if one.summary.Owed == 0 {
		t.Error("nothing was owed: the failing receiver did not fail")
	}
	return one
}

func (s *stage) restore(t *testing.T, one taken, to place, settings map[string]string) {
	var restored backup.Summary
	must(t, json.Unmarshal(to.run(t, "restore", one.summary.File, "--json"), &restored))
	if diff := cmp.Diff(one.summary, restored); diff != "" {
		t.Errorf("(-backed up +restored):\n%s", diff)
	}
	// A backup of what was restored tells what is there.
	file := filepath.Join(t.TempDir(), "again")
	again, err := backup.Take(t.Context(), to.options(file))
	must(t, err)
	delete(restored.Rows, "nodes")
	delete(again.Rows, "nodes")
	if diff := cmp.Diff(restored.Rows, again.Rows); diff != "" {
		t.Errorf("rows (-backed up +restored):\n%s", diff)
	}
	if missing := without(one.accepted, messagesIn(t, file)); len(missing) > 0 {
		t.Fatalf("%d events that were accepted before the backup are not in it, such as %s", len(missing), missing[0])
	}

	s.forget("/failing") // none of it had been received when the backup was taken
	if one.first {
		to.refuseToStart(t, strings.Repeat("B", 43)+"=")
	}
	g := start(t, to, secretKey)
	if diff := cmp.Diff(settings, g.settings(t)); diff != "" {
		t.Errorf("settings (-original +restored):\n%s", diff)
	}
	for _, path := range []string{"/healthy", "/failing"} {
		within(t, 60*time.Second, func() error {
			if missing := without(one.accepted, s.arrivedAt(path)); len(missing) > 0 {
				return fmt.Errorf("%d accepted events never arrived at %s, such as %s", len(missing), path, missing[0])
			}
			return nil
		})
	}
	for _, state := range []string{"pending", "held", "exhausted"} {
		within(t, 60*time.Second, func() error {
			if left := g.deliveries(t, state); left > 0 {
				return fmt.Errorf("%d deliveries are %s", left, state)
			}
			return nil
		})
	}
	g.kill(t)
}

// without lists what is in one set and not in the other.
func without(all, others map[string]bool) []string {
	var missing []string
	for one := range all {
		if !others[one] {
			missing = append(missing, one)
		}
	}
	return missing
}

var messageID = regexp.MustCompile(`wamid\.BACKUP[0-9]+`)

func messagesIn(t *testing.T, file string) map[string]bool {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	must(t, err)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT body FROM events`)
	must(t, err)
	defer rows.Close()
	found := map[string]bool{}
	for rows.Next() {
		var body []byte
		must(t, rows.Scan(&body))
		found[messageID.FindString(string(body))] = true
	}
	must(t, rows.Err())
	var inHand int
	must(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM deliveries WHERE node_id <> 0`).Scan(&inHand))
	if inHand > 0 {
		t.Errorf("%d restored deliveries are in the hand of a node that is not there", inHand)
	}
	return found
}

// stage is a receiver with two endpoints, one of which fails until it is mended,
// and the ledger of what was accepted and what arrived.
type stage struct {
	receiver *emulator.Receiver
	mended   atomic.Bool
	secret   atomic.Pointer[string] // of the healthy endpoint
	fault    atomic.Pointer[error]  // the first hook that was not signed with it
	number   atomic.Int64

	mu       sync.Mutex
	accepted map[string]bool
	arrived  map[string]map[string]bool // by path; what was answered 200
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{accepted: map[string]bool{}, arrived: map[string]map[string]bool{"/healthy": {}, "/failing": {}}}
	var err error
	s.receiver, err = emulator.NewReceiver(emulator.ReceiverOptions{Answers: s.answer})
	must(t, err)
	t.Cleanup(s.receiver.Close)
	return s
}

func (s *stage) answer(hook emulator.Request) emulator.Answer {
	if hook.Path == "/failing" && !s.mended.Load() {
		return emulator.Answer{Status: http.StatusInternalServerError}
	}
	if secret := s.secret.Load(); hook.Path == "/healthy" && secret != nil {
		if err := emulator.CheckStandard(*secret, hook); err != nil {
			s.fault.CompareAndSwap(nil, &err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range messageID.FindAllString(string(hook.Body), -1) {
		s.arrived[hook.Path][id] = true
	}
	return emulator.Answer{}
}

func (s *stage) acceptedNow() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.accepted)
}

func (s *stage) arrivedAt(path string) map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.arrived[path])
}

func (s *stage) forget(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.arrived[path])
}

// more waits until n more events are accepted.
func (s *stage) more(t *testing.T, n int) {
	t.Helper()
	enough := len(s.acceptedNow()) + n
	within(t, 60*time.Second, func() error {
		if got := len(s.acceptedNow()); got < enough {
			return fmt.Errorf("%d of %d events were accepted", got, enough)
		}
		return nil
	})
}

func (s *stage) configure(t *testing.T, g *gateway) {
	t.Helper()
	tenant := g.api(t, "POST", "/api/v1/tenants", `{"name":"acme"}`)["id"]
	g.api(t, "POST", "/api/v1/numbers", fmt.Sprintf(
		`{"tenant_id":%q,"phone":"15550142077","phone_number_id":"208417730961245","waba_id":"301956482217730"}`, tenant))
	const schedule = `"200ms"` + "," + `"1s"`
	for _, path := range []string{"/healthy", "/failing"} {
		made := g.api(t, "POST", "/api/v1/endpoints", fmt.Sprintf(
			`{"tenant_id":%q,"dialect":"standard","url":%q,"headers":{"X-Key":"s3cret"},"policy":{"schedule":[%s]}}`,
			tenant, s.receiver.URL()+path, strings.Repeat(schedule+",", 99)+schedule))
		if path == "/healthy" {
			secret := made["secret"].(string)
			s.secret.Store(&secret)
		}
	}
}

// load posts events, one and two at a time, until it is stopped.
func (s *stage) load(t *testing.T, g *gateway) (stop func()) {
	t.Helper()
	var workers sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for worker := range 3 {
		workers.Go(func() {
			tick := time.NewTicker(15 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				s.post(ctx, g, 1+worker%2)
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return func() { cancel(); workers.Wait() }
}

func (s *stage) post(ctx context.Context, g *gateway, n int) {
	var messages, ids []string
	for range n {
		id := fmt.Sprintf("wamid.BACKUP%08d", s.number.Add(1))
		ids = append(ids, id)
		messages = append(messages, fmt.Sprintf(`{"from":"447700900361","id":%q,"timestamp":"1767571200","type":"text","text":{"body":"hi"}}`, id))
	}
	body := fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"301956482217730","changes":[{"value":{"messaging_product":"whatsapp",`+
		`"metadata":{"display_phone_number":"15550142077","phone_number_id":"208417730961245"},"messages":[%s]},"field":"messages"}]}]}`, strings.Join(messages, ","))
	header := http.Header{"X-Hub-Signature-256": {apptest.Sign(apptest.AppSecret, body)}}
	status, _, err := g.do(ctx, "POST", "/ingest/meta/default", header, body)
	if err != nil || status != http.StatusOK {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.accepted[id] = true
	}
}

// The program as a process of its own.

// secretKey is 32 zero bytes.
var secretKey = strings.Repeat("A", 43) + "="

func (p place) env(t *testing.T, listen, key string) []string {
	return []string{
		programVariable + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir(),
		"WAYPOST_LISTEN=" + listen, "WAYPOST_DATA=" + p.data, "WAYPOST_DATABASE=" + p.database, "WAYPOST_SECRET_KEY=" + key,
		"WAYPOST_ADMIN_TOKEN=" + apptest.AdminToken, "WAYPOST_META_APP_SECRET=" + apptest.AppSecret,
		"WAYPOST_META_VERIFY_TOKEN=" + apptest.VerifyToken, "WAYPOST_EGRESS_ALLOW=127.0.0.0/8", "WAYPOST_LOG=warn",
	}
}

// command is a waypost process to be started.
func (p place) command(t *testing.T, listen, key string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	command := exec.CommandContext(context.WithoutCancel(t.Context()), self, args...)
	command.Env = p.env(t, listen, key)
	return command
}

// run runs a command that must end well and gives what it printed.
func (p place) run(t *testing.T, args ...string) []byte {
	t.Helper()
	command := p.command(t, "127.0.0.1:0", secretKey, args...)
	var errs bytes.Buffer
	command.Stderr = &errs
	out, err := command.Output()
	if err != nil {
		t.Fatalf("waypost %s: %v\n%s", args[0], err, &errs)
	}
	return out
}

func (p place) refuseToStart(t *testing.T, key string) {
	t.Helper()
	out, err := p.command(t, "127.0.0.1:0", key, "serve").CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); !exited || !strings.Contains(string(out), "WAYPOST_SECRET_KEY is not the key that this database was written with") {
		t.Errorf("a gateway with another key: %v\n%s", err, out)
	}
}

type gateway struct {
	base    string
	process *exec.Cmd
	exited  chan struct{}
	log     *bytes.Buffer
}

func start(t *testing.T, p place, key string) *gateway {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := listener.Addr().String()
	listener.Close()
	g := &gateway{base: "http://" + address, process: p.command(t, address, key, "serve"), exited: make(chan struct{}), log: &bytes.Buffer{}}
	g.process.Stdout, g.process.Stderr = g.log, g.log
	must(t, g.process.Start())
	t.Cleanup(func() { _ = g.process.Process.Kill() })
	go func() { _ = g.process.Wait(); close(g.exited) }()
	within(t, 60*time.Second, func() error {
		select {
		case <-g.exited:
			t.Fatalf("waypost ended by itself:\n%s", g.log)
		default:
		}
		status, _, err := g.do(t.Context(), "GET", "/readyz", nil, nil)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("/readyz answers %d", status)
		}
		return err
	})
	return g
}

func (g *gateway) kill(t *testing.T) {
	t.Helper()
	must(t, g.process.Process.Kill())
	<-g.exited
}

func (g *gateway) do(ctx context.Context, method, path string, header http.Header, body []byte) (status int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, g.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	maps.Copy(request.Header, header)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

func (g *gateway) api(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + apptest.AdminToken}, "Content-Type": {"application/json"}}
	status, answer, err := g.do(t.Context(), method, path, header, []byte(body))
	if err != nil || status >= 300 {
		t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
	}
	var decoded map[string]any
	must(t, json.Unmarshal(answer, &decoded))
	return decoded
}

// settings are what the API shows of them.
func (g *gateway) settings(t *testing.T) map[string]string {
	t.Helper()
	shown := map[string]string{}
	for _, path := range []string{"/api/v1/tenants", "/api/v1/numbers", "/api/v1/endpoints", "/api/v1/sources"} {
		shown[path] = fmt.Sprint(g.api(t, "GET", path, "")["data"])
	}
	return shown
}

func (g *gateway) deliveries(t *testing.T, state string) int {
	t.Helper()
	return len(g.api(t, "GET", "/api/v1/deliveries?state="+state+"&limit=1000", "")["data"].([]any))
}

func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// within polls until check passes, or fails with its last word.
func within(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	var last error
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if last = check(); last == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %v: %v", limit, last)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
