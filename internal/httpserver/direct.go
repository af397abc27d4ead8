package httpserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// front takes connections in. Each begins in our hands, and stays there as long
// as what comes on it are plain POSTs to paths of Options.Direct: its goroutine
// reads a request, calls the handler and writes the answer. The first request
// that is anything else makes the connection net/http's for good, together with
// what was read of it.
//
// It is the listener of net/http's server, which gets such connections from it.
type front struct {
	*connections
	server   *Server
	openings []string // how the requests that are ours begin
	handed   chan net.Conn
	failed   chan error
	closed   chan struct{}
	close    func()
	draining atomic.Bool
	serving  sync.WaitGroup
}

func newFront(s *Server, c *connections) *front {
	f := &front{
		connections: c, server: s,
		handed: make(chan net.Conn), failed: make(chan error), closed: make(chan struct{}),
	}
	f.close = sync.OnceFunc(func() { close(f.closed) })
	for _, path := range s.options.Direct {
		f.openings = append(f.openings, "POST "+path)
	}
	return f
}

// run takes connections in until the listener is closed. Other errors are
// net/http's to deal with: it lets some time pass.
func (f *front) run(ctx context.Context) {
	for {
		conn, err := f.connections.Accept()
		switch {
		case err == nil:
			f.serving.Go(func() { f.serve(ctx, conn.(*connection)) })
		case errors.Is(err, net.ErrClosed):
			f.close()
			return
		default:
			select {
			case f.failed <- err:
			case <-f.closed:
				return
			}
		}
	}
}

// Accept gives a connection that is not ours.
func (f *front) Accept() (net.Conn, error) {
	select {
	case conn := <-f.handed:
		return conn, nil
	case err := <-f.failed:
		return nil, err
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listening; connections live on.
func (f *front) Close() error {
	f.close()
	return f.connections.Close()
}

// drain lets the requests under way finish, and no other begin.
func (f *front) drain() {
	f.draining.Store(true)
	f.each(func(c *connection) bool { return c.fresh.Load() })
}

// finished waits for what drain lets finish; what has not when ctx ends is cut off.
func (f *front) finished(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		f.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		f.each(func(*connection) bool { return true })
		return ctx.Err()
	}
}

// each closes those of the open connections that which says.
func (f *front) each(which func(*connection) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.open {
		if which(c) {
			_ = c.Conn.Close()
		}
	}
}

// serve serves a connection, or hands it over.
func (f *front) serve(ctx context.Context, c *connection) {
	d := directs.Get().(*direct)
	defer directs.Put(d)
	d.begin(ctx, f, c)
	defer d.end()
	if d.serve() {
		c.fresh.Store(false)
		c.idle.Store(false)
		c.early = bytes.Clone(d.buf[d.from:d.to])
		_ = c.SetDeadline(time.Time{}) // fails on what is closed, which reading finds out
		select {
		case f.handed <- c:
			return
		case <-f.closed:
		}
	}
	_ = c.Close()
}

// bufferSize is the longest head that we read ourselves.
const bufferSize = 8 << 10

// direct is a connection in our hands.
type direct struct {
	front *front
	conn  *connection
	limit int // of a head

	buf      [bufferSize]byte
	from, to int // what was read and not used yet: buf[from:to]
	out      bytes.Buffer

	// Of the request under way; used again for the next.
	parser   parser
	exchange exchange
	body     arriving
	answer   answering

	readBy time.Time // the deadline in force
}

var directs = sync.Pool{New: func() any { return new(direct) }}

func (d *direct) begin(ctx context.Context, f *front, c *connection) {
	d.front, d.conn = f, c
	d.limit = min(bufferSize, f.server.options.MaxHeaderBytes)
	d.answer.header = http.Header{}
	d.parser.template = (&http.Request{
		Method: http.MethodPost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: c.RemoteAddr().String(),
	}).WithContext(ctx)
}

func (d *direct) end() {
	d.front, d.conn = nil, nil
	d.from, d.to, d.readBy = 0, 0, time.Time{}
	d.out, d.parser, d.exchange, d.body, d.answer = bytes.Buffer{}, parser{}, exchange{}, arriving{}, answering{}
}

// serve serves one request after the other, until the connection ends or is not
// for us any more.
func (d *direct) serve() (handOver bool) {
	if !d.await(d.front.server.options.HeaderTimeout) {
		return false
	}
	for {
		r, ok := d.read()
		if r == nil {
			return ok
		}
		if !d.reply(r) || !d.rest() {
			return false
		}
	}
}

// await waits for the first bytes of a request.
func (d *direct) await(timeout time.Duration) bool {
	d.conn.fresh.Store(true)
	if d.front.draining.Load() { // and was perhaps before fresh could be seen
		return false
	}
	d.within(time.Now().Add(timeout), timeout/8)
	err := d.fill()
	d.conn.fresh.Store(false)
	return err == nil
}

// rest waits for the next request.
func (d *direct) rest() bool {
	if d.front.draining.Load() {
		return false
	}
	for d.from < d.to && (d.buf[d.from] == '\r' || d.buf[d.from] == '\n') { // as some clients end a body
		d.from++
	}
	if d.from < d.to {
		return true
	}
	d.front.rest(d.conn)
	defer d.conn.idle.Store(false)
	return d.await(d.front.server.options.IdleTimeout)
}

// within sets the deadline for reading, unless one is in force that is earlier by
// less than slack.
func (d *direct) within(by time.Time, slack time.Duration) {
	if early := by.Sub(d.readBy); !d.readBy.IsZero() && 0 <= early && early <= slack {
		return
	}
	d.readBy = by
	_ = d.conn.SetReadDeadline(by) // fails on what is closed, which reading finds out
}

// fill reads more.
func (d *direct) fill() error {
	if d.from == d.to {
		d.from, d.to = 0, 0
	} else if d.to == len(d.buf) {
		d.to = copy(d.buf[:], d.buf[d.from:d.to])
		d.from = 0
	}
	n, err := d.conn.Read(d.buf[d.to:])
	if d.to += n; n > 0 {
		return nil // an error comes again
	}
	return err
}

var headEnd = []byte("\r\n\r\n")

// read takes in the head of the next request. Without a request ok says that the
// connection is to be handed over.
func (d *direct) read() (r *http.Request, ok bool) {
	for waited := false; ; waited = true {
		have := d.buf[d.from:d.to]
		if !slices.ContainsFunc(d.front.openings, func(opening string) bool { return begins(have, opening) }) {
			return nil, true
		}
		if end := bytes.Index(have, headEnd); end >= 0 {
			r, length := d.parser.parse(have[:end+len(lineEnd)])
			if r == nil {
				return nil, true
			}
			d.from += end + len(headEnd)
			d.body = arriving{direct: d, left: length}
			r.Body = &d.body
			return r, true
		}
		if len(have) >= d.limit {
			return nil, true
		}
		if !waited {
			d.within(time.Now().Add(d.front.server.options.HeaderTimeout), 0)
		}
		if d.fill() != nil {
			return nil, false
		}
	}
}

// begins reports whether what has come is, as far as it goes, the opening.
func begins(have []byte, opening string) bool {
	n := min(len(have), len(opening))
	return string(have[:n]) == opening[:n]
}

// reply has the request handled. It reports whether the connection may carry
// another.
func (d *direct) reply(r *http.Request) bool {
	a := &d.answer
	clear(a.header)
	*a = answering{direct: d, header: a.header, text: a.text[:0]}
	if !d.handle(r) {
		return false
	}
	d.body.over = true
	keep, err := a.end()
	if err == nil && !keep {
		d.part()
	}
	return keep && err == nil
}

// handle calls the handler. false: it wants the connection cut.
func (d *direct) handle(r *http.Request) (ok bool) {
	defer func() { ok = recover() == nil }() // serve has seen to it and asks for no more
	d.front.server.serve(&d.exchange, &d.answer, r)
	return true
}

// partTime is how long an answer that is the last may take to be read.
const partTime = 500 * time.Millisecond

// part waits for the client to go. Closing a connection with bytes unread resets
// it, and the client might never see the answer.
func (d *direct) part() {
	_ = d.conn.CloseWrite() // whatever fails here, there is nothing more to do
	_ = d.conn.SetReadDeadline(time.Now().Add(partTime))
	_, _ = io.CopyN(io.Discard, d.conn, passedOver)
}

// arriving is the body of a request.
type arriving struct {
	direct *direct
	left   int64
	by     time.Time // when it must have come; zero: no limit
	over   bool      // the handler has returned
}

func (b *arriving) Read(p []byte) (int, error) {
	if b.over {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.read(p)
}

// read gives io.EOF together with the last bytes.
func (b *arriving) read(p []byte) (n int, err error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	d := b.direct
	p = p[:min(int64(len(p)), b.left)]
	if d.from < d.to {
		n = copy(p, d.buf[d.from:d.to])
		d.from += n
	} else {
		d.within(b.by, 0)
		n, err = d.conn.Read(p)
	}
	b.left -= int64(n)
	switch {
	case b.left == 0:
		return n, io.EOF
	case errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

func (*arriving) Close() error { return nil }

// pass passes over a little that nobody has read; false: it is more, or breaks off.
func (b *arriving) pass() bool {
	if b.left == 0 || b.left > passedOver {
		return b.left == 0
	}
	for sink := make([]byte, 4<<10); b.left > 0; {
		if _, err := b.read(sink); err != nil && b.left > 0 {
			return false
		}
	}
	return true
}

// answering is the answer to a request. It is kept until it is complete, and goes
// out in one piece.
type answering struct {
	direct *direct
	header http.Header
	status int
	text   []byte
	sent   bool
	keep   bool // once it is sent
}

var errAnswered = errors.New("the answer was sent already")

func (a *answering) Header() http.Header { return a.header }

func (a *answering) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
}

func (a *answering) Write(p []byte) (int, error) {
	if a.sent {
		return 0, errAnswered
	}
	a.WriteHeader(http.StatusOK)
	a.text = append(a.text, p...)
	return len(p), nil
}

// Flush sends the answer, whatever is left of the request; there is no more to
// it then.
func (a *answering) Flush() {
	if !a.sent {
		_ = a.send(a.direct.body.left == 0) // the connection ends if it fails
	}
}

// SetReadDeadline holds for what is still to be read.
func (a *answering) SetReadDeadline(by time.Time) error {
	a.direct.body.by = by
	return nil
}

// SetWriteDeadline is for http.ResponseController.
func (a *answering) SetWriteDeadline(by time.Time) error { return a.direct.conn.SetWriteDeadline(by) }

// end completes the answer.
func (a *answering) end() (keep bool, err error) {
	if !a.sent {
		err = a.send(a.direct.body.pass())
	}
	return a.keep && a.direct.body.left == 0, err
}

// ours are the headers that the connection decides on.
var ours = map[string]bool{"Connection": true, "Content-Length": true, "Date": true, "Transfer-Encoding": true}

// send writes the answer. keep says that the connection may stay, as far as the
// request goes.
func (a *answering) send(keep bool) error {
	d := a.direct
	a.sent = true
	a.WriteHeader(http.StatusOK)
	a.keep = keep && !d.front.draining.Load() && len(a.header["Connection"]) == 0
	out := &d.out
	out.Reset()
	out.WriteString("HTTP/1.1 ")
	out.WriteString(strconv.Itoa(a.status))
	out.WriteByte(' ')
	out.WriteString(http.StatusText(a.status))
	out.WriteString("\r\nDate: ")
	out.WriteString(date())
	out.WriteString("\r\n")
	bare := a.status == http.StatusNoContent || a.status == http.StatusNotModified
	if !bare {
		out.WriteString("Content-Length: ")
		out.WriteString(strconv.Itoa(len(a.text)))
		out.WriteString("\r\n")
	}
	if _, ok := a.header["Content-Type"]; !ok && !bare && len(a.text) > 0 {
		a.header["Content-Type"] = []string{http.DetectContentType(a.text)}
	}
	_ = a.header.WriteSubset(out, ours) // a buffer takes all
	if !a.keep {
		out.WriteString("Connection: close\r\n")
	}
	out.WriteString("\r\n")
	if !bare {
		out.Write(a.text)
	}
	_, err := d.conn.Write(out.Bytes())
	a.keep = a.keep && err == nil
	return err
}

// stamp is a second as the Date header has it.
type stamp struct {
	second int64
	text   string
}

var latest atomic.Pointer[stamp]

func date() string {
	now := time.Now()
	s := latest.Load()
	if s == nil || s.second != now.Unix() {
		s = &stamp{now.Unix(), now.UTC().Format(http.TimeFormat)}
		latest.Store(s)
	}
	return s.text
}
