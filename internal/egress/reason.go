package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Error is why there was no answer. Its text is made here, from parts known to
// be harmless: the errors of net/http quote URLs and what the receiver sent.
type Error struct {
	reason waypost.Reason
	text   string
}

func (e *Error) Error() string { return e.text }

// unwritable is a request that no connection was asked for.
func unwritable(why string) *Error {
	return &Error{waypost.ReasonInternal, "the request could not be written: " + why}
}

// failed classes an error of the transport or of the body.
func (w *watch) failed(ctx context.Context, err error) Answer {
	var a Answer
	var dial *dialError
	onWire := w.onWire()
	if errors.As(err, &dial) && !onWire {
		a.Address = dial.addr
	}
	e := w.class(ctx, err, dial, onWire)
	a.Err, a.Reason = e, e.reason
	return a
}

func (w *watch) class(ctx context.Context, err error, dial *dialError, onWire bool) *Error {
	ended := w.ended(ctx)
	switch {
	case errors.Is(ended, context.DeadlineExceeded):
		return &Error{waypost.ReasonTimeout, "the time limit passed " + w.doing()}
	case ended != nil:
		return &Error{waypost.ReasonInternal, "the request was cancelled"}
	case dial != nil:
		return dial.class()
	case onWire:
		return classWire(err)
	}
	return unwritable("the host is not valid") // names and values of headers were looked at before
}

// doing says what the exchange was waiting for.
func (w *watch) doing() string {
	switch {
	case w.firstByte.Load() != 0:
		return "before the answer was complete"
	case w.sent.Load() != 0:
		return "waiting for the answer"
	case w.connected.Load() != 0:
		return "sending the request"
	}
	return "connecting"
}

func (e *dialError) class() *Error {
	var blocked *forbiddenError
	var dns *net.DNSError
	switch {
	case errors.As(e.err, &blocked):
		return &Error{waypost.ReasonForbidden, blocked.text}
	case e.phase == phaseProxy:
		return &Error{waypost.ReasonInternal, "egress proxy: " + brief(e.err)}
	case ours(e.err):
		return &Error{waypost.ReasonInternal, "connect: " + brief(e.err)}
	case errors.As(e.err, &dns):
		return &Error{waypost.ReasonDNS, "resolve " + dns.Name + ": " + dns.Err}
	case timedOut(e.err):
		return &Error{waypost.ReasonTimeout, "the time limit passed connecting"}
	case e.phase == phaseTLS:
		return &Error{waypost.ReasonTLS, "TLS: " + brief(e.err)}
	}
	return &Error{waypost.ReasonConnect, "connect: " + brief(e.err)}
}

// ours reports that the fault is this machine's, not the receiver's: out of
// files, ports or memory.
func ours(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.EADDRNOTAVAIL, syscall.EADDRINUSE, syscall.EPERM, syscall.EACCES,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// timedOut is a limit of ours that passed. The kernel giving up
// (ETIMEDOUT) is not: that is a connection that can't be had.
func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return !errors.Is(err, syscall.ETIMEDOUT) &&
		(errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &t) && t.Timeout())
}

// classWire classes what went wrong on a connection that stood.
func classWire(err error) *Error {
	var op *net.OpError
	isOp := errors.As(err, &op)
	switch {
	case isOp && (op.Op == "remote error" || op.Op == "local error"): // how crypto/tls reports alerts
		return &Error{waypost.ReasonTLS, "TLS: " + brief(op.Err)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{waypost.ReasonReset, "the connection was closed before a whole answer"}
	case isOp, errors.Is(err, net.ErrClosed), errors.As(err, new(syscall.Errno)), brokeInside(err):
		return &Error{waypost.ReasonReset, "the connection broke before a whole answer"}
	case timedOut(err):
		return &Error{waypost.ReasonTimeout, "the time limit passed"}
	}
	return &Error{waypost.ReasonProtocol, "the answer is not proper HTTP"}
}

// brokeInside knows the errors of net/http that stand for a closed connection
// or stream and that it gives no type to. Should a text change, the reason
// becomes "protocol"; nothing else hangs on it.
func brokeInside(err error) bool {
	text := err.Error()
	for _, part := range []string{
		"server closed idle connection",
		"http2: server sent GOAWAY",
		"http2: client connection lost",
		"http2: client conn",
		"http2: Transport received Server's graceful shutdown GOAWAY",
		"received from peer", // a stream that the receiver reset
	} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// brief is the innermost part of an error that was made by the system or by
// crypto/tls: what happened, without whom it happened to.
func brief(err error) string {
	var (
		record    tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		errno     syscall.Errno
		op        *net.OpError
		dns       *net.DNSError
	)
	switch {
	case errors.As(err, &record):
		return "the receiver does not speak TLS on this port"
	case errors.As(err, &authority):
		return "the certificate is signed by an unknown authority"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &dns):
		return "resolve " + dns.Name + ": " + dns.Err
	case errors.Is(err, io.EOF):
		return "the connection was closed"
	case timedOut(err):
		return "the time limit passed"
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return err.Error()
}
