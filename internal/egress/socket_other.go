//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package egress

import "net"

// silence can't tell here: a connection that the receiver closed is found out
// by using it.
func silence(net.Conn) (silent func() bool) { return func() bool { return true } }

// asker has no use here: net's own calls serve.
type asker struct{ sent int }

func newAsker(net.Conn) *asker { return nil }

func (*asker) ask(*watch, []byte, []byte, bool) (sent, got int, over bool) { return 0, 0, false }
