package httpserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type running struct {
	*Server
	log  *safeBuffer
	stop func() error
}

func start(t *testing.T, options Options) running {
	t.Helper()
	log := &safeBuffer{}
	options.Address, options.Log = "127.0.0.1:0", slog.New(slog.NewJSONHandler(log, nil))
	server, err := New(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	return running{server, log, stop}
}

func (r running) get(t *testing.T, path string) (int, string, http.Header) {
	t.Helper()
	response, err := http.Get("http://" + r.Addr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body), response.Header
}

func TestOneLogLinePerRequestWithoutSecrets(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /things/{id}", func(w http.ResponseWriter, _ *http.Request) {
		w.(interface{ Because(error) }).Because(errors.New("it is short and stout"))
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "short")
	})
	r := start(t, Options{Handler: mux})
	status, _, header := r.get(t, "/things/sesame?token=sesame")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(r.log.String()), "\n")
	if status != http.StatusTeapot || len(lines) != 1 {
		t.Fatalf("status %d, log:\n%s", status, r.log)
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &line); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"msg": "http.request", "method": "GET", "route": "GET /things/{id}", "status": 418.0, "bytes": 5.0,
		"remote": "127.0.0.1", "request": header.Get("X-Request-Id"), "error": "it is short and stout",
	} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
	if strings.Contains(lines[0], "sesame") {
		t.Errorf("the log shows what was in the URL: %s", lines[0])
	}
}

func TestPanicCostsOneRequest(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Handler: http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		if request.URL.Path == "/boom" {
			panic("boom")
		}
	})})
	if status, body, header := r.get(t, "/boom"); status != 500 || body != `{"error":"internal error"}`+"\n" || header.Get("Content-Type") != "application/json" {
		t.Errorf("a panic was answered %d %q", status, body)
	}
	if status, _, _ := r.get(t, "/fine"); status != 200 {
		t.Errorf("the next request was answered %d", status)
	}
	if !strings.Contains(r.log.String(), "handler panicked") {
		t.Error("the panic is not in the log")
	}
}

func TestRequestsUnderWayFinish(t *testing.T) {
	t.Parallel()
	bothWays(t, testRequestsUnderWay)
}

func testRequestsUnderWay(t *testing.T, direct []string) {
	entered, release := make(chan struct{}), make(chan struct{})
	r := start(t, Options{Direct: direct, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		io.WriteString(w, "done")
	})})
	idle := bufio.NewReader(r.raw(t, ""))
	answered := make(chan string, 1)
	go func() {
		response, err := http.Post("http://"+r.Addr()+"/", "", nil)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answered <- string(body)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	// The listener is gone before the request is done.
	for {
		conn, err := net.Dial("tcp", r.Addr())
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	if direct != nil { // net/http waits for a first request for 5 seconds
		if _, err := idle.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("a connection on which nothing came ended with %v", err)
		}
	}
	close(release)
	if got := <-answered; got != "done" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, direct []string) {
		entered := make(chan struct{})
		r := start(t, Options{DrainTimeout: 50 * time.Millisecond, Direct: direct, Handler: http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
			close(entered)
			<-request.Context().Done()
		})})
		r.raw(t, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
		<-entered
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestAddressInUseSaysWhich(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Handler: http.NotFoundHandler()})
	if _, err := New(t.Context(), Options{Address: r.Addr(), Handler: http.NotFoundHandler()}); err == nil || !strings.Contains(err.Error(), r.Addr()) {
		t.Errorf("listening twice gave %v", err)
	}
}
