//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package egress

import (
	"errors"
	"net"
	"syscall"
)

// silence gives what tells whether there is nothing to read on a socket, not
// even its end.
func silence(socket net.Conn) (silent func() bool) {
	sc, ok := socket.(syscall.Conn)
	if !ok {
		return func() bool { return true }
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return func() bool { return false }
	}
	quiet := false
	look := func(fd uintptr) { quiet = isSilent(int(fd)) }
	return func() bool { return raw.Control(look) == nil && quiet }
}

func isSilent(fd int) bool {
	var one [1]byte
	_, _, err := syscall.Recvfrom(fd, one[:], syscall.MSG_PEEK) // sockets of Go never block
	return errors.Is(err, syscall.EAGAIN)
}

// asker sends requests over a TCP socket, each as a part of the read that waits
// for the answer: so no read is made in vain, and what net does around each call
// is done once. The poller forgets what it knew when the read begins, so whatever
// comes after the look at the socket wakes it. What an asker leaves undone, and
// what failed, is for the connection's own Write and Read to go on with.
type asker struct {
	raw  syscall.RawConn
	step func(fd uintptr) (done bool)

	// Of the request under way.
	watch           *watch
	request, answer []byte
	look            bool // whether the socket is silent is to be seen first
	over            bool // and it was not
	written         bool
	sent, got       int
}

// newAsker is nil for what is no TCP socket.
func newAsker(nc net.Conn) *asker {
	socket, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	a := &asker{raw: raw}
	a.step = a.advance
	return a
}

// ask writes the request, unless look finds that the connection is over, and puts
// what comes back into answer, which may share the request's memory.
func (a *asker) ask(w *watch, request, answer []byte, look bool) (sent, got int, over bool) {
	a.watch, a.request, a.answer, a.look = w, request, answer, look
	a.over, a.written, a.sent, a.got = false, false, 0, 0
	_ = a.raw.Read(a.step) // whatever ends it ends the next call, too
	a.watch, a.request, a.answer = nil, nil, nil
	return a.sent, a.got, a.over
}

// advance is called once, and then whenever there may be something to read.
func (a *asker) advance(fd uintptr) (done bool) {
	if !a.written {
		return !a.write(int(fd))
	}
	n, err := ignoringInterrupts(syscall.Read, int(fd), a.answer)
	a.got = max(0, n)
	return !errors.Is(err, syscall.EAGAIN)
}

func (a *asker) write(fd int) (complete bool) {
	if a.over = a.look && !isSilent(fd); a.over {
		return false
	}
	n, err := ignoringInterrupts(syscall.Write, fd, a.request)
	a.sent = max(0, n)
	a.written = err == nil && n == len(a.request)
	if a.written {
		a.watch.mark(&a.watch.sent)
	}
	return a.written
}

func ignoringInterrupts(call func(int, []byte) (int, error), fd int, p []byte) (n int, err error) {
	for {
		if n, err = call(fd, p); !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
