package testbed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Folder is a folder of a host.
type Folder struct {
	// Here is its path for the test, There for programs on the host.
	Here, There string
}

// Folder makes a folder on the host, of root's or whoever runs the test.
func (h *Host) Folder(t testing.TB) Folder {
	t.Helper()
	if h.Name == "standalone" {
		dir := t.TempDir()
		return Folder{dir, dir}
	}
	dir, err := os.MkdirTemp(filepath.Join(h.Root, "srv"), "test-")
	if err != nil {
		t.Fatal(err)
	}
	return Folder{Here: dir, There: strings.TrimPrefix(dir, h.Root)}
}

// Has tells whether a process, given by its folder in /proc and its command
// line, belongs to the host.
func (h *Host) Has(proc, cmdline string) bool {
	if h.Name == "standalone" {
		return strings.Contains(cmdline, h.Home+"/")
	}
	theirs, err := os.Stat(filepath.Join(proc, "root"))
	if err != nil {
		return false
	}
	ours, err := os.Stat(h.Root)
	return err == nil && os.SameFile(ours, theirs)
}
