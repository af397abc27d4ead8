package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// conn is an HTTP/1.1 connection. One exchange at a time runs on it, in the
// goroutine of the caller.
type conn struct {
	net.Conn
	host    host
	address string
	socket  net.Conn    // what it runs on, below TLS and tunnels
	asker   *asker      // nil unless the connection is but its socket
	silent  func() bool // reports that the receiver has neither closed it nor sent more
	cut     func()      // makes what blocks on it come back
	used    bool        // it has carried an exchange

	deadline time.Time // of the socket, unless it was cut

	bound <-chan struct{} // Done of the context that cuts it; nil: none
	stop  func() bool     // lets it do so no more

	// The pool's.
	since        time.Time
	older, newer *conn
}

func newConn(nc net.Conn, h host) *conn {
	c := &conn{Conn: nc, host: h, address: nc.RemoteAddr().String(), socket: socketOf(nc)}
	c.asker = newAsker(nc)
	c.silent = silence(c.socket)
	c.cut = func() { _ = c.socket.SetDeadline(time.Unix(1, 0)) }
	return c
}

func socketOf(nc net.Conn) net.Conn {
	for {
		switch outer := nc.(type) {
		case *tls.Conn:
			nc = outer.NetConn()
		case *tunnelConn:
			nc = outer.Conn
		default:
			return nc
		}
	}
}

// drop closes the connection without TLS's farewell, for which a receiver that
// does not read could make us wait.
func (c *conn) drop() {
	c.loosen()
	_ = c.socket.Close()
}

// Close closes the connection.
func (c *conn) Close() error {
	c.loosen()
	return c.Conn.Close()
}

// bind makes what blocks on the connection come back at a time, and when ctx
// ends; false: the context of an earlier exchange has ended the connection.
func (c *conn) bind(ctx context.Context, until time.Time) bool {
	if c.bound != ctx.Done() && !c.loosen() {
		return false
	}
	if until != c.deadline {
		c.deadline = until
		_ = c.socket.SetDeadline(until) // fails on what is closed, which writing finds out
	}
	switch {
	case c.bound == nil && ctx.Done() != nil:
		c.bound, c.stop = ctx.Done(), context.AfterFunc(ctx, c.cut)
	case ctx.Err() != nil: // it may have cut the connection before the deadline was set
		c.cut()
	}
	return true
}

// loosen undoes bind; false: the connection is cut, or is being.
func (c *conn) loosen() bool {
	if c.bound == nil {
		return true
	}
	c.bound = nil
	return c.stop()
}

// written is the end of writing a request.
type written struct {
	at  time.Time
	err error
}

// patience is how long after an answer the rest of a request may take.
const patience = 50 * time.Millisecond

// errOver is a kept connection that was closed meanwhile, or on which something
// came that nobody asked for.
var errOver = errors.New("the kept connection is over")

// exchange sends a POST and reads its answer. unsent says that the connection
// turned out to be over before a byte of the request was on its way.
func (c *conn) exchange(ctx context.Context, w *watch, t *target, h []Field, body []byte, limit int) (a Answer, keep, unsent bool) {
	w.got(c.address, c.used)
	if !c.bind(ctx, w.latest()) {
		return a, false, true
	}
	r := newReader(c)
	defer r.release()

	request := t.appendHead(r.buf[:0], h, len(body))
	first := min(len(body), cap(request)-len(request))
	request, body = append(request, body[:first]...), body[first:]
	n, err := c.send(w, r, request, len(body) == 0)
	if errors.Is(err, errOver) || err != nil && n == 0 && c.used && w.ended(ctx) == nil {
		return a, false, true
	}
	// A receiver may answer before it has read all, and then read no more.
	var rest <-chan written
	if err == nil && len(body) > 0 {
		rest = c.goOn(body)
	}
	// Whoever won't read on may have answered nevertheless.
	a, readErr := r.read(w, limit)
	complete := err == nil
	if rest != nil {
		end := c.settle(rest, readErr)
		if end.err == nil {
			w.markAt(&w.sent, end.at)
		}
		complete = end.err == nil
	}
	if err == nil || readErr == nil {
		err = readErr
	}
	keep = c.stays(ctx, w) && err == nil && complete && r.spent() && !has(h, "Connection")
	if err != nil {
		failed := w.failed(ctx, err)
		a.Err, a.Reason = failed.Err, failed.Reason
	}
	return a, keep, false
}

// stays reports that the context of the exchange has not cut the connection. One
// that serves other exchanges as well stays bound to it: binding costs more.
func (c *conn) stays(ctx context.Context, w *watch) bool {
	if w.shared {
		return ctx.Err() == nil
	}
	return c.loosen()
}

// send writes a request, or the part of it that goes in one go. The beginning of
// the answer may be in the reader then.
func (c *conn) send(w *watch, r *reader, request []byte, whole bool) (n int, err error) {
	over := false
	if c.asker != nil && whole {
		n, r.to, over = c.asker.ask(w, request, r.buf, c.used)
	} else {
		over = c.used && !c.silent()
	}
	switch {
	case over:
		return 0, errOver
	case n == len(request):
		return n, nil
	}
	more, err := c.Write(request[n:])
	if err == nil && whole {
		w.mark(&w.sent)
	}
	return n + more, err
}

func (c *conn) goOn(body []byte) <-chan written {
	end := make(chan written, 1)
	go func() {
		_, err := c.Write(body)
		end <- written{time.Now(), err}
	}()
	return end
}

// settle waits until the rest of the body is written, or makes an end of it.
func (c *conn) settle(rest <-chan written, answered error) written {
	wait := patience
	if answered != nil {
		wait = 0
	}
	select {
	case end := <-rest:
		return end
	case <-time.After(wait):
		c.cut()
		c.deadline = time.Unix(1, 0)
		return <-rest
	}
}

// read takes in the answer, as far as it came.
func (r *reader) read(w *watch, limit int) (a Answer, err error) {
	if r.from == r.to {
		err = r.fill()
	}
	if err != nil {
		return a, err
	}
	w.mark(&w.firstByte)
	if a.Status, a.Header, err = r.answer(); err != nil || r.ended {
		return a, err
	}
	a.Body, err = readBody(r, headCap, limit)
	return a, err
}
