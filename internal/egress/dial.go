package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// dialer opens connections to receivers, directly or through the proxy. Its
// errors are *dialError, so that what went wrong is known by where it went
// wrong and not by the text of an error.
type dialer struct {
	guard    *guard
	resolver *net.Resolver
	direct   net.Dialer // checks what it dials
	timeout  time.Duration
	tls      *tls.Config

	proxy     *url.URL // nil: none
	proxyAddr string
	proxyDial net.Dialer // checks nothing: the proxy is the operator's choice
}

// dialError is a connection that did not come about.
type dialError struct {
	phase phase
	addr  string // ip:port where it is known
	err   error
}

type phase uint8

const (
	phaseConnect phase = iota
	phaseTLS
	phaseProxy // the proxy can't be reached or won't serve us: our side's fault
)

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

func newDialer(o Options, g *guard) (*dialer, error) {
	plain := net.Dialer{Timeout: o.DialTimeout, KeepAlive: 30 * time.Second, Resolver: o.Resolver}
	if o.LocalAddr.IsValid() {
		plain.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(o.LocalAddr, 0))
	}
	d := &dialer{
		guard:     g,
		resolver:  o.Resolver,
		direct:    plain,
		timeout:   o.DialTimeout,
		tls:       newTLSConfig(o.RootCAs),
		proxy:     o.Proxy,
		proxyDial: plain,
	}
	d.direct.ControlContext = d.control
	if o.Proxy != nil {
		port := map[string]string{"http": "80", "https": "443"}[o.Proxy.Scheme]
		if port == "" || o.Proxy.Hostname() == "" {
			return nil, errors.New("the egress proxy must be an http:// or https:// URL with a host")
		}
		if o.Proxy.Port() != "" {
			port = o.Proxy.Port()
		}
		d.proxyAddr = net.JoinHostPort(o.Proxy.Hostname(), port)
	}
	return d, nil
}

// control sees every address right before it is dialled, after name look-up.
func (d *dialer) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil || (network != "tcp4" && network != "tcp6") {
		return &forbiddenError{"only TCP to an IP address is dialled"}
	}
	return d.guard.check(addr.Addr())
}

func (d *dialer) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	if d.proxy != nil {
		return d.tunnel(ctx, addr)
	}
	conn, err := d.direct.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, &dialError{phase: phaseConnect, addr: dialled(err), err: err}
	}
	return conn, nil
}

// connection dials a host, and shakes hands where TLS is wanted.
func (d *dialer) connection(ctx context.Context, h host) (net.Conn, error) {
	if h.secure {
		return d.dialTLS(ctx, "tcp", h.address)
	}
	return d.dial(ctx, "tcp", h.address)
}

func (d *dialer) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	if conn := offered(ctx); conn != nil {
		return conn, nil
	}
	conn, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		_ = conn.Close()
		return nil, &dialError{phase: phaseConnect, err: err}
	}
	return d.handshake(ctx, conn, host, d.tls, phaseTLS)
}

func (d *dialer) handshake(ctx context.Context, conn net.Conn, host string, config *tls.Config, p phase) (net.Conn, error) {
	// The transport lets a dial outlive the request that wanted it, so the
	// handshake needs a limit of its own.
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	config = config.Clone()
	config.ServerName = host
	client := tls.Client(conn, config)
	if err := client.HandshakeContext(ctx); err != nil {
		addr := conn.RemoteAddr().String()
		_ = conn.Close()
		return nil, &dialError{phase: p, addr: addr, err: err}
	}
	return client, nil
}

// tunnel reaches addr through the proxy. The name is resolved and checked
// here, and the proxy is told the address and never the name: it can't be led
// elsewhere by an answer that differs from the one we checked.
func (d *dialer) tunnel(ctx context.Context, addr string) (net.Conn, error) {
	targets, err := d.resolve(ctx, addr)
	if err != nil {
		return nil, &dialError{phase: phaseConnect, err: err}
	}
	var first error
	for _, target := range targets {
		conn, err := d.connect(ctx, target)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		var refused *refusedError
		if !errors.As(err, &refused) { // another address would fare no better
			break
		}
	}
	return nil, first
}

// resolve gives the addresses of a host that may be sent to, IPv4 first (a
// proxy may well have nothing else).
func (d *dialer) resolve(ctx context.Context, addr string) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, &net.AddrError{Err: "invalid port", Addr: portText}
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	addrs, err := d.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var v4, v6 []netip.AddrPort
	for _, a := range addrs {
		a = a.Unmap()
		if e := d.guard.check(a); e != nil {
			if err == nil {
				err = e
			}
			continue
		}
		if a.Is4() {
			v4 = append(v4, netip.AddrPortFrom(a, uint16(port)))
		} else {
			v6 = append(v6, netip.AddrPortFrom(a, uint16(port)))
		}
	}
	if allowed := append(v4, v6...); len(allowed) > 0 {
		return allowed, nil
	}
	if err == nil {
		err = &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	return nil, err
}

// refusedError is a proxy's answer other than 200 to CONNECT.
type refusedError struct{ status int }

func (e *refusedError) Error() string {
	return fmt.Sprintf("the egress proxy answered %d to CONNECT", e.status)
}

func (d *dialer) connect(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
	conn, err := d.proxyDial.DialContext(ctx, "tcp", d.proxyAddr)
	if err != nil {
		return nil, &dialError{phase: phaseProxy, err: err}
	}
	if d.proxy.Scheme == "https" {
		config := d.tls.Clone()
		config.NextProtos = nil
		if conn, err = d.handshake(ctx, conn, d.proxy.Hostname(), config, phaseProxy); err != nil {
			return nil, err
		}
	}
	if err := d.ask(ctx, conn, target); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &tunnelConn{Conn: conn, target: net.TCPAddrFromAddrPort(target)}, nil
}

// ask makes the proxy connect conn to target.
func (d *dialer) ask(ctx context.Context, conn net.Conn, target netip.AddrPort) error {
	_ = conn.SetDeadline(time.Now().Add(d.timeout)) // a broken connection shows in the write
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	request := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Opaque: target.String()},
		Host:   target.String(),
		Header: http.Header{"User-Agent": nil},
	}
	if user := d.proxy.User; user != nil {
		password, _ := user.Password()
		request.Header.Set("Proxy-Authorization", basic(user.Username(), password))
	}
	status, err := roundTrip(conn, request)
	if !stop() { // the context ended, and the deadline may not be lifted any more
		return &dialError{phase: phaseConnect, addr: target.String(), err: context.Cause(ctx)}
	}
	if err != nil {
		return &dialError{phase: phaseProxy, err: err}
	}
	switch status {
	case http.StatusOK:
		return conn.SetDeadline(time.Time{})
	case http.StatusProxyAuthRequired:
		return &dialError{phase: phaseProxy, err: errors.New("the egress proxy refused our credentials")}
	case http.StatusForbidden:
		return &dialError{phase: phaseConnect, addr: target.String(), err: &forbiddenError{"the egress proxy forbids this address"}}
	}
	return &dialError{phase: phaseConnect, addr: target.String(), err: &refusedError{status}}
}

// roundTrip leaves the answer's body alone: after a 200 there is none, though
// it looks endless, and otherwise it goes down with the connection.
func roundTrip(conn net.Conn, request *http.Request) (status int, err error) {
	if err := request.Write(conn); err != nil {
		return 0, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request) //nolint:bodyclose // see above
	if err != nil {
		return 0, err
	}
	if response.StatusCode == http.StatusOK && reader.Buffered() > 0 {
		return 0, errors.New("the egress proxy sent more than an answer to CONNECT")
	}
	return response.StatusCode, nil
}

// tunnelConn shows the receiver's address where its connection leads to the
// proxy.
type tunnelConn struct {
	net.Conn
	target net.Addr
}

func (c *tunnelConn) RemoteAddr() net.Addr { return c.target }

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// dialled is the address a failed dial was for, if the error tells.
func dialled(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		return op.Addr.String()
	}
	return ""
}
