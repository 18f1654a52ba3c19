package testbed

import (
	"os"
	"path/filepath"
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
