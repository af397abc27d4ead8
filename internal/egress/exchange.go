package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// direct sends a POST over a connection of ours, or hands it to net/http if the
// receiver would rather speak HTTP/2.
func (c *Client) direct(ctx context.Context, w *watch, t *target, h []Field, body []byte) Answer {
	if err := ctx.Err(); err != nil {
		return w.answer(w.failed(ctx, err))
	}
	link, http2 := c.pool.take(t.host)
	for ; link != nil; link, http2 = c.pool.take(t.host) {
		if a, unsent := c.over(ctx, link, w, t, h, body); !unsent {
			return w.answer(a)
		}
	}
	bound, cancel := w.bound(ctx)
	defer cancel()
	if http2 {
		return c.transported(bound, w.start, http.MethodPost, t, h, body, headCap)
	}
	nc, err := c.dialer.connection(bound, t.host)
	if err != nil {
		return w.answer(w.failed(bound, err))
	}
	if speaksHTTP2(nc) {
		return c.handOver(bound, w.start, nc, t, h, body)
	}
	a, _ := c.over(ctx, newConn(nc, t.host), w, t, h, body)
	return w.answer(a)
}

// over makes the exchange on a connection, and keeps that for the next if it may.
func (c *Client) over(ctx context.Context, link *conn, w *watch, t *target, h []Field, body []byte) (a Answer, unsent bool) {
	a, keep, unsent := link.exchange(ctx, w, t, h, body, c.maxBody)
	if keep {
		link.used = true
		c.pool.put(link)
	} else {
		link.drop()
	}
	return a, unsent
}

func speaksHTTP2(nc net.Conn) bool {
	client, ok := nc.(*tls.Conn)
	return ok && client.ConnectionState().NegotiatedProtocol == "h2"
}

// offer is a connection that net/http's dial may take instead of making one.
type offer struct{ conn atomic.Pointer[net.Conn] }

type offerKey struct{}

// offered gives the connection offered with a dial, once.
func offered(ctx context.Context) net.Conn {
	if o, ok := ctx.Value(offerKey{}).(*offer); ok {
		if conn := o.conn.Swap(nil); conn != nil {
			return *conn
		}
	}
	return nil
}

// handOver goes on with net/http on a connection that turned out to speak
// HTTP/2, and remembers that the host does.
func (c *Client) handOver(ctx context.Context, start time.Time, nc net.Conn, t *target, h []Field, body []byte) Answer {
	c.pool.learn(t.host, true)
	o := &offer{}
	o.conn.Store(&nc)
	ctx = context.WithValue(ctx, offerKey{}, o)
	answer := c.transported(ctx, start, http.MethodPost, t, h, body, headCap)
	if unused := offered(ctx); unused != nil { // another connection came first
		_ = unused.Close()
	}
	return answer
}

// transported is an exchange that net/http makes: HTTP/2, GET, and hosts in
// other scripts. Up to keep bytes of the body are kept.
func (c *Client) transported(ctx context.Context, start time.Time, method string, t *target, h []Field, body []byte, keep int) Answer {
	w := &watch{start: start}
	response, err := c.transport.RoundTrip(newRequest(w.trace(ctx), method, t, h, body))
	if err != nil {
		return w.answer(w.failed(ctx, err))
	}
	c.pool.learn(t.host, response.ProtoMajor == 2)
	a := Answer{Status: response.StatusCode, Header: linesOf(response.Header)}
	if response.StatusCode != http.StatusSwitchingProtocols { // what follows a 101 is no body
		a.Body, err = readBody(response.Body, keep, c.maxBody)
	}
	response.Body.Close() // net/http may tell only now when it had sent the request
	if err != nil {
		failed := w.failed(ctx, err)
		a.Err, a.Reason = failed.Err, failed.Reason
	}
	return w.answer(a)
}

// newRequest builds what the transport wants. It goes without http.NewRequest
// and http.Client, which would parse and copy more than this path needs.
func newRequest(ctx context.Context, method string, t *target, h []Field, body []byte) *http.Request {
	request := &http.Request{
		Method:     method,
		URL:        t.url,
		Host:       t.url.Host,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     httpHeader(h),
	}
	if len(body) > 0 {
		request.ContentLength = int64(len(body))
		request.Body = bodyOf(body)
		// Lets the transport take another connection when a kept one turns out
		// to be closed before anything was written to it.
		request.GetBody = func() (io.ReadCloser, error) { return bodyOf(body), nil }
	} else if method == http.MethodPost {
		request.Body = http.NoBody // sends Content-Length: 0
	}
	return request.WithContext(ctx)
}

func bodyOf(body []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(body)) }

var buffers = sync.Pool{New: func() any { return new([headCap]byte) }}

// readBody takes in a body up to limit, so that the connection can be kept when
// the body ends before it, and returns the first keep bytes.
func readBody(body io.Reader, keep, limit int) ([]byte, error) {
	if keep > headCap {
		return io.ReadAll(io.LimitReader(body, int64(limit)))
	}
	buffer := buffers.Get().(*[headCap]byte)
	defer buffers.Put(buffer)
	n, err := fill(body, buffer[:min(keep, limit)])
	if err == nil { // there may be more
		_, err = io.Copy(io.Discard, io.LimitReader(body, int64(limit-n)))
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return bytes.Clone(buffer[:n]), err
}

// fill reads until the buffer is full (nil) or the reader errs. Unlike
// io.ReadFull it leaves the error as it is: an unexpected end of the body must
// not look like its end.
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var m int
		m, err = r.Read(buffer[n:])
		n += m
	}
	if n == len(buffer) && errors.Is(err, io.EOF) {
		err = nil // the copy that follows meets the end again
	}
	return n, err
}
