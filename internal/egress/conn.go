package egress

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// conn is an HTTP/1.1 connection. One exchange at a time runs on it, in the
// goroutine of the caller.
type conn struct {
	net.Conn
	host    host
	address string
	socket  net.Conn    // what it runs on, below TLS and tunnels
	silent  func() bool // reports that the receiver has neither closed it nor sent more
	cut     func()      // makes what blocks on it come back
	used    bool        // it has carried an exchange

	// The pool's.
	since        time.Time
	older, newer *conn
}

func newConn(nc net.Conn, h host) *conn {
	c := &conn{Conn: nc, host: h, address: nc.RemoteAddr().String(), socket: socketOf(nc)}
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
func (c *conn) drop() { _ = c.socket.Close() }

// written is the end of writing a request.
type written struct {
	at  time.Time
	err error
}

// patience is how long after an answer the rest of a request may take.
const patience = 50 * time.Millisecond

// exchange sends a POST and reads its answer. unsent says that the connection
// turned out to be closed before a byte of the request was on its way.
func (c *conn) exchange(ctx context.Context, w *watch, t *target, h http.Header, body []byte, limit int) (a Answer, keep, unsent bool) {
	w.got(c.address, c.used)
	_ = c.socket.SetDeadline(w.until) // fails on what is closed, which writing finds out
	stop := context.AfterFunc(ctx, c.cut)
	r := newReader(c)
	defer r.release()

	n, rest, err := c.write(r.buf[:0], t, h, body)
	if err != nil && n == 0 && c.used && w.ended(ctx) == nil {
		stop()
		return a, false, true
	}
	if err == nil && rest == nil {
		w.mark(&w.sent)
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
	keep = stop() && err == nil && complete && r.spent() && len(h["Connection"]) == 0
	if err != nil {
		failed := w.failed(ctx, err)
		a.Err, a.Reason = failed.Err, failed.Reason
	}
	return a, keep, false
}

// write sends the head with as much of the body as goes with it in one go, and
// the rest from another goroutine: a receiver may answer before it has read all
// and then read no more.
func (c *conn) write(buffer []byte, t *target, h http.Header, body []byte) (n int, rest <-chan written, err error) {
	buffer = t.appendHead(buffer, h, len(body))
	first := min(len(body), cap(buffer)-len(buffer))
	buffer = append(buffer, body[:first]...)
	n, err = c.Write(buffer)
	if err == nil && first < len(body) {
		rest = c.goOn(body[first:])
	}
	return n, rest, err
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
		return <-rest
	}
}

// read takes in the answer, as far as it came.
func (r *reader) read(w *watch, limit int) (a Answer, err error) {
	if err = r.fill(); err != nil {
		return a, err
	}
	w.mark(&w.firstByte)
	if a.Status, a.Header, err = r.answer(); err != nil || r.ended {
		return a, err
	}
	a.Body, err = readBody(r, headCap, limit)
	return a, err
}
