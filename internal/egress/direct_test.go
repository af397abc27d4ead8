package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

func TestTheRequestOnTheWire(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	address := listen(t, func(conn net.Conn) {
		buffer := make([]byte, 64<<10)
		n, _ := conn.Read(buffer)
		got <- string(buffer[:n])
		io.WriteString(conn, okAnswer)
	})
	tests := map[string]struct {
		path   string
		header []Field
		body   string
		want   string
	}{
		"plain": {
			path: "", body: "x",
			want: "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 1\r\nUser-Agent: Waypost\r\n\r\nx",
		},
		"in order": {
			path: "/a%20b/ü?q=ü&r=%0a#fragment",
			header: []Field{
				{"x-lower", ""}, {"X-B", " two "}, {"User-Agent", "me"}, {"X-B", "values"}, {"Content-Type", "application/json"},
			},
			want: "POST /a%%20b/%%C3%%BC?q=ü&r=%%0a HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n" +
				"Content-Type: application/json\r\nUser-Agent: me\r\nX-B: two\r\nX-B: values\r\nx-lower: \r\n\r\n",
		},
		"what is ours stays ours": {
			path: "/",
			header: []Field{
				{"Host", "evil"}, {"content-length", "7"}, {"TRANSFER-ENCODING", "chunked"}, {"Trailer", "x"}, {"User-Agent", ""},
			},
			want: "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n",
		},
		"more than the buffer holds": {
			path: "/", header: []Field{{"user-agent", strings.Repeat("a", 2*bufferSize)}}, body: "x",
			want: "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 1\r\nuser-agent: " + strings.Repeat("a", 2*bufferSize) + "\r\n\r\nx",
		},
	}
	c := newClient(t, Options{})
	c.pool.perHost = 0
	for name, tt := range tests {
		a := c.Send(within(t, 5*time.Second), Request{URL: "http://" + address + tt.path, Header: tt.header, Body: []byte(tt.body)})
		if a.Err != nil {
			t.Errorf("%s: %v", name, a.Err)
		}
		if diff := cmp.Diff(fmt.Sprintf(tt.want, address), <-got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestURLsThatWouldSplitTheRequest(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{})
	for _, url := range []string{"http://127.0.0.1:9/?a b", "http://127.0.0.1:9/?a\tb", "http://127.0.0.1:9/? HTTP/1.1\r\nX: y"} {
		if a := c.Send(within(t, 5*time.Second), Request{URL: url}); a.Reason != waypost.ReasonInternal || a.Address != "" {
			t.Errorf("%q: %q %v", url, a.Reason, a.Err)
		}
	}
}

func TestHostsInOtherScripts(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Host)
	}))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	resolver := names(t, known(map[string]string{"xn--bcher-kva.example": "127.0.0.1"}))
	c := newClient(t, Options{Resolver: resolver})
	a := c.Send(within(t, 5*time.Second), Request{URL: "http://bücher.example:" + port})
	if a.Err != nil || string(a.Body) != "xn--bcher-kva.example:"+port {
		t.Errorf("%q, %v", a.Body, a.Err)
	}
}

func TestLargeRequests(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, len(body), bytes.Count(body, []byte("x")))
	}))
	defer server.Close()
	c := newClient(t, Options{})
	reused := false
	for _, size := range []int{0, 1, bufferSize - 200, bufferSize, bufferSize + 1, 100_000, 3 << 20, 1} {
		a := c.Send(within(t, 5*time.Second), Request{URL: server.URL, Body: bytes.Repeat([]byte("x"), size)})
		if want := fmt.Sprint(size, size); a.Err != nil || string(a.Body) != want || a.Reused != reused {
			t.Errorf("%d: %q, reused %v, %v", size, a.Body, a.Reused, a.Err)
		}
		if a.Phases.Sent == 0 {
			t.Errorf("%d: phases %+v", size, a.Phases)
		}
		reused = true
	}
}

// TestAnEarlyAnswerCounts has a receiver that answers a large request without
// reading it, and then waits or closes.
func TestAnEarlyAnswerCounts(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]func(net.Conn){
		"waits":  func(net.Conn) { <-t.Context().Done() },
		"closes": func(net.Conn) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := listen(t, func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
				after(conn)
			})
			c := newClient(t, Options{})
			for range 2 {
				a := c.Send(within(t, 5*time.Second), Request{URL: "http://" + address, Body: make([]byte, 32<<20)})
				if a.Err != nil || a.Status != 413 || a.Reused || a.Duration > 2*time.Second {
					t.Errorf("got %d after %s, reused %v, %v", a.Status, a.Duration, a.Reused, a.Err)
				}
				if c.pool.size != 0 {
					t.Error("the connection was kept")
				}
			}
		})
	}
}

func TestWhatIsOverIsNotSent(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	c := newClient(t, Options{})
	if a := c.Send(within(t, 5*time.Second), Request{URL: server.URL}); a.Err != nil {
		t.Fatal(a.Err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if a := c.Send(ctx, Request{URL: server.URL}); a.Reason != waypost.ReasonInternal {
		t.Errorf("cancelled: %q %v", a.Reason, a.Err)
	}
	ctx, cancel = context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if a := c.Send(ctx, Request{URL: server.URL}); a.Reason != waypost.ReasonTimeout {
		t.Errorf("out of time: %q %v", a.Reason, a.Err)
	}
	if a := c.Send(within(t, 5*time.Second), Request{URL: server.URL}); a.Err != nil || !a.Reused || requests.Load() != 2 {
		t.Errorf("afterwards: reused %v, %d requests, %v", a.Reused, requests.Load(), a.Err)
	}
}

func TestTheTimeoutBoundsAllOfIt(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		server, c, _ := countingServer(t, http2, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.URL.Path == "/hang" {
				<-r.Context().Done()
			}
		})
		for _, kept := range []bool{false, true} {
			a := c.Send(within(t, time.Minute), Request{URL: server.URL + "/hang", Body: []byte("x"), Timeout: 100 * time.Millisecond})
			if a.Reason != waypost.ReasonTimeout || a.Duration > 20*time.Second {
				t.Errorf("HTTP/2 %v, kept %v: %q after %s: %v", http2, kept, a.Reason, a.Duration, a.Err)
			}
			if a := c.Send(within(t, time.Minute), Request{URL: server.URL, Timeout: time.Minute}); a.Err != nil {
				t.Errorf("HTTP/2 %v, afterwards: %v", http2, a.Err)
			}
		}
	}
}

// TestAnEarlierTimeoutIsOver: that of the request before on a kept connection.
func TestAnEarlierTimeoutIsOver(t *testing.T) {
	t.Parallel()
	server, c, conns := countingServer(t, false, func(http.ResponseWriter, *http.Request) {})
	for i := range 3 {
		if a := c.Send(t.Context(), Request{URL: server.URL}); a.Err != nil || a.Reused != (i > 0) {
			t.Fatalf("request %d: reused %v, %v", i, a.Reused, a.Err)
		}
		link, _ := c.pool.take(hostOf(mustParse(t, server.URL)))
		link.deadline = time.Unix(1, 0)
		if err := link.socket.SetDeadline(link.deadline); err != nil {
			t.Fatal(err)
		}
		c.pool.put(link)
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestAClosedConnectionIsNotUsed covers plain and TLS connections that the
// receiver closes, or says something on, between two requests.
func TestAClosedConnectionIsNotUsed(t *testing.T) {
	t.Parallel()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	certified.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	for name, tt := range map[string]struct {
		scheme string
		after  func(net.Conn)
	}{
		"closed":     {"http", func(net.Conn) {}},
		"speaks up":  {"http", func(conn net.Conn) { io.WriteString(conn, "HTTP/1.1 408 Timeout\r\n\r\n"); untilClosed(conn) }},
		"TLS closed": {"https", func(net.Conn) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			address := listen(t, func(conn net.Conn) {
				if tt.scheme == "https" {
					conn = tls.Server(conn, certified.TLS)
					defer func() { _ = conn.Close() }()
				}
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					return
				}
				requests.Add(1)
				io.WriteString(conn, okAnswer)
				tt.after(conn)
			})
			c := newClient(t, Options{RootCAs: roots})
			url := tt.scheme + "://" + address
			for range 3 {
				a := c.Send(within(t, 5*time.Second), Request{URL: url})
				if a.Err != nil || a.Reused {
					t.Fatalf("reused %v, %v", a.Reused, a.Err)
				}
				eventually(t, "the connection is seen to be over", func() bool {
					c.pool.mu.Lock()
					defer c.pool.mu.Unlock()
					return c.pool.oldest == nil || !c.pool.oldest.silent()
				})
			}
			if requests.Load() != 3 {
				t.Errorf("%d requests for three sent", requests.Load())
			}
		})
	}
}

// TestAnUnsentRequestIsSentOnce has a kept connection that looks well and can't
// be written to.
func TestAnUnsentRequestIsSentOnce(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	c := newClient(t, Options{})
	r := Request{URL: server.URL, Body: []byte("x")}
	if a := c.Send(within(t, 5*time.Second), r); a.Err != nil {
		t.Fatal(a.Err)
	}
	kept := c.pool.oldest
	kept.silent = func() bool { return true }
	_ = kept.socket.Close()
	a := c.Send(within(t, 5*time.Second), r)
	if a.Err != nil || a.Reused || requests.Load() != 2 {
		t.Errorf("reused %v, %d requests, %v", a.Reused, requests.Load(), a.Err)
	}
}

func TestASilentlyCutAnswerIsNoStaleConnection(t *testing.T) {
	t.Parallel()
	address := listen(t, func(conn net.Conn) {
		readRequest(conn)
		io.WriteString(conn, okAnswer)
		readRequest(conn)
		io.WriteString(conn, "HTTP/1.1 2")
	})
	c := newClient(t, Options{})
	c.Send(within(t, 5*time.Second), Request{URL: "http://" + address})
	a := c.Send(within(t, 5*time.Second), Request{URL: "http://" + address})
	if a.Reason != waypost.ReasonReset || !a.Reused || a.Stale() {
		t.Errorf("%q %v, reused %v, stale %v", a.Reason, a.Err, a.Reused, a.Stale())
	}
}

func TestAConnectionHeaderIsMeant(t *testing.T) {
	t.Parallel()
	address := listen(t, func(conn net.Conn) {
		for range 2 {
			readRequest(conn)
			io.WriteString(conn, okAnswer)
		}
	})
	c := newClient(t, Options{})
	for range 2 {
		a := c.Send(within(t, 5*time.Second), Request{URL: "http://" + address, Header: []Field{{"connection", "close"}}})
		if a.Err != nil || a.Reused {
			t.Errorf("reused %v, %v", a.Reused, a.Err)
		}
	}
}

// countingServer is an httptest server over TLS that counts connections.
func countingServer(t *testing.T, http2 bool, handler http.HandlerFunc) (server *httptest.Server, c *Client, conns *atomic.Int32) {
	t.Helper()
	conns = new(atomic.Int32)
	server = httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = http2
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server, newClient(t, Options{RootCAs: roots}), conns
}

func TestHTTP1OverTLSIsKept(t *testing.T) {
	t.Parallel()
	server, c, conns := countingServer(t, false, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.Proto, n)
	})
	for i, size := range []int{1, 1 << 20, 1} {
		a := c.Send(within(t, 5*time.Second), Request{URL: server.URL, Body: make([]byte, size)})
		if want := fmt.Sprint("HTTP/1.1", size); a.Err != nil || string(a.Body) != want || a.Reused != (i > 0) {
			t.Errorf("%q, reused %v, %v", a.Body, a.Reused, a.Err)
		}
	}
	if conns.Load() != 1 {
		t.Errorf("%d connections", conns.Load())
	}
}

func TestHTTP2IsHandedOver(t *testing.T) {
	t.Parallel()
	server, c, conns := countingServer(t, true, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })
	for i := range 3 {
		a := c.Send(within(t, 5*time.Second), Request{URL: fmt.Sprint(server.URL, "/", i)})
		if a.Err != nil || string(a.Body) != "HTTP/2.0" || a.Reused != (i > 0) {
			t.Errorf("%q, reused %v, %v", a.Body, a.Reused, a.Err)
		}
	}
	if conns.Load() != 1 {
		t.Errorf("%d connections for one host", conns.Load())
	}
	// A host that gives HTTP/2 up comes back to connections of ours.
	h := host{secure: true, address: server.Listener.Addr().String()}
	if _, http2 := c.pool.take(h); !http2 {
		t.Error("the host is not remembered")
	}
	c.transport.CloseIdleConnections()
	c.dialer.tls.NextProtos = []string{"http/1.1"}
	for i, want := range []bool{false, false, true} { // net/http's, ours, ours again
		a := c.Send(within(t, 5*time.Second), Request{URL: server.URL})
		if a.Err != nil || string(a.Body) != "HTTP/1.1" || a.Reused != want {
			t.Errorf("request %d: %q, reused %v, %v", i, a.Body, a.Reused, a.Err)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		server, c, _ := countingServer(t, http2, func(w http.ResponseWriter, r *http.Request) {
			// All of it first: net/http drops what has not been read once it answers.
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(body)
		})
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				for n := range 20 {
					body := strings.Repeat(fmt.Sprint(i, n), 50+i*n)
					a := c.Send(within(t, 20*time.Second), Request{URL: server.URL, Body: []byte(body)})
					if a.Err != nil || string(a.Body) != body[:min(len(body), headCap)] {
						t.Errorf("HTTP/2 %t, %d of %d: status %d, %d bytes %.20q, want %d %.20q; reused %t, %v",
							http2, n, i, a.Status, len(a.Body), a.Body, len(body), body, a.Reused, a.Err)
					}
				}
			})
		}
		wg.Wait()
	}
}

// TestATimeoutWithAFullPipe sees that nothing, not even TLS's farewell, makes a
// caller wait for a receiver that does not read.
func TestATimeoutWithAFullPipe(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	server, c, _ := countingServer(t, false, func(_ http.ResponseWriter, _ *http.Request) { <-stop })
	defer close(stop)
	start := time.Now()
	a := c.Send(within(t, 100*time.Millisecond), Request{URL: server.URL, Body: make([]byte, 32<<20)})
	if a.Reason != waypost.ReasonTimeout || time.Since(start) > 2*time.Second {
		t.Errorf("%q %v after %s", a.Reason, a.Err, time.Since(start))
	}
}

// breaking is a connection that takes a few bytes and breaks.
type breaking struct {
	net.Conn
	takes int
}

func (c breaking) Write([]byte) (int, error) { return c.takes, syscall.EPIPE }
func (c breaking) Read([]byte) (int, error)  { return 0, syscall.ECONNRESET }

func TestWhatWasSentInPartIsNotUnsent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		takes        int
		used, unsent bool
	}{{0, true, true}, {1, true, false}, {0, false, false}} {
		near, _ := net.Pipe()
		c := newConn(breaking{near, tt.takes}, host{})
		c.used = tt.used
		a, keep, unsent := c.exchange(t.Context(), &watch{start: time.Now()}, &target{}, nil, nil, defaultMaxBody)
		if unsent != tt.unsent || keep || !unsent && a.Reason != waypost.ReasonReset {
			t.Errorf("%+v: unsent %v, kept %v, %v", tt, unsent, keep, a.Err)
		}
	}
}

// lastMinute is a connection on which the context ends while the answer
// arrives.
type lastMinute struct {
	net.Conn
	end context.CancelFunc
}

func (c lastMinute) Write(p []byte) (int, error) { return len(p), nil }

func (c lastMinute) Read(p []byte) (int, error) {
	c.end()
	return copy(p, okAnswer), nil
}

func TestAnAnswerInTheLastMinute(t *testing.T) {
	t.Parallel()
	near, _ := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	c := newConn(lastMinute{near, cancel}, host{})
	a, keep, _ := c.exchange(ctx, &watch{start: time.Now()}, &target{}, nil, nil, defaultMaxBody)
	if a.Err != nil || a.Status != 200 || keep {
		t.Errorf("got %d, kept %v, %v", a.Status, keep, a.Err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	entered, leave, gone := make(chan struct{}), make(chan struct{}), make(chan struct{}, 2)
	address := listen(t, func(conn net.Conn) {
		readRequest(conn)
		entered <- struct{}{}
		<-leave
		io.WriteString(conn, okAnswer)
		untilClosed(conn)
		gone <- struct{}{}
	})
	c, err := New(Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan Answer)
	for range 2 {
		go func() { answers <- c.Send(within(t, 5*time.Second), Request{URL: "http://" + address}) }()
		<-entered
	}
	leave <- struct{}{}
	first := <-answers
	c.Close()
	<-gone // the kept one
	leave <- struct{}{}
	second := <-answers
	<-gone // the one in use
	if first.Err != nil || second.Err != nil {
		t.Errorf("%v, %v", first.Err, second.Err)
	}
}

// TestAConnectionStaysWithItsContext: one that is kept serves the next request of
// the same context and of others, until a context that it served has ended.
func TestAConnectionStaysWithItsContext(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	c := newClient(t, Options{})
	first, end := context.WithCancel(t.Context())
	send := func(ctx context.Context, timeout time.Duration, reused bool) {
		t.Helper()
		a := c.Send(ctx, Request{URL: server.URL, Timeout: timeout})
		if a.Err != nil || a.Reused != reused {
			t.Errorf("reused %v, want %v; %v", a.Reused, reused, a.Err)
		}
	}
	send(first, time.Minute, false)
	send(first, time.Minute, true)
	send(within(t, time.Minute), 0, true)
	send(first, time.Minute, true)
	end()
	send(t.Context(), time.Minute, false)
	send(within(t, time.Minute), 0, true)
}

// TestAContextEndsWhatItIsBoundTo: an exchange on a kept connection comes back
// when the context ends that the connection has been bound to before.
func TestAContextEndsWhatItIsBoundTo(t *testing.T) {
	t.Parallel()
	ctx, end := context.WithCancel(t.Context())
	address := listen(t, func(conn net.Conn) {
		readRequest(conn)
		io.WriteString(conn, okAnswer)
		readRequest(conn)
		end()
		untilClosed(conn)
	})
	c := newClient(t, Options{})
	r := Request{URL: "http://" + address, Timeout: time.Hour}
	if a := c.Send(ctx, r); a.Err != nil {
		t.Fatal(a.Err)
	}
	if a := c.Send(ctx, r); a.Reason != waypost.ReasonInternal || !a.Reused {
		t.Errorf("%q %v, reused %v", a.Reason, a.Err, a.Reused)
	}
}

// TestARequestThatTheSocketTakesInParts arrives whole.
func TestARequestThatTheSocketTakesInParts(t *testing.T) {
	t.Parallel()
	got := make(chan []byte)
	address := listen(t, func(conn net.Conn) {
		text, _ := io.ReadAll(conn)
		got <- text
	})
	nc, err := (&net.Dialer{}).DialContext(within(t, 5*time.Second), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := newConn(nc, host{})
	r := newReader(c)
	defer r.release()
	request := bytes.Repeat([]byte("0123456789abcdef"), 2<<20)
	if n, err := c.send(&watch{start: time.Now()}, r, request, true); n != len(request) || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if c.asker != nil && (c.asker.sent == 0 || c.asker.sent == len(request)) {
		t.Errorf("the socket took %d bytes at once", c.asker.sent)
	}
	_ = c.Close()
	if !bytes.Equal(<-got, request) {
		t.Error("something else arrived")
	}
}
