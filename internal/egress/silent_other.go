//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package egress

import "net"

// silence can't tell here: a connection that the receiver closed is found out
// by using it.
func silence(net.Conn) (silent func() bool) { return func() bool { return true } }
