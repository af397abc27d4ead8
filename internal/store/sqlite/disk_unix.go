//go:build linux || darwin || freebsd

package sqlite

import "golang.org/x/sys/unix"

// fileSystem tells how many bytes the file system that holds a directory has for
// us, and how many in all.
func fileSystem(dir string) (free, size int64, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return -1, -1, err
	}
	return product(stat.Bavail, stat.Bsize), product(stat.Blocks, stat.Bsize), nil
}

// product multiplies numbers whose types differ from system to system.
func product[A, B ~int64 | ~uint64 | ~uint32](blocks A, size B) int64 {
	return int64(blocks) * int64(size)
}
