package faults_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/waypost-gateway/waypost/internal/store/pgtest"
)

// TestFullDisk fills the disk below a database under load, again and again, and
// makes room again after a while. Ingest answers 503 meanwhile.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		disk := mountTmpfs(t, "128m")
		s := newScene(t, newGateway(t, gatewayOptions{Data: filepath.Join(disk, "data")}))
		l := s.load(t)
		for range pick(2, 30) {
			s.diskFault(t, l, "disk full", func() { fill(t, disk) }, func() { makeRoom(t, disk) })
		}
		l.stop(t)
		s.close(t, "full disk; SQLite", fmt.Sprintf("503 answered %d times", l.answered(http.StatusServiceUnavailable)))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		disk := mountTmpfs(t, "256m")
		cluster := pgtest.StartIn(t, disk, true, "max_wal_size=64MB", "min_wal_size=32MB", "wal_recycle=off", "wal_init_zero=on")
		s := newScene(t, newGateway(t, gatewayOptions{Database: cluster.URL(), Nodes: 2}))
		l := s.load(t)
		for range pick(1, 10) {
			s.diskFault(t, l, "disk full", func() { fill(t, disk) }, func() {
				makeRoom(t, disk)
				// PostgreSQL that can't write its log ends; who runs it starts it again.
				if !cluster.Running() {
					cluster.Restart(t)
				}
			})
		}
		l.stop(t)
		s.close(t, "full disk; PostgreSQL, two nodes", fmt.Sprintf("503 answered %d times", l.answered(http.StatusServiceUnavailable)))
	})
}

// TestReadOnlyDisk makes SQLite's files unwritable under load, and starts a node
// on a file system that is mounted read-only.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	disk := mountExt4(t)
	data := filepath.Join(disk, "data")
	s := newScene(t, newGateway(t, gatewayOptions{Data: data}))
	l := s.load(t)
	for range pick(1, 20) {
		s.diskFault(t, l, "files read-only", func() { immutable(t, data, true) }, func() { immutable(t, data, false) })
	}
	l.stop(t)
	s.awaitEverything(t)

	n := s.nodes[0]
	n.stop(t)
	remount(t, disk, syscall.MS_RDONLY)
	n.launch(t)
	within(t, time.Minute, func() error {
		if n.running() {
			return errors.New("it runs on a read-only file system")
		}
		return nil
	})
	if n.code == 0 {
		t.Error("a start that could not succeed ended with exit code 0")
	}
	remount(t, disk, 0)
	n.start(t)
	s.post(t, 3)
	s.close(t, "read-only disk; SQLite", fmt.Sprintf("503 answered %d times", l.answered(http.StatusServiceUnavailable)))
}

// diskFault breaks the disk until ingest has been refused often, mends it and
// sees that all goes on.
func (s *scene) diskFault(t *testing.T, l *load, name string, breakIt, mend func()) {
	t.Helper()
	s.awaitAccepted(t, 100)
	mended := s.broken()
	from, refused, newest := time.Now(), l.answered(http.StatusServiceUnavailable), s.newest()
	breakIt()
	within(t, 2*time.Minute, func() error {
		if more := l.answered(http.StatusServiceUnavailable) - refused; more < 20 {
			return fmt.Errorf("%s: 503 was answered %d times, want 20", name, more)
		}
		return nil
	})
	since, after := time.Now(), s.newest()
	mend()
	s.awaitNew(t, since, after)
	s.awaitOwed(t, since, newest)
	mended()
	t.Logf("%s for %s: again after %s", name, brief(since.Sub(from)), brief(s.again[len(s.again)-1]))
}

func mountTmpfs(t *testing.T, size string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "waypost-faults-") // unlike t.TempDir, nothing above it is closed to PostgreSQL's user
	if err != nil {
		t.Fatal(err)
	}
	if err = os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) }) // empty by then, or still in use
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size="+size); err != nil {
		t.Skipf("a small file system can't be mounted here (%v); run as root", err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// mountExt4 is a small file system that knows immutable files.
func mountExt4(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("mkfs.ext4"); err != nil || os.Geteuid() != 0 {
		t.Skip("an ext4 file system can't be made and mounted here; run as root, with mkfs.ext4 installed")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 128<<20); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", image)
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("a loop file system can't be mounted here: %v %s", err, out)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
		t.Errorf("unmount %s: %v", dir, err)
	}
}

func remount(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, ""); err != nil {
		t.Fatalf("remount %s: %v", dir, err)
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// immutable sets or clears the flag that keeps even open files from being
// written to.
func immutable(t *testing.T, dir string, on bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("nothing in %s: %v", dir, err)
	}
	flag := "-i"
	if on {
		flag = "+i"
	}
	command(t, "chattr", append([]string{flag}, files...)...)
	if on {
		t.Cleanup(func() { _ = exec.Command("chattr", append([]string{"-i"}, files...)...).Run() }) // most likely done by then
	}
}

const ballast = "ballast"

// fill writes until there is no byte left.
func fill(t *testing.T, disk string) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(disk, ballast), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for size := 1 << 20; size > 0; {
		n, err := file.Write(make([]byte, size))
		switch {
		case errors.Is(err, syscall.ENOSPC) && n == 0:
			size /= 2
		case err != nil && !errors.Is(err, syscall.ENOSPC):
			t.Fatal(err)
		}
	}
}

func makeRoom(t *testing.T, disk string) {
	t.Helper()
	if err := os.Remove(filepath.Join(disk, ballast)); err != nil {
		t.Fatal(err)
	}
}
