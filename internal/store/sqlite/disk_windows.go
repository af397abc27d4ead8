package sqlite

import "golang.org/x/sys/windows"

// fileSystem tells how many bytes the file system that holds a directory has for
// us, and how many in all.
func fileSystem(dir string) (free, size int64, err error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return -1, -1, err
	}
	var available, total uint64
	if err := windows.GetDiskFreeSpaceEx(path, &available, &total, nil); err != nil {
		return -1, -1, err
	}
	return int64(available), int64(total), nil
}
