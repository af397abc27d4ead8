package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/signature"
)

// gateway is a number of nodes on one database.
type gateway struct {
	nodes []*node
	next  atomic.Uint32 // which node the load goes to next
}

// gatewayOptions say what to start. The zero value is one node on SQLite.
type gatewayOptions struct {
	Database string
	Nodes    int      // default 1
	Env      []string // for all nodes, after what the harness sets
	Program  string   // default: the program of this tree
	Data     string   // data directory; default: one of its own for each node
	Wrap     []string // a command that runs the program given after it
}

const (
	adminToken  = "admin-token-for-tests"
	appSecret   = "app-secret-for-tests"
	verifyToken = "verify-token-for-tests"
)

// sealKey is what all nodes seal secrets with: 32 bytes in base64.
const sealKey = "ZmF1bHRzLWZhdWx0cy1mYXVsdHMtZmF1bHRzLWZhdWw="

func newGateway(t *testing.T, o gatewayOptions) *gateway {
	t.Helper()
	if o.Program == "" {
		o.Program = program(t)
	}
	g := &gateway{}
	for i := range max(o.Nodes, 1) {
		data := o.Data
		if data == "" {
			data = t.TempDir()
		}
		address := freeAddress(t)
		n := &node{name: strconv.Itoa(i + 1), program: append(slices.Clone(o.Wrap), o.Program, "serve"), base: "http://" + address}
		n.env = append([]string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
			"WAYPOST_LISTEN=" + address, "WAYPOST_DATA=" + data, "WAYPOST_DATABASE=" + o.Database,
			"WAYPOST_ADMIN_TOKEN=" + adminToken, "WAYPOST_SECRET_KEY=" + sealKey,
			"WAYPOST_META_APP_SECRET=" + appSecret, "WAYPOST_META_VERIFY_TOKEN=" + verifyToken,
			"WAYPOST_EGRESS_ALLOW=127.0.0.0/8", "WAYPOST_LOG=warn",
		}, o.Env...)
		g.nodes = append(g.nodes, n)
		t.Cleanup(func() {
			n.end()
			if t.Failed() {
				t.Logf("node %s logged:\n%s", n.name, n.log.tail())
			}
		})
	}
	return g
}

// freeAddress is below the ports that the system gives to outgoing connections,
// so that nobody gets it while the node that had it is dead.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(16000))
		if listener, err := net.Listen("tcp", address); err == nil {
			listener.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// start starts all nodes at once.
func (g *gateway) start(t *testing.T) {
	t.Helper()
	for _, n := range g.nodes {
		n.launch(t)
	}
	for _, n := range g.nodes {
		n.awaitReady(t)
	}
}

// node is one waypost process after another with the same settings.
type node struct {
	name    string
	program []string
	base    string
	env     []string
	log     logBuffer
	frozen  atomic.Bool

	mu      sync.Mutex
	process *os.Process   // nil: none was started
	exited  chan struct{} // closed once it has ended
	code    int           // its exit code, then
}

// launch starts the process and does not wait until it answers.
func (n *node) launch(t *testing.T) {
	t.Helper()
	command := exec.Command(n.program[0], n.program[1:]...)
	command.Env, command.Stdout, command.Stderr = n.env, &n.log, &n.log
	command.SysProcAttr = dieWithParent()
	started, exited := make(chan error), make(chan struct{})
	go func() {
		// The system watches the thread that starts the process, not us.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // the code says how it ended
			n.mu.Lock()
			n.code = command.ProcessState.ExitCode()
			n.mu.Unlock()
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		t.Fatalf("start waypost: %v", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.process, n.exited = command.Process, exited
}

func (n *node) awaitReady(t *testing.T) {
	t.Helper()
	within(t, 60*time.Second, func() error {
		if !n.running() {
			t.Fatalf("node %s ended by itself:\n%s", n.name, n.log.tail())
		}
		return n.ready()
	})
}

func (n *node) ready() error {
	status, _, err := n.do(context.Background(), http.MethodGet, "/readyz", nil, "")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("node %s is not ready: %d", n.name, status)
	}
	return err
}

func (n *node) start(t *testing.T) {
	t.Helper()
	n.launch(t)
	n.awaitReady(t)
}

func (n *node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.exited == nil {
		return false
	}
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

// kill is kill -9.
func (n *node) kill(t *testing.T) {
	t.Helper()
	if !n.running() {
		t.Fatalf("node %s ended by itself:\n%s", n.name, n.log.tail())
	}
	n.end()
}

func (n *node) end() {
	n.mu.Lock()
	process, exited := n.process, n.exited
	n.mu.Unlock()
	if process == nil {
		return
	}
	_ = process.Kill() // an error means that it has ended
	<-exited
}

// terminate asks for an orderly shutdown and does not wait for it.
func (n *node) terminate(t *testing.T) {
	t.Helper()
	n.signal(t, syscall.SIGTERM)
}

func (n *node) signal(t *testing.T, s os.Signal) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.process.Signal(s); err != nil {
		t.Fatalf("send %v to node %s: %v", s, n.name, err)
	}
}

func (n *node) stop(t *testing.T) {
	t.Helper()
	n.terminate(t)
	n.awaitEnd(t)
}

func (n *node) awaitEnd(t *testing.T) {
	t.Helper()
	select {
	case <-n.exited:
	case <-time.After(60 * time.Second):
		t.Fatalf("node %s does not end:\n%s", n.name, n.log.tail())
	}
	if n.code != 0 {
		t.Errorf("the orderly shutdown of node %s ended with exit code %d:\n%s", n.name, n.code, n.log.tail())
	}
}

// client is one for all: connections to nodes that died are dropped by it.
var client = &http.Transport{MaxIdleConnsPerHost: 32, ResponseHeaderTimeout: 30 * time.Second}

func (n *node) do(ctx context.Context, method, path string, header http.Header, body string) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, n.base+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for name, values := range header {
		request.Header.Set(name, values[0])
	}
	response, err := client.RoundTrip(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// ingest posts a body as Meta would. Status 0: there was no answer.
func (n *node) ingest(ctx context.Context, body []byte) int {
	header := http.Header{"X-Hub-Signature-256": {signature.Meta(appSecret, body)}}
	status, _, err := n.do(ctx, http.MethodPost, "/ingest/meta/default", header, string(body))
	if err != nil {
		return 0
	}
	return status
}

// balanced gives the nodes in turn, as a load balancer would that takes out what
// hangs, but not what refuses.
func (g *gateway) balanced() *node {
	for {
		if n := g.nodes[int(g.next.Add(1))%len(g.nodes)]; !n.frozen.Load() {
			return n
		}
	}
}

var asOperator = http.Header{"Authorization": {"Bearer " + adminToken}}

// call is a call to the management API of a node that runs; an answer of 300 or
// more fails the test.
func (g *gateway) call(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	return g.callWith(t, asOperator, method, path, body)
}

func (g *gateway) callWith(t *testing.T, header http.Header, method, path, body string) map[string]any {
	t.Helper()
	i := slices.IndexFunc(g.nodes, (*node).running)
	if i < 0 {
		t.Fatal("no node runs")
	}
	return g.nodes[i].call(t, header, method, path, body)
}

func (n *node) call(t *testing.T, header http.Header, method, path, body string) map[string]any {
	t.Helper()
	header = header.Clone()
	header.Set("Content-Type", "application/json")
	status, answer, err := n.do(t.Context(), method, path, header, body)
	if err != nil || status >= 300 {
		t.Fatalf("%s %s answered %d %s %v", method, path, status, answer, err)
	}
	var decoded map[string]any
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &decoded); err != nil {
			t.Fatalf("%s %s answered %s: %v", method, path, answer, err)
		}
	}
	return decoded
}

// list is the first page, of a thousand, of a list.
func (g *gateway) list(t *testing.T, path string) []map[string]any {
	t.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	var rows []map[string]any
	for _, row := range g.call(t, http.MethodGet, path+separator+"limit=1000", "")["data"].([]any) {
		rows = append(rows, row.(map[string]any))
	}
	return rows
}

// logBuffer keeps the end of what a node logs.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

const logKept = 64 << 10

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text.Len() > 8*logKept {
		l.text.Next(l.text.Len() - logKept)
	}
	return l.text.Write(p)
}

func (l *logBuffer) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.text.String()
	return text[max(0, len(text)-4<<10):]
}
