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

// Processes counts the processes that hold files of machines of a standalone
// host, as monitors and workers do: nothing on their command lines tells
// whose they are.
func Processes(t testing.TB, home string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	holders := map[string]bool{}
	for _, f := range files {
		to, err := os.Readlink(f)
		if err == nil && (strings.HasPrefix(to, home+"/data/machines/") || strings.HasPrefix(to, home+"/data/disks/")) {
			holders[filepath.Dir(f)] = true
		}
	}
	return len(holders)
}
