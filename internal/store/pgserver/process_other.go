//go:build unix && !linux

package pgserver

import (
	"os"
	"syscall"
)

func dieWithParent(*syscall.SysProcAttr) {}

// killAll has the server take its processes along, which a kill of the server
// alone would leave behind for a moment; neither writes anything out.
func killAll(server *os.Process) error { return server.Signal(quitSignal) }
