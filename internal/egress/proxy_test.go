package egress

import (
	"bufio"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// proxy is an HTTP proxy that notes what it is asked for.
type proxy struct {
	url    *url.URL
	mu     sync.Mutex
	asked  []string // "host:port credentials"
	answer string   // instead of connecting
}

func newProxy(t *testing.T, answer string) *proxy {
	t.Helper()
	p := &proxy{answer: answer}
	p.url = &url.URL{Scheme: "http", Host: listen(t, p.serve), User: url.UserPassword("u", "s3cret")}
	return p
}

func (p *proxy) serve(conn net.Conn) {
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, request.Method+" "+request.RequestURI+" "+request.Header.Get("Proxy-Authorization"))
	p.mu.Unlock()
	if p.answer != "" {
		io.WriteString(conn, p.answer)
		return
	}
	target, err := net.Dial("tcp", request.Host)
	if err != nil {
		io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer func() { _ = target.Close() }()
	io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() {
		_, _ = io.Copy(target, conn)
		_ = target.Close()
	}()
	_, _ = io.Copy(conn, target)
}

func (p *proxy) seen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.asked, "\n")
}

func TestProxy(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto+" "+r.Host+" "+r.Header.Get("Proxy-Authorization"))
	})
	plain := httptest.NewServer(handler)
	defer plain.Close()
	secure := httptest.NewUnstartedServer(handler)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	// The proxy itself is not in the allow list; the receivers' addresses are.
	allow := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	resolver := names(t, known(map[string]string{
		"example.com":    "127.0.0.1", // the name in httptest's certificate
		"inside.example": "10.0.0.1",
		"mixed.example":  "10.0.0.1 127.0.0.1",
	}))
	port := func(s *httptest.Server) string {
		_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
		return port
	}

	t.Run("tunnels http and https to the checked address", func(t *testing.T) {
		for _, tt := range []struct{ url, want, port string }{
			{"http://example.com:" + port(plain), "HTTP/1.1 example.com:" + port(plain) + " ", port(plain)},
			{"http://mixed.example:" + port(plain), "HTTP/1.1 mixed.example:" + port(plain) + " ", port(plain)},
			{"https://example.com:" + port(secure), "HTTP/2.0 example.com:" + port(secure) + " ", port(secure)},
		} {
			p := newProxy(t, "")
			c := newClient(t, Options{Proxy: p.url, Allow: allow, RootCAs: roots, Resolver: resolver})
			for i := range 2 {
				a := c.Send(within(t, 5*time.Second), Request{URL: tt.url, Body: []byte("x")})
				if a.Err != nil || string(a.Body) != tt.want || a.Reused != (i > 0) || a.Address != "127.0.0.1:"+tt.port {
					t.Errorf("%s: %q at %s, reused %v, %v", tt.url, a.Body, a.Address, a.Reused, a.Err)
				}
			}
			if want := "CONNECT 127.0.0.1:" + tt.port + " Basic dTpzM2NyZXQ="; p.seen() != want {
				t.Errorf("the proxy was asked %q, want %q", p.seen(), want)
			}
		}
	})
	t.Run("does not ask for forbidden addresses", func(t *testing.T) {
		p := newProxy(t, "")
		c := newClient(t, Options{Proxy: p.url, Allow: allow, Resolver: resolver})
		for _, target := range []string{"http://inside.example/", "https://inside.example/", "http://10.0.0.1/", "http://[::ffff:10.0.0.1]/", "http://127.1/"} {
			if a := c.Send(within(t, 5*time.Second), Request{URL: target}); a.Reason != waypost.ReasonForbidden {
				t.Errorf("%s: %q %v", target, a.Reason, a.Err)
			}
		}
		if p.seen() != "" {
			t.Errorf("the proxy was asked %q", p.seen())
		}
	})
	t.Run("tells its own failures apart", func(t *testing.T) {
		tests := []struct {
			answer string
			reason waypost.Reason
		}{
			{"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", waypost.ReasonInternal},
			{"HTTP/1.1 403 Forbidden\r\n\r\n", waypost.ReasonForbidden},
			{"HTTP/1.1 502 Bad Gateway\r\n\r\n", waypost.ReasonConnect},
			{"HTTP/1.1 200 OK\r\n\r\nsurplus", waypost.ReasonInternal},
			{"nonsense\r\n\r\n", waypost.ReasonInternal},
		}
		for _, tt := range tests {
			p := newProxy(t, tt.answer)
			c := newClient(t, Options{Proxy: p.url, Allow: allow, Resolver: resolver})
			a := c.Send(within(t, 5*time.Second), Request{URL: plain.URL})
			if a.Reason != tt.reason || strings.Contains(a.Err.Error(), "s3cret") {
				t.Errorf("%q: got %q %v", tt.answer, a.Reason, a.Err)
			}
		}
	})
	t.Run("may hang", func(t *testing.T) {
		hang := &url.URL{Scheme: "http", Host: listen(t, untilClosed)}
		c := newClient(t, Options{Proxy: hang, Allow: allow, Resolver: resolver})
		a := c.Send(within(t, 50*time.Millisecond), Request{URL: plain.URL})
		if a.Reason != waypost.ReasonTimeout {
			t.Errorf("got %q %v", a.Reason, a.Err)
		}
	})
	t.Run("can't be reached", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		gone := &url.URL{Scheme: "http", Host: l.Addr().String()}
		c := newClient(t, Options{Proxy: gone, Allow: allow, Resolver: resolver})
		a := c.Send(within(t, 5*time.Second), Request{URL: plain.URL})
		if a.Reason != waypost.ReasonInternal || !strings.HasPrefix(a.Err.Error(), "egress proxy: ") {
			t.Errorf("got %q %v", a.Reason, a.Err)
		}
	})
}
