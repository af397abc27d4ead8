// Package httpserver is how requests come in: a listener, limits that keep one
// client from harming the others, a guard against panics, a request id, one
// log line per request, and a drain at the end.
//
// What it promises to handlers: Request.RemoteAddr is the client's address
// even behind a trusted proxy; a body that is too slow ends in an error; an
// answer may take as long as it needs, as long as the client keeps reading; an
// answer that is given before the body has been read reaches the client, for the
// rest of the body is passed over, within bounds, before the connection is closed.
// The ResponseWriter has a method Because(error), for what the log line is to tell.
//
// Requests are served by net/http, except plain POSTs to the paths of
// Options.Direct, which come in by the thousand: those are read and answered by
// code of ours that knows nothing but them (see front). What they promise is the
// same.
//
// What happens on failure: a panic in a handler is logged and answered with
// 500 and {"error":"internal error"}, or, when the answer had begun, by
// cutting the connection. When Run's context ends, no new connection is taken
// and what is in flight may finish within a limit; what has not finished then
// is cut off.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Options says what to serve and within which limits. Zero limits mean the
// default.
type Options struct {
	Address string // host:port to listen on; port 0 takes a free one
	Handler http.Handler
	Log     *slog.Logger

	// Direct are the beginnings of paths whose POSTs are served without net/http's
	// server, for a third less CPU time. Their answers must be small, since each is
	// kept until it is complete, their requests' contexts do not tell when a client
	// leaves, and a handler must keep nothing of a request once it has returned.
	Direct []string
	// TrustedProxies are the peers whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Quiet are route patterns whose requests are logged at debug level only,
	// such as health checks.
	Quiet []string

	HeaderTimeout  time.Duration // for the request's header; default 10 s
	BodyTimeout    time.Duration // for the request's body, in all; default 30 s
	WriteTimeout   time.Duration // for the client to take in each part of the answer; default 60 s
	IdleTimeout    time.Duration // of a kept connection between requests; default 2 min
	DrainTimeout   time.Duration // to finish what is in flight at the end; default 20 s
	LingerTimeout  time.Duration // for a body that nobody wants any more; default 5 s
	MaxHeaderBytes int           // default 64 KiB
	MaxConnections int           // at a time; default 2048
}

// Server listens from New on and serves while Run runs.
type Server struct {
	options Options
	front   *front
	server  *http.Server
	quiet   map[string]bool
}

// New binds the address. The context is for that alone.
func New(ctx context.Context, o Options) (*Server, error) {
	o.HeaderTimeout = or(o.HeaderTimeout, 10*time.Second)
	o.BodyTimeout = or(o.BodyTimeout, 30*time.Second)
	o.WriteTimeout = or(o.WriteTimeout, time.Minute)
	o.IdleTimeout = or(o.IdleTimeout, 2*time.Minute)
	o.DrainTimeout = or(o.DrainTimeout, 20*time.Second)
	o.LingerTimeout = or(o.LingerTimeout, 5*time.Second)
	o.MaxHeaderBytes = or(o.MaxHeaderBytes, 64<<10)
	o.MaxConnections = or(o.MaxConnections, 2048)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Log = o.Log.With("component", "http")
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	connections := newConnections(listener, o.MaxConnections)
	s := &Server{options: o, quiet: map[string]bool{}}
	s.front = newFront(s, connections)
	for _, pattern := range o.Quiet {
		s.quiet[pattern] = true
	}
	s.server = &http.Server{
		Handler:           s,
		ConnState:         connections.note,
		ReadHeaderTimeout: o.HeaderTimeout,
		IdleTimeout:       o.IdleTimeout,
		MaxHeaderBytes:    o.MaxHeaderBytes,
		// ReadTimeout and WriteTimeout stay 0: they would bound the handler as
		// well. The exchange sets deadlines that bound the client alone.
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), // clients that break off
	}
	return s, nil
}

func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// Addr is the address that was bound, host:port.
func (s *Server) Addr() string { return s.front.Addr().String() }

// Close frees the address. It is for a server that was never run; Run frees it
// itself, and net.ErrClosed says that it did.
func (s *Server) Close() error { return s.front.Close() }

// Run serves until the context ends and then drains. It returns an error only
// if it could not serve.
func (s *Server) Run(ctx context.Context) error {
	// Requests are not cancelled with ctx: they may finish while draining.
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s.server.BaseContext = func(net.Listener) context.Context { return base }

	failed := make(chan error, 1)
	s.front.serving.Go(func() { s.front.run(base) })
	go func() { failed <- s.server.Serve(s.front) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}

	drain, cancel := context.WithTimeout(base, s.options.DrainTimeout)
	defer cancel()
	s.front.drain()
	if err := errors.Join(s.server.Shutdown(drain), s.front.finished(drain)); err != nil {
		s.options.Log.Warn("requests cut off at shutdown", "after", s.options.DrainTimeout.String())
		cut()
		_ = s.server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}
