package worker

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/vmm"
)

// TestInAGuestLimitsOfTheVMLeafBite runs as init of a guest, where the
// cgroups are ours.
func TestInAGuestLimitsOfTheVMLeafBite(t *testing.T) {
	if os.Getpid() != 1 {
		t.Skip("runs inside TestCgroupsInAGuest")
	}
	scope := cgroupRoot + "/aegis.slice/aegis-vm-one.scope"
	if err := os.MkdirAll(scope, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{cgroupRoot, cgroupRoot + "/aegis.slice"} {
		if err := os.WriteFile(f+"/cgroup.subtree_control", []byte("+cpu +memory +pids"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(scope+"/cgroup.procs", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	const uid = 4242
	c, err := tryCgroup(Plan{ID: "one", MemoryMiB: 64, VCPUs: 2}, uid, uid, slog.Default())
	if err != nil || c == nil {
		t.Fatalf("dividing the scope: %+v, %v", c, err)
	}
	for file, want := range map[string]string{
		"worker/cgroup.procs": "1", "vm/cgroup.procs": "", "vm/memory.max": fmt.Sprint(392 << 20), "vm/memory.oom.group": "1",
		"vm/pids.max": "512", "worker/memory.max": fmt.Sprint(512 << 20), "vm/cpu.max": "300000 100000",
	} {
		got, err := os.ReadFile(filepath.Join(scope, file))
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s is %q (%v), %q expected", file, got, err, want)
		}
	}
	// From here on as the machine's user, as the second stage does.
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{hogEnv + "=1"}
	var said bytes.Buffer
	cmd.Stderr = &said
	Plan{Cgroup: c}.Command()(cmd)
	err = cmd.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || !exit.Sys().(syscall.WaitStatus).Signaled() {
		t.Fatalf("the hog ended with %v: %s", err, said.String())
	}
	detail := withOOM(c, vmm.Exit{Reason: vmm.ReasonCrashed, Detail: "killed by signal 9"})
	if want := "out of memory: the kernel killed the monitor at its limit of 392 MiB (killed by signal 9)"; detail != want {
		t.Errorf("detail %q, %q expected", detail, want)
	}
}
