package httpserver

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// raw opens a connection and writes text to it.
func (r running) raw(t *testing.T, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestASlowHeaderIsCutOff(t *testing.T) {
	t.Parallel()
	r := start(t, Options{HeaderTimeout: 50 * time.Millisecond, Handler: http.NotFoundHandler(), Direct: everything})
	for _, head := range []string{"", "P", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", "POST / HTTP/1.1\r\nHost: x\r\nX-Slow: "} {
		if _, err := io.Copy(io.Discard, r.raw(t, head)); err != nil {
			t.Errorf("after %q the connection was not closed: %v", head, err)
		}
	}
}

func TestALargeHeaderIsRefused(t *testing.T) {
	t.Parallel()
	r := start(t, Options{MaxHeaderBytes: 1 << 10, Handler: http.NotFoundHandler(), Direct: everything})
	for _, method := range []string{"GET", "POST"} {
		conn := r.raw(t, method+" / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX-Large: "+strings.Repeat("x", 16<<10)+"\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Fatalf("got %v, %v", response, err)
		}
		response.Body.Close()
	}
}

func TestASlowBodyEndsInAnError(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, direct []string) {
		failed := make(chan error, 1)
		r := start(t, Options{BodyTimeout: 50 * time.Millisecond, Direct: direct, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			failed <- err
		})})
		r.raw(t, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
		if err := <-failed; err == nil {
			t.Error("the body came to an end")
		}
	})
}

// TestASlowAnswerIsNotCutOff waits, after the body, for longer than a body may
// take, and then writes for longer than a write may take.
func TestASlowAnswerIsNotCutOff(t *testing.T) {
	t.Parallel()
	const limit = 40 * time.Millisecond
	r := start(t, Options{BodyTimeout: limit, WriteTimeout: 15 * limit, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		tick := time.NewTicker(3 * limit)
		defer tick.Stop()
		for i := range 7 {
			select {
			case <-r.Context().Done():
				t.Errorf("cancelled before part %d", i)
				return
			case <-tick.C:
			}
			fmt.Fprintf(w, "%d", i)
			w.(http.Flusher).Flush()
		}
	})})
	response, err := http.Post("http://"+r.Addr(), "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "0123456" {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	t.Parallel()
	failed := make(chan struct{})
	r := start(t, Options{WriteTimeout: 50 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		part := make([]byte, 1<<20)
		for {
			if _, err := w.Write(part); err != nil {
				close(failed)
				return
			}
		}
	})})
	r.raw(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-failed:
	case <-time.After(10 * time.Second):
		t.Error("the handler still writes")
	}
}

func TestAPanicInTheMiddleCutsTheConnection(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic("boom")
	})})
	response, err := http.Get("http://" + r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("half an answer was taken for a whole one: %q", body)
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Handler: http.NotFoundHandler()})
	_, _, first := r.get(t, "/")
	_, _, second := r.get(t, "/")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	a, b := first.Get("X-Request-Id"), second.Get("X-Request-Id")
	if a == "" || a == b {
		t.Errorf("ids %q and %q", a, b)
	}
	for _, id := range []string{a, b} {
		if !strings.Contains(r.log.String(), id) {
			t.Errorf("the log does not name %q", id)
		}
	}
}

func TestQuietRoutesAreLoggedAtDebugOnly(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	r := start(t, Options{Handler: mux, Quiet: []string{"GET /healthz"}})
	r.get(t, "/healthz")
	if log := r.log.String(); log != "" {
		t.Errorf("logged: %s", log)
	}
	r.get(t, "/healthz?fail")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if log := r.log.String(); !strings.Contains(log, `"status":503`) || !strings.Contains(log, `"level":"WARN"`) {
		t.Errorf("the failure is not logged: %s", log)
	}
}

func TestClientAddr(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	tests := []struct{ name, peer, forwarded, want string }{
		{"no proxy", "192.0.2.1:5", "1.2.3.4", "192.0.2.1:5"},
		{"a proxy that says nothing", "10.0.0.1:5", "", "10.0.0.1:5"},
		{"a proxy", "10.0.0.1:5", "192.0.2.9", "192.0.2.9:0"},
		{"a proxy over IPv6", "[::1]:5", "2001:db8::1", "[2001:db8::1]:0"},
		{"two proxies", "10.0.0.1:5", "192.0.2.9, 10.0.0.2", "192.0.2.9:0"},
		{"hearsay before the client", "10.0.0.1:5", "6.6.6.6, 192.0.2.9, 10.0.0.2", "192.0.2.9:0"},
		{"a port", "10.0.0.1:5", "192.0.2.9:77", "192.0.2.9:77"},
		{"brackets", "10.0.0.1:5", "[2001:db8::1]", "[2001:db8::1]:0"},
		{"nonsense", "10.0.0.1:5", "unknown", "10.0.0.1:5"},
		{"nonsense behind a proxy", "10.0.0.1:5", "unknown, 10.0.0.2", "10.0.0.2:0"},
		{"a mapped peer", "[::ffff:10.0.0.1]:5", "192.0.2.9", "192.0.2.9:0"},
		{"no address at all", "@", "192.0.2.9", "@"},
	}
	for _, tt := range tests {
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.RemoteAddr = tt.peer
		for part := range strings.SplitSeq(tt.forwarded, "|") {
			request.Header.Add("X-Forwarded-For", part)
		}
		if got := clientAddr(request, trusted); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestHandlersSeeTheClientsAddress(t *testing.T) {
	t.Parallel()
	r := start(t, Options{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, Host(r.RemoteAddr))
		}),
	})
	request, _ := http.NewRequest(http.MethodGet, "http://"+r.Addr(), nil)
	request.Header.Set("X-Forwarded-For", "192.0.2.9")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); string(body) != "192.0.2.9" {
		t.Errorf("the handler saw %q", body)
	}
}

func FuzzClientAddr(f *testing.F) {
	f.Add("1.2.3.4, 10.0.0.1")
	f.Add("[::1]:5,,unknown")
	trusted := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	f.Fuzz(func(t *testing.T, forwarded string) {
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.RemoteAddr = "10.0.0.1:5"
		request.Header["X-Forwarded-For"] = []string{forwarded}
		if got := clientAddr(request, trusted); got == "" {
			t.Errorf("%q gives no address", forwarded)
		} else if _, err := netip.ParseAddrPort(got); err != nil {
			t.Errorf("%q gives %q", forwarded, got)
		}
	})
}

// The benchmarks show what the server adds to a request, with its log line and
// without, over the bare handler.
func BenchmarkServe(b *testing.B) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "ok")
	})
	bench := func(b *testing.B, handler http.Handler) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body"))
			handler.ServeHTTP(httptest.NewRecorder(), request)
		}
	}
	for name, level := range map[string]slog.Level{"logging": slog.LevelInfo, "silent": slog.LevelError} {
		log := slog.New(slog.NewTextHandler(nowhere{}, &slog.HandlerOptions{Level: level}))
		s, err := New(b.Context(), Options{Address: "127.0.0.1:0", Handler: handler, Log: log})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) { bench(b, s) })
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("bare", func(b *testing.B) { bench(b, handler) })
}

// nowhere takes log lines that were written out in full.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
