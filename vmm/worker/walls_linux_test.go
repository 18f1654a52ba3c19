package worker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// bare is the plan of a worker in this test's own files.
func bare(t *testing.T) Plan {
	t.Helper()
	dir := t.TempDir()
	p := Plan{
		ID: "one", Kernel: filepath.Join(dir, "kernel"), Initramfs: filepath.Join(dir, "initramfs"), RunDir: filepath.Join(dir, "run"),
		MemoryMiB: 64, VCPUs: 1, Jail: &Jail{},
	}
	for _, f := range []string{p.Kernel, p.Initramfs} {
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(p.RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// asNobody makes a program that may not unshare: it is not root, and not in a
// user namespace.
func asNobody(cmd *exec.Cmd) {
	if os.Geteuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
}

func TestAJailThatCannotBeBuiltLeavesTheMachineItsPaths(t *testing.T) {
	p := bare(t)
	said := imprisoned(t, p, planCell, asNobody)
	if want := fmt.Sprintln("cell:", p.Kernel, p.Initramfs, p.RunDir); !strings.Contains(said, want) {
		t.Errorf("the second stage says %q, %q expected", said, want)
	}
	for _, wall := range []string{"namespaces", "file system"} {
		if !strings.Contains(said, wall) {
			t.Errorf("it is not said that the %s is missing: %s", wall, said)
		}
	}
}
