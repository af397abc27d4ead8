//go:build unix

package pgserver

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
)

// quitSignal is PostgreSQL's "immediate shutdown".
const quitSignal = syscall.SIGQUIT

// launch runs the server. It keeps to one thread, because on Linux the server is
// killed when the thread that started it ends, not only when the process does.
func launch(command *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(ended)
	err := command.Start()
	started <- err
	if err == nil {
		_ = command.Wait() // how it ended is in its log
	}
}

// attributes of the server's processes: PostgreSQL refuses to run as root.
func attributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for the tests
	if uid, gid, ok := account(); ok {
		attributes.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	}
	return attributes
}

// account is whom the server runs as when we are root.
func account() (uid, gid uint32, needed bool) {
	if os.Geteuid() != 0 {
		return 0, 0, false
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return uint32(uid), uint32(gid), true
		}
	}
	return 65534, 65534, true
}

// own gives a directory to that account.
func own(dir string) error {
	uid, gid, needed := account()
	if !needed {
		return nil
	}
	return os.Chown(dir, int(uid), int(gid))
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
