package pgserver

import (
	"os"
	"os/exec"
	"syscall"
)

var quitSignal = os.Kill

func launch(command *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	defer close(ended)
	err := command.Start()
	started <- err
	if err == nil {
		_ = command.Wait() // how it ended is in its log
	}
}

func attributes() *syscall.SysProcAttr { return nil }

func dieWithParent(*syscall.SysProcAttr) {}

func own(string) error { return nil }

func alive(int) bool { return true } // leftovers are not swept here

func killAll(server *os.Process) error { return server.Kill() }
