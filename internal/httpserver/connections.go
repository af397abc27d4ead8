package httpserver

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// connections is a listener that keeps the number of connections bounded, and so
// what they take in memory. When there are as many as may be, a new one takes the
// place of one that idles between two requests; if all are busy it waits, and
// those behind it where the system keeps them.
type connections struct {
	net.Listener
	limit int

	waits  atomic.Bool // Accept waits for a place
	mu     sync.Mutex
	change *sync.Cond // a place may be free, or the listener is closed
	open   map[*connection]struct{}
	closed bool
}

type connection struct {
	net.Conn
	all   *connections
	idle  atomic.Bool // between two requests
	fresh atomic.Bool // ours, and nothing of its next request has come
	early []byte      // what was read before it was handed over
}

// Read gives first what was read already.
func (c *connection) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

func newConnections(listener net.Listener, limit int) *connections {
	c := &connections{Listener: listener, limit: limit, open: map[*connection]struct{}{}}
	c.change = sync.NewCond(&c.mu)
	return c
}

// Accept gives the next connection, once there is a place for it.
func (c *connections) Accept() (net.Conn, error) {
	accepted, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &connection{Conn: accepted, all: c}
	if !c.place(conn) {
		_ = accepted.Close()
		return nil, net.ErrClosed
	}
	return conn, nil
}

// place finds a place for a connection; false: the listener is closed.
func (c *connections) place(conn *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.open) >= c.limit && !c.closed {
		c.waits.Store(true)
		if idle := c.idle(); idle != nil {
			delete(c.open, idle)
			_ = idle.Conn.Close()
			break
		}
		c.change.Wait()
	}
	c.waits.Store(false)
	if !c.closed {
		c.open[conn] = struct{}{}
	}
	return !c.closed
}

// idle is a connection between two requests, if there is one.
func (c *connections) idle() *connection {
	for conn := range c.open {
		if conn.idle.Load() {
			return conn
		}
	}
	return nil
}

// note is the server's hook: it hears what state each connection is in.
func (c *connections) note(conn net.Conn, state http.ConnState) {
	ours, ok := conn.(*connection)
	if !ok {
		return
	}
	if state == http.StateIdle {
		c.rest(ours)
	} else {
		ours.idle.Store(false)
	}
}

// rest notes that a connection idles.
func (c *connections) rest(conn *connection) {
	conn.idle.Store(true)
	if c.waits.Load() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.change.Signal()
	}
}

// Close ends the listening; connections live on.
func (c *connections) Close() error {
	c.mu.Lock()
	c.closed = true
	c.change.Broadcast()
	c.mu.Unlock()
	return c.Listener.Close()
}

// Close frees the place.
func (c *connection) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.change.Signal()
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite is what the server does before it closes, for what it wrote to
// arrive.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
