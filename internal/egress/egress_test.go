package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

var loopbackOnly = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func newClient(tb testing.TB, o Options) *Client {
	tb.Helper()
	if o.Allow == nil {
		o.Allow = loopbackOnly
	}
	c, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

func within(tb testing.TB, limit time.Duration) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), limit)
	tb.Cleanup(cancel)
	return ctx
}

// listen serves each connection with serve until the test ends.
func listen(tb testing.TB, serve func(net.Conn)) (address string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// readRequest takes in one request of a few bytes.
func readRequest(conn net.Conn) {
	buffer := make([]byte, 4096)
	_, _ = conn.Read(buffer)
}

// untilClosed blocks until the other side has gone.
func untilClosed(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func TestSendDeliversTheRequest(t *testing.T) {
	t.Parallel()
	type seen struct {
		Method, Path, Query, Agent, Type, Encoding, Auth, Body string
		Length                                                 int64
	}
	got := make(chan seen, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{
			r.Method, r.URL.Path, r.URL.RawQuery, r.UserAgent(), r.Header.Get("Content-Type"),
			r.Header.Get("Accept-Encoding"), r.Header.Get("Authorization"), string(body), r.ContentLength,
		}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusAccepted)
		w.Write([]byte("thanks"))
	}))
	defer server.Close()
	header := []Field{{"Content-Type", "application/json"}}

	c := newClient(t, Options{UserAgent: "Waypost/test"})
	target := strings.Replace(server.URL, "http://", "http://user:pass@", 1) + "/in?key=1"
	a := c.Send(within(t, 5*time.Second), Request{URL: target, Header: header, Body: []byte(`{"n":1}`)})

	if a.Err != nil || a.Reason != "" {
		t.Fatalf("err %v, reason %q", a.Err, a.Reason)
	}
	want := seen{"POST", "/in", "key=1", "Waypost/test", "application/json", "", "Basic dXNlcjpwYXNz", `{"n":1}`, 7}
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if a.Status != 202 || string(a.Body) != "thanks" || a.Header.Get("Retry-After") != "7" {
		t.Errorf("answer %d %q %v", a.Status, a.Body, a.Header)
	}
	if a.Address != server.Listener.Addr().String() || a.Reused {
		t.Errorf("address %q, reused %v", a.Address, a.Reused)
	}
	p := a.Phases
	if p.Connected <= 0 || p.Sent < p.Connected || p.FirstByte < p.Connected || a.Duration <= 0 {
		t.Errorf("phases %+v over %s", p, a.Duration)
	}
	if len(header) != 1 {
		t.Errorf("the caller's header was changed: %v", header)
	}
}

func TestSendWithoutBodyStatesItsLength(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%d %v", r.ContentLength, r.TransferEncoding)
	}))
	defer server.Close()
	a := newClient(t, Options{}).Send(within(t, 5*time.Second), Request{URL: server.URL})
	if got := string(a.Body); got != "0 []" {
		t.Errorf("the receiver saw length %q", got)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	const secret = "s3cret"
	tests := []struct {
		name   string
		serve  func(net.Conn)
		scheme string
		limit  time.Duration
		reason waypost.Reason
		status int
		text   string
	}{
		{
			name: "hangs before the header", serve: untilClosed,
			limit: 50 * time.Millisecond, reason: waypost.ReasonTimeout, text: "waiting for the answer",
		},
		{
			name: "hangs in the TLS handshake", serve: untilClosed, scheme: "https",
			limit: 50 * time.Millisecond, reason: waypost.ReasonTimeout, text: "connecting",
		},
		{
			name: "trickles the body", limit: 100 * time.Millisecond,
			reason: waypost.ReasonTimeout, status: 200, text: "before the answer was complete",
			serve: func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for range tick.C {
					if _, err := conn.Write([]byte(".")); err != nil {
						return
					}
				}
			},
		},
		{
			name: "trickles the header", limit: 100 * time.Millisecond, reason: waypost.ReasonTimeout,
			serve: func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: ")
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for range tick.C {
					if _, err := conn.Write([]byte(".")); err != nil {
						return
					}
				}
			},
		},
		{
			name: "never reads a large request", limit: 200 * time.Millisecond, reason: waypost.ReasonTimeout, text: "sending the request",
			serve: func(net.Conn) {
				<-t.Context().Done()
			},
		},
		{
			name: "closes without an answer", reason: waypost.ReasonReset,
			serve: readRequest,
		},
		{
			name: "closes inside the header", reason: waypost.ReasonReset,
			serve: func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: 1\r\n")
			},
		},
		{
			name: "closes inside the body", reason: waypost.ReasonReset, status: 200,
			serve: func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
			},
		},
		{
			name: "closes inside a chunked body", reason: waypost.ReasonReset, status: 200,
			serve: func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc")
			},
		},
		{
			name: "resets the connection", reason: waypost.ReasonReset,
			serve: func(conn net.Conn) {
				readRequest(conn)
				_ = conn.(*net.TCPConn).SetLinger(0)
			},
		},
		{
			name: "does not speak HTTP", reason: waypost.ReasonProtocol,
			serve: func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, "220 mail ready "+secret+"\r\n\r\n")
				untilClosed(conn)
			},
		},
		{
			name: "sends a broken header", reason: waypost.ReasonProtocol,
			serve: func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+secret+"\r\n\r\n")
				untilClosed(conn)
			},
		},
		{
			name: "sends a header without end", reason: waypost.ReasonProtocol,
			serve: func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: ")
				for {
					if _, err := conn.Write(bytes.Repeat([]byte("x"), 64<<10)); err != nil {
						return
					}
				}
			},
		},
		{
			name: "sends a broken chunk", reason: waypost.ReasonProtocol, status: 200,
			serve: func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
				untilClosed(conn)
			},
		},
		{
			name: "does not speak TLS", scheme: "https", reason: waypost.ReasonTLS, text: "does not speak TLS",
			serve: func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			},
		},
		{
			name: "closes in the TLS handshake", scheme: "https", reason: waypost.ReasonTLS,
			serve: func(conn net.Conn) { readRequest(conn) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := listen(t, tt.serve)
			if tt.scheme == "" {
				tt.scheme = "http"
			}
			if tt.limit == 0 {
				tt.limit = 5 * time.Second
			}
			body := []byte("{}")
			if strings.Contains(tt.text, "sending") {
				body = make([]byte, 32<<20)
			}
			a := newClient(t, Options{}).Send(within(t, tt.limit), Request{
				URL:    tt.scheme + "://" + secret + ":x@" + address + "/p?token=" + secret,
				Header: []Field{{"X-Key", secret}},
				Body:   body,
			})
			if a.Err == nil {
				t.Fatalf("answered %d", a.Status)
			}
			if a.Reason != tt.reason || a.Status != tt.status || !strings.Contains(a.Err.Error(), tt.text) {
				t.Errorf("got %q, status %d, %q; want %q, status %d, …%s…",
					a.Reason, a.Status, a.Err, tt.reason, tt.status, tt.text)
			}
			if strings.Contains(a.Err.Error(), secret) {
				t.Errorf("the error tells the secret: %s", a.Err)
			}
			if tt.reason == waypost.ReasonTimeout && a.Duration > tt.limit+2*time.Second {
				t.Errorf("took %s with a limit of %s", a.Duration, tt.limit)
			}
			if tt.text != "connecting" && a.Address != address {
				t.Errorf("address %q, want %q", a.Address, address)
			}
		})
	}
}

func TestNothingListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	a := newClient(t, Options{}).Send(within(t, 5*time.Second), Request{URL: "http://" + address + "/?q=1"})
	if a.Reason != waypost.ReasonConnect || a.Err.Error() != "connect: connection refused" || a.Address != address {
		t.Errorf("got %q %v at %q", a.Reason, a.Err, a.Address)
	}
	if a.Phases != (waypost.Phases{}) {
		t.Errorf("phases %+v of a connection that never was", a.Phases)
	}
}

func TestACancelledRequestIsNotTheReceiversFault(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{})
	address := listen(t, func(conn net.Conn) {
		readRequest(conn)
		close(reached)
		untilClosed(conn)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-reached
		cancel()
	}()
	a := newClient(t, Options{}).Send(ctx, Request{URL: "http://" + address})
	if a.Reason != waypost.ReasonInternal {
		t.Errorf("got %q: %v", a.Reason, a.Err)
	}
}

func TestRequestsThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	tests := map[string]Request{
		"not a URL":        {URL: "http://a b/%zz?k=s3cret"},
		"another scheme":   {URL: "ftp://127.0.0.1/s3cret"},
		"no scheme":        {URL: "127.0.0.1:80"},
		"bad header name":  {URL: "http://127.0.0.1:9", Header: []Field{{"s3cret key", "x"}}},
		"bad header value": {URL: "http://127.0.0.1:9", Header: []Field{{"X", "s3cret\n"}}},
	}
	c := newClient(t, Options{})
	for name, request := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := c.Send(within(t, 5*time.Second), request)
			if a.Err == nil || a.Reason != waypost.ReasonInternal {
				t.Fatalf("got %d %q: %v", a.Status, a.Reason, a.Err)
			}
			if strings.Contains(a.Err.Error(), "s3cret") {
				t.Errorf("the error tells the secret: %s", a.Err)
			}
		})
	}
}

func TestAnEndlessBodyIsCut(t *testing.T) {
	t.Parallel()
	sent := make(chan int64, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(1<<30))
		n, _ := io.Copy(w, io.LimitReader(zeros{}, 1<<30))
		sent <- n
	}))
	defer server.Close()
	c := newClient(t, Options{})
	a := c.Send(within(t, 5*time.Second), Request{URL: server.URL})
	if a.Err != nil || a.Status != 200 || len(a.Body) != headCap {
		t.Fatalf("got %d, %d bytes, %v", a.Status, len(a.Body), a.Err)
	}
	if n := <-sent; n > 64<<20 {
		t.Errorf("the receiver got rid of %d bytes", n)
	}
	if a := c.Send(within(t, 5*time.Second), Request{URL: server.URL}); a.Reused {
		t.Error("the connection with the rest of the body was used again")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestBodySizes(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n int
		_, _ = fmt.Sscan(r.URL.Query().Get("n"), &n)
		if r.URL.Query().Has("chunked") {
			w.(http.Flusher).Flush()
		}
		w.Write(bytes.Repeat([]byte("x"), n))
	}))
	defer server.Close()
	const maxBody = 10_000
	c := newClient(t, Options{MaxBody: maxBody})
	for _, n := range []int{0, 1, headCap - 1, headCap, headCap + 1, maxBody - 1, maxBody + 1, 3 * maxBody} {
		for _, form := range []string{"", "&chunked"} {
			target := fmt.Sprintf("%s/?n=%d%s", server.URL, n, form)
			a := c.Send(within(t, 5*time.Second), Request{URL: target})
			if a.Err != nil || len(a.Body) != min(n, headCap) {
				t.Errorf("POST %d%s: %d bytes, %v", n, form, len(a.Body), a.Err)
			}
			_, body, err := c.Get(within(t, 5*time.Second), target)
			if err != nil || len(body) != min(n, maxBody) {
				t.Errorf("GET %d%s: %d bytes, %v", n, form, len(body), err)
			}
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.Handle("/from", http.RedirectHandler("/to", http.StatusTemporaryRedirect))
	mux.HandleFunc("/to", func(http.ResponseWriter, *http.Request) { t.Error("followed") })
	server := httptest.NewServer(mux)
	defer server.Close()
	c := newClient(t, Options{})
	if a := c.Send(within(t, 5*time.Second), Request{URL: server.URL + "/from"}); a.Status != 307 || a.Err != nil {
		t.Errorf("POST: %d %v", a.Status, a.Err)
	}
	if status, _, err := c.Get(within(t, 5*time.Second), server.URL+"/from"); status != 307 || err != nil {
		t.Errorf("GET: %d %v", status, err)
	}
}

func TestSwitchingProtocolsIsAnAnswer(t *testing.T) {
	t.Parallel()
	address := listen(t, func(conn net.Conn) {
		readRequest(conn)
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
		untilClosed(conn)
	})
	a := newClient(t, Options{}).Send(within(t, 5*time.Second), Request{URL: "http://" + address})
	if a.Status != 101 || a.Err != nil {
		t.Errorf("got %d %v", a.Status, a.Err)
	}
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(make([]byte, 20<<10)) // more than the head, less than the limit
	}))
	defer server.Close()
	c := newClient(t, Options{})
	for i := range 3 {
		a := c.Send(within(t, 5*time.Second), Request{URL: server.URL, Body: []byte("x")})
		if a.Err != nil || a.Reused != (i > 0) {
			t.Errorf("request %d: reused %v, %v", i, a.Reused, a.Err)
		}
	}
}

func TestAKeptConnectionThatBreaksIsStale(t *testing.T) {
	t.Parallel()
	requests := make(chan int, 10)
	address := listen(t, func(conn net.Conn) {
		readRequest(conn)
		requests <- 1
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		readRequest(conn)
		requests <- 2
	})
	c := newClient(t, Options{})
	r := Request{URL: "http://" + address, Body: []byte("x")}
	if a := c.Send(within(t, 5*time.Second), r); a.Err != nil || a.Stale() {
		t.Fatalf("first: %v, stale %v", a.Err, a.Stale())
	}
	a := c.Send(within(t, 5*time.Second), r)
	if a.Reason != waypost.ReasonReset || !a.Stale() {
		t.Errorf("second: %q %v, stale %v", a.Reason, a.Err, a.Stale())
	}
	if n := len(requests); n != 2 {
		t.Errorf("the receiver saw %d requests for two sent", n)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		io.WriteString(w, r.Proto)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	defer server.Close()
	trusting := Options{RootCAs: x509.NewCertPool()}
	trusting.RootCAs.AddCert(server.Certificate())

	t.Run("speaks HTTP/2", func(t *testing.T) {
		c := newClient(t, trusting)
		for i := range 2 {
			a := c.Send(within(t, 5*time.Second), Request{URL: server.URL, Body: []byte("x")})
			if a.Err != nil || string(a.Body) != "HTTP/2.0" || a.Reused != (i > 0) {
				t.Errorf("request %d: %q, reused %v, %v", i, a.Body, a.Reused, a.Err)
			}
			if a.Phases.Sent == 0 || a.Phases.FirstByte == 0 {
				t.Errorf("phases %+v", a.Phases)
			}
		}
	})
	t.Run("an unknown authority", func(t *testing.T) {
		a := newClient(t, Options{}).Send(within(t, 5*time.Second), Request{URL: server.URL})
		if a.Reason != waypost.ReasonTLS || !strings.Contains(a.Err.Error(), "unknown authority") {
			t.Errorf("got %q %v", a.Reason, a.Err)
		}
	})
	t.Run("another host's certificate", func(t *testing.T) {
		address := strings.Replace(server.URL, "127.0.0.1", "127.0.0.2", 1)
		l, err := net.Listen("tcp", strings.TrimPrefix(address, "https://"))
		if err != nil {
			t.Skip(err)
		}
		other := &http.Server{Handler: server.Config.Handler, ErrorLog: quiet()}
		go func() { _ = other.Serve(tls.NewListener(l, server.TLS)) }()
		defer func() { _ = other.Close() }()
		a := newClient(t, trusting).Send(within(t, 5*time.Second), Request{URL: address})
		if a.Reason != waypost.ReasonTLS || !strings.Contains(a.Err.Error(), "127.0.0.2") {
			t.Errorf("got %q %v", a.Reason, a.Err)
		}
	})
	t.Run("a certificate from a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "ca.pem")
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		if err := os.WriteFile(file, block, 0o600); err != nil {
			t.Fatal(err)
		}
		pool, err := LoadRootCAs(file)
		if err != nil {
			t.Fatal(err)
		}
		if a := newClient(t, Options{RootCAs: pool}).Send(within(t, 5*time.Second), Request{URL: server.URL}); a.Err != nil {
			t.Error(a.Err)
		}
		if _, err := LoadRootCAs(os.DevNull); err == nil {
			t.Error("an empty file was taken")
		}
	})
	t.Run("a client certificate is asked for", func(t *testing.T) {
		strict := httptest.NewUnstartedServer(server.Config.Handler)
		strict.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
		strict.Config.ErrorLog = quiet()
		strict.StartTLS()
		defer strict.Close()
		a := newClient(t, trusting).Send(within(t, 5*time.Second), Request{URL: strict.URL})
		if a.Reason != waypost.ReasonTLS {
			t.Errorf("got %q %v", a.Reason, a.Err)
		}
	})
}

func TestHTTP2Failures(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/half", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("half"))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, zeros{}) })
	server := httptest.NewUnstartedServer(mux)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c := newClient(t, Options{RootCAs: roots})
	tests := []struct {
		path   string
		limit  time.Duration
		reason waypost.Reason
		status int
	}{
		{"/abort", 5 * time.Second, waypost.ReasonReset, 0},
		{"/half", 5 * time.Second, waypost.ReasonReset, 200},
		{"/endless", 5 * time.Second, "", 200},
		{"/hang", 100 * time.Millisecond, waypost.ReasonTimeout, 0},
	}
	for _, tt := range tests {
		a := c.Send(within(t, tt.limit), Request{URL: server.URL + tt.path, Body: []byte("x")})
		if a.Reason != tt.reason || a.Status != tt.status || (a.Err == nil) != (tt.reason == "") {
			t.Errorf("%s: got %q, status %d, %v", tt.path, a.Reason, a.Status, a.Err)
		}
	}
	server.CloseClientConnections()
}

func TestLocalAddr(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.RemoteAddr)
	}))
	defer server.Close()
	c := newClient(t, Options{LocalAddr: netip.MustParseAddr("127.0.0.9")})
	a := c.Send(within(t, 5*time.Second), Request{URL: server.URL})
	if !strings.HasPrefix(string(a.Body), "127.0.0.9:") {
		t.Errorf("sent from %q, %v", a.Body, a.Err)
	}

	c = newClient(t, Options{LocalAddr: netip.MustParseAddr("192.0.2.1")}) // not ours
	if a := c.Send(within(t, 5*time.Second), Request{URL: server.URL}); a.Reason != waypost.ReasonInternal {
		t.Errorf("a local address we don't have: %q %v", a.Reason, a.Err)
	}
}

func TestNewRefusesAProxyItCannotUse(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"socks5://127.0.0.1:1", "http://", "127.0.0.1:8080"} {
		proxy, _ := url.Parse(text)
		if proxy == nil {
			proxy = &url.URL{}
		}
		if _, err := New(Options{Proxy: proxy}); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

// TestNoGoroutineStays is not parallel, so that it counts only its own.
func TestNoGoroutineStays(t *testing.T) {
	before := runtime.NumGoroutine()
	func() {
		hang := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that we have gone
			switch r.URL.Path {
			case "/hang":
				<-r.Context().Done()
			case "/endless":
				_, _ = io.Copy(w, zeros{})
			}
		}))
		defer hang.Close()
		c, err := New(Options{Allow: loopbackOnly})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, path := range []string{"/", "/hang", "/endless", "/hang", "/"} {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			c.Send(ctx, Request{URL: hang.URL + path, Body: []byte("x")})
			cancel()
		}
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; <-tick.C {
		if time.Now().After(deadline) {
			stacks := make([]byte, 64<<10)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}
