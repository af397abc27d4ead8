package emulator

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Request is one request that a receiver got.
type Request struct {
	N      int // 1 for the receiver's first hook; 0 for a challenge
	At     time.Time
	Method string
	Path   string
	Query  string // raw
	Header http.Header
	Body   []byte // exact
	// Answer is what the script had ready for it.
	Answer Answer
}

// Answer is what a receiver does with a request. The zero value is an empty
// 200 at once.
type Answer struct {
	Status int // 0: 200
	Header http.Header
	Body   string
	Delay  time.Duration // before the answer
	Hang   bool          // no answer at all until the caller or the receiver gives up
	Cut    bool          // the connection is broken instead of an answer
}

// Received reports whether the answer is a plain 200.
func (a Answer) Received() bool {
	return (a.Status == 0 || a.Status == http.StatusOK) && !a.Hang && !a.Cut
}

// Statuses is a script that answers with the given statuses in turn, and with
// the last one from then on. None: always 200.
func Statuses(statuses ...int) func(Request) Answer {
	return func(r Request) Answer {
		if len(statuses) == 0 {
			return Answer{}
		}
		return Answer{Status: statuses[min(r.N, len(statuses))-1]}
	}
}

// ReceiverOptions says how a receiver behaves. The zero value takes everything.
type ReceiverOptions struct {
	Addr string // where to listen; empty: a free port on 127.0.0.1
	TLS  bool   // speak HTTPS with a certificate made for the occasion; see CA
	// VerifyToken: when set, Meta's hub challenge is answered if it carries this
	// token and refused with 403 if not. Challenges are not hooks.
	VerifyToken string
	// Answers scripts the answers to hooks; nil: 200. It is called for one
	// request at a time, before that request is seen by Wait.
	Answers func(Request) Answer
	// Seen, when not nil, is told of each hook after its answer is chosen, one
	// at a time and in order of N.
	Seen func(Request)
}

// Receiver is an HTTP server that takes hooks and remembers them. It is safe
// for concurrent use.
type Receiver struct {
	options  ReceiverOptions
	listener net.Listener
	server   *http.Server
	ca       []byte
	closed   chan struct{}
	closing  sync.Once

	mu         sync.Mutex
	hooks      []Request
	challenges []Request
	news       chan struct{} // closed and replaced when a hook arrives
}

// maxHookBody is more than any dialect sends.
const maxHookBody = 8 << 20

// NewReceiver starts a receiver. Close stops it.
func NewReceiver(o ReceiverOptions) (*Receiver, error) {
	r := &Receiver{options: o, closed: make(chan struct{}), news: make(chan struct{})}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	var certificate tls.Certificate
	var err error
	if o.TLS {
		if certificate, r.ca, err = newCertificate(); err != nil {
			return nil, fmt.Errorf("start receiver: %w", err)
		}
	}
	addr := cmp.Or(o.Addr, "127.0.0.1:0")
	if r.listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr); err != nil {
		return nil, fmt.Errorf("start receiver: %w", err)
	}
	serveOn := r.listener
	if o.TLS {
		serveOn = tls.NewListener(r.listener, &tls.Config{Certificates: []tls.Certificate{certificate}})
	}
	go func() {
		// Serve returns only when Close is called; there is nothing to report.
		_ = r.server.Serve(serveOn)
	}()
	return r, nil
}

// URL is the receiver's base URL, without a slash at the end.
func (r *Receiver) URL() string {
	scheme := "http://"
	if r.options.TLS {
		scheme = "https://"
	}
	return scheme + r.listener.Addr().String()
}

// CA is the PEM certificate that vouches for a TLS receiver; nil for others.
func (r *Receiver) CA() []byte { return slices.Clone(r.ca) }

// Close stops the receiver and lets go of every request that hangs.
func (r *Receiver) Close() {
	r.closing.Do(func() {
		close(r.closed)
		_ = r.server.Close() // closes loopback sockets; nobody could act on a fault
	})
}

// Hooks are the hooks so far, in order of arrival.
func (r *Receiver) Hooks() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.hooks)
}

// Challenges are the hub challenges so far.
func (r *Receiver) Challenges() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.challenges)
}

// Wait waits until at least n hooks have arrived and returns all there are. It
// returns what came so far together with the error if ctx ends first.
func (r *Receiver) Wait(ctx context.Context, n int) ([]Request, error) {
	return r.WaitFor(ctx, func(hooks []Request) bool { return len(hooks) >= n })
}

// WaitFor waits until enough says so of the hooks that have arrived.
func (r *Receiver) WaitFor(ctx context.Context, enough func([]Request) bool) ([]Request, error) {
	for {
		r.mu.Lock()
		hooks, news := slices.Clone(r.hooks), r.news
		r.mu.Unlock()
		if enough(hooks) {
			return hooks, nil
		}
		select {
		case <-news:
		case <-r.closed:
			return hooks, errors.New("wait for hooks: the receiver was closed")
		case <-ctx.Done():
			return hooks, fmt.Errorf("wait for hooks (%d so far): %w", len(hooks), context.Cause(ctx))
		}
	}
}

// ServeHTTP takes one request.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, maxHookBody))
	if err != nil {
		return // the caller went away in the middle: nothing was received
	}
	got := Request{
		At: time.Now(), Method: request.Method, Path: request.URL.Path, Query: request.URL.RawQuery,
		Header: request.Header.Clone(), Body: body,
	}
	if r.options.VerifyToken != "" && request.Method == http.MethodGet {
		r.challenge(w, request, got)
		return
	}
	r.answer(w, request, r.record(got).Answer)
}

// record chooses the answer and remembers the hook.
func (r *Receiver) record(got Request) Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	got.N = len(r.hooks) + 1
	if r.options.Answers != nil {
		got.Answer = r.options.Answers(got)
	}
	r.hooks = append(r.hooks, got)
	if r.options.Seen != nil {
		r.options.Seen(got)
	}
	close(r.news)
	r.news = make(chan struct{})
	return got
}

func (r *Receiver) answer(w http.ResponseWriter, request *http.Request, answer Answer) {
	if answer.Hang {
		r.hold(request, nil)
		panic(http.ErrAbortHandler)
	}
	if answer.Delay > 0 {
		timer := time.NewTimer(answer.Delay)
		defer timer.Stop()
		r.hold(request, timer.C)
	}
	if answer.Cut {
		panic(http.ErrAbortHandler) // how net/http breaks a connection without a word
	}
	for name, values := range answer.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	if answer.Status != 0 {
		w.WriteHeader(answer.Status)
	}
	_, _ = io.WriteString(w, answer.Body)
}

// hold waits for the timer, the caller's end or the receiver's.
func (r *Receiver) hold(request *http.Request, timer <-chan time.Time) {
	select {
	case <-timer:
	case <-request.Context().Done():
	case <-r.closed:
	}
}

func (r *Receiver) challenge(w http.ResponseWriter, request *http.Request, got Request) {
	query := request.URL.Query()
	if query.Get("hub.mode") != "subscribe" || query.Get("hub.verify_token") != r.options.VerifyToken {
		got.Answer.Status = http.StatusForbidden
	}
	r.mu.Lock()
	r.challenges = append(r.challenges, got)
	r.mu.Unlock()
	if !got.Answer.Received() {
		http.Error(w, "the verify token is not the one I know", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, strings.TrimSpace(query.Get("hub.challenge")))
}
