// Package egress is the only way out: every request the gateway makes to an
// address that someone else chose goes through a Client.
//
// The model. Which address a request may go to is decided on the address that
// is about to be dialled, after the name was resolved, so that no name, odd
// notation, second DNS answer or redirect leads anywhere else. Everything but
// the public internet is refused unless the operator listed it in
// Options.Allow. Redirects are never followed.
//
// A hook is sent over HTTP/1.1 by the goroutine that calls Send, and by no
// other: it takes a kept connection or dials one, writes the request, reads the
// answer and leaves the connection for the next. What the answer is made of is
// checked strictly, and limited while it is read; a connection is kept only if
// its answer was read to the end and nothing followed. A receiver that chooses
// HTTP/2 in the TLS handshake is left to net/http from then on, and so are GETs.
// Both ways dial through the same guarded dialer.
//
// What happens on failure: Send always comes back with an Answer, at the
// latest when its context ends. Answer.Err is nil if the receiver answered,
// whatever its status; otherwise Answer.Reason says in one word what went
// wrong, and the text of Answer.Err holds no URL query, no user info and no
// header. Nothing is ever sent twice by this package: another connection is
// tried only if a kept one was over before a byte of the request had left; a
// request that broke is for the caller to repeat.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Options says how a Client reaches out. The zero value sends to public
// addresses only, directly, and trusts the system's certificate authorities.
type Options struct {
	// Allow lists what may be sent to besides the public internet. A metadata
	// service's address is allowed by a prefix of exactly that address and not
	// by a wider one.
	Allow []netip.Prefix
	// RootCAs are the authorities to trust; nil means the system's.
	RootCAs *x509.CertPool
	// Proxy is an http or https proxy through which everything is tunnelled
	// (CONNECT, to the address that was checked and not to the name). Its own
	// address is not checked. nil: none; the environment is not consulted.
	Proxy *url.URL
	// LocalAddr is the address to send from; zero: the system chooses.
	LocalAddr netip.Addr
	// MaxBody bounds how much of an answer's body is read. Default 64 KiB.
	MaxBody int
	// UserAgent names us where the request does not. Default "Waypost".
	UserAgent string
	// DialTimeout bounds connect and TLS handshake, each; the context bounds
	// them too. Default 30 s.
	DialTimeout time.Duration
	// Resolver finds addresses; nil means net.DefaultResolver.
	Resolver *net.Resolver
}

// Request is one POST.
type Request struct {
	URL    string
	Header []Field // left as it is; sent in the order of the names
	// Body may still be read for a moment after Send has returned (when an
	// HTTP/2 answer came before the request was written): do not reuse its
	// memory.
	Body []byte
	// Timeout bounds all of it, as a deadline of the context does, to a
	// sixty-fourth, and costs less where one context serves for many requests:
	// connections that are kept stay bound to it, and go with it. 0: the context
	// alone bounds the request.
	Timeout time.Duration
}

// Answer is what came of a request.
type Answer struct {
	// Status is the answer's HTTP status. It is kept when the answer broke off
	// afterwards: look at Err first.
	Status int
	Header Header
	Body   []byte // the head of it, at most 4 KiB
	// Err is nil exactly when an answer came, and came to its end or to the
	// limit of what we read. Its text is for people and holds no secrets.
	Err error
	// Reason is empty when Err is nil: what the status means is not known here.
	Reason   waypost.Reason
	Address  string // the address dialled, ip:port; may be empty
	Reused   bool   // the connection was kept from an earlier request
	Phases   waypost.Phases
	Duration time.Duration
}

// Stale reports that a kept connection broke before anything of the answer
// came. The receiver may have closed it before it saw the request, which is no
// fault of the receiver's.
func (a *Answer) Stale() bool {
	return a.Reused && a.Phases.FirstByte == 0 && a.Reason == waypost.ReasonReset
}

const (
	headCap        = 4 << 10
	defaultMaxBody = 64 << 10
)

// Client sends requests. It is safe for concurrent use and keeps connections
// open between requests.
type Client struct {
	guard     *guard
	dialer    *dialer
	pool      *pool
	transport *http.Transport // for what direct leaves to it
	maxBody   int
	userAgent string

	targetsMu sync.RWMutex
	targets   map[string]*target // by their URL's text
}

// New makes a Client. It fails only on options that can't work.
func New(o Options) (*Client, error) {
	if o.MaxBody <= 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.UserAgent == "" {
		o.UserAgent = "Waypost"
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 30 * time.Second
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	guard := newGuard(o.Allow)
	d, err := newDialer(o, guard)
	if err != nil {
		return nil, err
	}
	return &Client{
		guard:     guard,
		dialer:    d,
		pool:      newPool(),
		transport: newTransport(d),
		maxBody:   o.MaxBody,
		userAgent: o.UserAgent,
		targets:   map[string]*target{},
	}, nil
}

func newTransport(d *dialer) *http.Transport {
	return &http.Transport{
		// Proxy stays nil: the dialer tunnels, so that the address which was
		// checked is the one that is reached.
		DialContext:    d.dial,
		DialTLSContext: d.dialTLS,
		// A dialer of one's own switches HTTP/2 off unless asked for.
		ForceAttemptHTTP2: true,
		// MaxConnsPerHost stays 0: a limit can hang HTTP/2 requests, and how
		// many are in flight per endpoint is the caller's to bound.
		MaxIdleConnsPerHost:    64,
		MaxIdleConns:           2000,
		IdleConnTimeout:        60 * time.Second,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		// A hook and its header leave in one write.
		WriteBufferSize: 8 << 10,
		ReadBufferSize:  4 << 10,
		// A dead HTTP/2 connection is noticed before it fails many requests.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
	}
}

// Send posts the request. The context's deadline and the timeout cover
// everything: name look-up, connect, TLS, write, header, and the body's end or the
// limit of what is read of it.
func (c *Client) Send(ctx context.Context, r Request) Answer {
	w := watch{start: time.Now(), shared: r.Timeout > 0}
	w.until, _ = ctx.Deadline()
	if own := w.start.Add(r.Timeout); r.Timeout > 0 && (w.until.IsZero() || own.Before(w.until)) {
		w.until = own
	}
	t, h, err := c.prepare(r)
	switch {
	case err != nil:
		return Answer{Err: err, Reason: err.reason, Duration: time.Since(w.start)}
	case t.opening == "":
		ctx, cancel := w.bound(ctx)
		defer cancel()
		return c.transported(ctx, w.start, http.MethodPost, t, h, r.Body, headCap)
	}
	return c.direct(ctx, &w, t, h, r.Body)
}

// Get fetches a URL under the same rules; body is cut at Options.MaxBody.
func (c *Client) Get(ctx context.Context, url string) (status int, body []byte, err error) {
	t, h, prepareErr := c.prepare(Request{URL: url})
	if prepareErr != nil {
		return 0, nil, prepareErr
	}
	answer := c.transported(ctx, time.Now(), http.MethodGet, t, h, nil, c.maxBody)
	return answer.Status, answer.Body, answer.Err
}

// Open fetches a URL under the same rules and gives the answer as it comes; ctx
// bounds the reading of its body too, which is the caller's to close.
func (c *Client) Open(ctx context.Context, url string, header http.Header) (*http.Response, error) {
	t, h, prepareErr := c.prepare(Request{URL: url, Header: fieldsOf(header)})
	if prepareErr != nil {
		return nil, prepareErr
	}
	response, err := c.transport.RoundTrip(newRequest(ctx, http.MethodGet, t, h, nil))
	if err != nil {
		return nil, (&watch{}).failed(ctx, err).Err
	}
	return response, nil
}

// prepare checks at the door what can be checked there.
func (c *Client) prepare(r Request) (*target, []Field, *Error) {
	t, err := c.target(r.URL)
	if err != nil {
		return nil, nil, err
	}
	h, err := c.header(r.Header, t.url.User)
	return t, h, err
}

// Close closes the connections that are not in use. Those that are will be
// closed after it.
func (c *Client) Close() {
	c.pool.close()
	c.transport.CloseIdleConnections()
}

// LoadRootCAs is the system's pool with the certificates of a PEM file added.
func LoadRootCAs(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read CA file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil { // a system without any is no reason to fail
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read CA file: %s holds no PEM certificate", path)
	}
	return pool, nil
}

func newTLSConfig(roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		RootCAs:            roots,
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2", "http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(1024),
	}
}
