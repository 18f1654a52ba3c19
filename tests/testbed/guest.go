package testbed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Guest is the directory with the kernel and initramfs that machines boot:
// the lean one where it was built.
func Guest(t testing.TB) string {
	t.Helper()
	root := Built(t)
	for _, name := range []string{"lean", "distro"} {
		dir := filepath.Join(root, "share/aegisvm/guest", name)
		if _, err := os.Stat(filepath.Join(dir, "kernel")); err == nil {
			return dir
		}
	}
	t.Fatal("no guest kernel: run `make build`")
	return ""
}

// LeanGuest skips the test where the lean kernel was not built.
func LeanGuest(t testing.TB) string {
	t.Helper()
	dir := Guest(t)
	if filepath.Base(dir) != "lean" {
		t.Skip("the lean kernel is missing: run `make kernel`")
	}
	return dir
}

// Processes counts the processes that have a path below home in their
// command line or as an open file, other than a daemon's own.
func Processes(t testing.TB, home string) int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range dirs {
		line, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(line), home) {
			n++
		}
	}
	return n
}
