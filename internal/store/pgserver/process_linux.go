package pgserver

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dieWithParent has the server quit when the thread that started it ends.
func dieWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = quitSignal }

// killAll is kill -9 of the server and of the processes it has made. It is
// stopped first, so that it can't make more or have them write anything. A
// restart needs all of them gone.
func killAll(server *os.Process) error {
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", server.Pid, server.Pid))
	if err != nil {
		return err
	}
	var children []int
	for _, text := range strings.Fields(string(list)) {
		if pid, err := strconv.Atoi(text); err == nil {
			children = append(children, pid)
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
		}
	}
	if err := server.Kill(); err != nil {
		return err
	}
	for deadline := time.Now().Add(startTimeout); ; {
		if !anyAlive(children) {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("its processes do not end")
		}
		<-time.After(time.Millisecond)
	}
}

func anyAlive(pids []int) bool {
	for _, pid := range pids {
		if alive(pid) {
			return true
		}
	}
	return false
}
