package httpserver

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"
)

// exchange is one request and its answer. It stands in for the response
// writer, the request's body and its context all at once, so that a request
// costs one allocation here.
type exchange struct {
	http.ResponseWriter
	server  *Server
	start   time.Time
	id      [1]string // of the request, as a header's values
	status  int
	bytes   int64     // of the answer's body
	writing time.Time // when the write deadline was last set
	body    io.ReadCloser
	begun   bool // something was read of the body
	ended   bool // there is no more of it, or it broke off
	failed  bool // a handler panicked
	reason  error
}

var requests atomic.Uint64

// runID tells the requests of one run from those of another.
var runID = func() string {
	var random [4]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}()

func newID() string {
	var text [32]byte
	return string(strconv.AppendUint(append(append(text[:0], runID...), '-'), requests.Add(1), 36))
}

// ServeHTTP handles one request of net/http's server.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.serve(new(exchange), w, r.WithContext(r.Context())) // a copy to change
}

// serve handles a request, which is changed. x is new, or what served the request
// before on the same connection.
func (s *Server) serve(x *exchange, w http.ResponseWriter, r *http.Request) {
	*x = exchange{
		ResponseWriter: w,
		server:         s,
		start:          time.Now(),
		id:             [1]string{newID()},
		writing:        x.writing,
		body:           r.Body,
		ended:          r.ContentLength == 0,
	}
	if len(s.options.TrustedProxies) > 0 {
		r.RemoteAddr = clientAddr(r, s.options.TrustedProxies)
	}
	if !x.ended { // unknown length included
		r.Body = bodyOf{x}
		x.readDeadline(x.start.Add(s.options.BodyTimeout))
	}
	w.Header()["X-Request-Id"] = x.id[:]
	defer x.finish(r)
	s.options.Handler.ServeHTTP(x, r)
}

// finish ends the exchange, whether the handler returned or panicked.
func (x *exchange) finish(r *http.Request) {
	fault := recover()
	if fault != nil {
		x.fail(r, fault)
	}
	now := time.Now()
	x.extend(now) // for what is still buffered
	x.log(r, now)
	if x.failed {
		panic(http.ErrAbortHandler) // the only way to cut the connection
	}
	x.linger(r)
}

// What net/http passes over by itself, before it sends the answer; and what we
// pass over at most, after.
const (
	passedOver = 256 << 10
	maxLinger  = 8 << 20
)

// linger passes over what is left of a body that was answered already: closing a
// connection with bytes unread resets it, and the client might never see the
// answer. A client that was not told to go on has sent nothing.
func (x *exchange) linger(r *http.Request) {
	short := r.ContentLength >= 0 && r.ContentLength <= passedOver
	if x.ended || short || !x.begun && r.Header.Get("Expect") != "" {
		return
	}
	x.Flush()
	x.readDeadline(time.Now().Add(x.server.options.LingerTimeout))
	_, _ = io.CopyN(io.Discard, x.body, maxLinger) // whatever ends it, there is nothing more to do
}

// fail answers a panic, or sees to it that the client does not take half an
// answer for a whole one.
func (x *exchange) fail(r *http.Request, fault any) {
	if err, ok := fault.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		x.failed = true
		return
	}
	x.server.options.Log.LogAttrs(r.Context(), slog.LevelError, "handler panicked",
		slog.String("request", x.id[0]),
		slog.String("method", r.Method),
		slog.String("route", route(r)),
		slog.Any("panic", fault),
		slog.String("stack", string(debug.Stack())))
	if x.status != 0 {
		x.failed = true
		return
	}
	header := x.Header()
	clear(header)
	header.Set("Content-Type", "application/json")
	header.Set("X-Request-Id", x.id[0])
	x.WriteHeader(http.StatusInternalServerError)
	_, _ = io.WriteString(x, `{"error":"internal error"}`+"\n")
}

func (x *exchange) log(r *http.Request, now time.Time) {
	status := x.status
	if status == 0 && !x.failed {
		status = http.StatusOK
	}
	level := slog.LevelInfo
	switch {
	case status >= 500:
		level = slog.LevelWarn
	case x.server.quiet[r.Pattern]:
		level = slog.LevelDebug
	}
	log := x.server.options.Log.Handler()
	if !log.Enabled(r.Context(), level) {
		return
	}
	line := slog.NewRecord(now, level, "http.request", 0) // a Logger would look for its caller
	line.AddAttrs(
		slog.String("request", x.id[0]),
		slog.String("method", method(r)),
		slog.String("route", route(r)),
		slog.Int("status", status),
		slog.Float64("duration_ms", float64(now.Sub(x.start).Microseconds())/1000),
		slog.Int64("bytes", x.bytes),
		slog.String("remote", Host(r.RemoteAddr)))
	if x.reason != nil {
		line.AddAttrs(slog.String("error", x.reason.Error()))
	}
	_ = log.Handle(r.Context(), line) // as a Logger does
}

// Because notes why the request is answered as it is, for its line in the log.
func (x *exchange) Because(reason error) { x.reason = reason }

// route is the pattern that matched: the path itself may hold ids or tokens.
func route(r *http.Request) string {
	if r.Pattern == "" {
		return "none"
	}
	return r.Pattern
}

// method keeps what a client makes up out of the log.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return r.Method
	}
	return "OTHER"
}

// WriteHeader notes the status.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		x.status = status
	}
	x.extend(time.Now())
	x.ResponseWriter.WriteHeader(status)
}

// Write counts the bytes and gives the client time for them.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	x.extend(time.Now())
	n, err := x.ResponseWriter.Write(p)
	x.bytes += int64(n)
	return n, err
}

// Flush is for those who stream.
func (x *exchange) Flush() {
	x.extend(time.Now())
	_ = http.NewResponseController(x.ResponseWriter).Flush() // a client that is gone shows in the next write
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// extend moves the write deadline ahead, unless it was moved a moment ago.
func (x *exchange) extend(now time.Time) {
	limit := x.server.options.WriteTimeout
	if now.Sub(x.writing) < limit/8 {
		return
	}
	x.writing = now
	_ = http.NewResponseController(x.ResponseWriter).SetWriteDeadline(now.Add(limit))
}

func (x *exchange) readDeadline(at time.Time) {
	_ = http.NewResponseController(x.ResponseWriter).SetReadDeadline(at)
}

// bodyOf is the request's body, read under a deadline.
type bodyOf struct{ x *exchange }

// Read lifts the deadline when the body has ended: the server goes on reading
// to learn when the client leaves, and would take a deadline for that.
func (b bodyOf) Read(p []byte) (int, error) {
	n, err := b.x.body.Read(p)
	b.x.begun = true
	b.x.ended = b.x.ended || err != nil
	if errors.Is(err, io.EOF) {
		b.x.readDeadline(time.Time{})
	}
	return n, err
}

func (b bodyOf) Close() error { return b.x.body.Close() }
