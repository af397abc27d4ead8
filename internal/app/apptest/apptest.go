// Package apptest starts a whole Waypost inside a test: real store, real HTTP
// over loopback, in a temporary directory. It is for tests only.
package apptest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/app"
	"github.com/waypost-gateway/waypost/internal/config"
	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// What every test gateway is configured with.
const (
	AdminToken  = "admin-token-for-tests"
	AppSecret   = "app-secret-for-tests"
	VerifyToken = "verify-token-for-tests"
	OnPremToken = "onprem-token-for-tests"
)

// Gateway is a running Waypost.
type Gateway struct {
	*app.App
	URL    string // http://127.0.0.1:port
	Log    *Log
	Config config.Config
	stop   func() error
}

// Stores runs a test once on each database, as parallel subtests.
func Stores(t *testing.T, test func(t *testing.T, database string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, "")
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, pgtest.URL(t))
	})
}

// Start starts a gateway on a database ("" for SQLite) and stops it when the
// test ends. change, if not nil, may edit the configuration first.
func Start(t testing.TB, database string, change func(*config.Config)) *Gateway {
	t.Helper()
	c := config.Default()
	c.Listen = "127.0.0.1:0"
	c.Data = t.TempDir()
	c.Database = database
	c.AdminToken = AdminToken
	c.MetaAppSecret = []config.Secret{AppSecret}
	c.MetaVerifyToken = VerifyToken
	c.OnPremToken = OnPremToken
	c.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	if change != nil {
		change(&c)
	}
	return Restart(t, c)
}

// Restart starts a gateway on a configuration that an earlier one had.
func Restart(t testing.TB, c config.Config) *Gateway {
	t.Helper()
	g := &Gateway{Log: &Log{}, Config: c}
	a, err := app.New(t.Context(), app.Options{
		Config: c, Log: slog.New(slog.NewJSONHandler(g.Log, &slog.HandlerOptions{Level: slog.LevelDebug})), Stdout: io.Discard, Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	g.App, g.URL = a, "http://"+a.Addr()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	g.stop = sync.OnceValue(func() error {
		cancel()
		err := <-ended
		if closeErr := a.Close(); err == nil {
			err = closeErr
		}
		return err
	})
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Errorf("stopping the gateway: %v", err)
		}
		if t.Failed() {
			t.Logf("gateway log:\n%s", g.Log)
		}
	})
	Within(t, 20*time.Second, func() bool { status, _ := g.Do(t, http.MethodGet, "/readyz", nil, ""); return status == http.StatusOK })
	return g
}

// Stop shuts the gateway down in order. It may be called more than once.
func (g *Gateway) Stop() error { return g.stop() }

// Do makes one request and gives status and body.
func (g *Gateway) Do(t testing.TB, method, path string, header http.Header, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// API calls the management API as the operator; an answer of 300 or more fails
// the test.
func (g *Gateway) API(t testing.TB, method, path, body string) map[string]any {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + AdminToken}, "Content-Type": {"application/json"}}
	status, answer := g.Do(t, method, path, header, body)
	if status >= 300 {
		t.Fatalf("%s %s answered %d: %s", method, path, status, answer)
	}
	var decoded map[string]any
	if answer != "" {
		if err := json.Unmarshal([]byte(answer), &decoded); err != nil {
			t.Fatalf("%s %s answered %q: %v", method, path, answer, err)
		}
	}
	return decoded
}

// Ingest posts a body as Meta would, signed, and gives the status.
func (g *Gateway) Ingest(t testing.TB, body []byte) int {
	t.Helper()
	status, _ := g.Do(t, http.MethodPost, "/ingest/meta/default", http.Header{"X-Hub-Signature-256": {Sign(AppSecret, body)}}, string(body))
	return status
}

// Sign is Meta's signature header.
func Sign(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// Hook is one request a Receiver got.
type Hook struct {
	Path   string
	Header http.Header
	Body   []byte
}

// Receiver is a webhook receiver that keeps what it gets.
type Receiver struct {
	*httptest.Server
	mu    sync.Mutex
	hooks []Hook
}

// NewReceiver starts a receiver. answer, if not nil, writes the answers; by
// default they are 200 without a body.
func NewReceiver(t testing.TB, answer func(w http.ResponseWriter, hook Hook)) *Receiver {
	t.Helper()
	r := &Receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		hook := Hook{request.URL.Path, request.Header, body}
		r.mu.Lock()
		r.hooks = append(r.hooks, hook)
		r.mu.Unlock()
		if answer != nil {
			answer(w, hook)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// Hooks are those that came to a path so far.
func (r *Receiver) Hooks(path string) []Hook {
	r.mu.Lock()
	defer r.mu.Unlock()
	var hooks []Hook
	for _, hook := range r.hooks {
		if hook.Path == path {
			hooks = append(hooks, hook)
		}
	}
	return hooks
}

// Wait waits until n hooks have come to a path and gives them.
func (r *Receiver) Wait(t testing.TB, path string, n int) []Hook {
	t.Helper()
	Within(t, 15*time.Second, func() bool { return len(r.Hooks(path)) >= n })
	return r.Hooks(path)
}

// Within polls until the condition holds, and fails the test if it does not in
// time.
func Within(t testing.TB, limit time.Duration, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %v in vain", limit)
		}
	}
}

// Log keeps what the gateway logs.
type Log struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}
