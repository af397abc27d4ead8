package pgtest

import "syscall"

// dieWithParent has the server quit when the thread that started it ends.
func dieWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = quitSignal }
