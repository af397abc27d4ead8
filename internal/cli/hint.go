package cli

import (
	"errors"
	"io/fs"
	"syscall"
)

// hint is what to do about an error of the system, where there is one thing
// that people usually need to do.
func hint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has this address; choose one with --listen ($WAYPOST_LISTEN)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine does not have this address; choose one with --listen ($WAYPOST_LISTEN)"
	case errors.Is(err, fs.ErrPermission):
		return "check who owns the data directory (--data, $WAYPOST_DATA), and that ports below 1024 may be used"
	case errors.Is(err, syscall.ENOSPC):
		return "make room on the disk of the data directory (--data, $WAYPOST_DATA)"
	}
	return ""
}
