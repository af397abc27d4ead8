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
	var one [1]byte
	peek := func(fd uintptr) {
		_, _, err = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK) // sockets of Go never block
	}
	return func() bool {
		return raw.Control(peek) == nil && errors.Is(err, syscall.EAGAIN)
	}
}
