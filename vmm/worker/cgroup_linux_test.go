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

// makeScope makes a scope as systemd does for machine "one".
func makeScope(t *testing.T) string {
	t.Helper()
	scope := cgroupRoot + "/aegis.slice/aegis-vm-one.scope"
	if err := os.MkdirAll(scope, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{cgroupRoot, cgroupRoot + "/aegis.slice"} {
		if err := os.WriteFile(f+"/cgroup.subtree_control", []byte("+cpu +memory +pids"), 0); err != nil {
			t.Fatal(err)
		}
	}
	return scope
}

// TestInAGuestLimitsOfTheVMLeafBite runs as init of a guest, where the
// cgroups are ours.
func TestInAGuestLimitsOfTheVMLeafBite(t *testing.T) {
	if os.Getpid() != 1 {
		t.Skip("runs inside TestCgroupsInAGuest")
	}
	scope := makeScope(t)
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
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := (Plan{Cgroup: c}).Place()(cmd.Process.Pid); err != nil {
		t.Error(err)
	}
	err = cmd.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || !exit.Sys().(syscall.WaitStatus).Signaled() {
		t.Fatalf("the hog ended with %v: %s", err, said.String())
	}
	detail := withOOM(c, vmm.Exit{Reason: vmm.ReasonCrashed, Detail: "killed by signal 9"})
	if want := "out of memory: the kernel killed the monitor at its limit of 392 MiB (killed by signal 9)"; detail != want {
		t.Errorf("detail %q, %q expected", detail, want)
	}
}

// TestInAGuestLimitsReachTheJail runs as init of a guest: a worker is born in
// its scope, goes through both of its stages and starts a monitor that takes
// too much.
func TestInAGuestLimitsReachTheJail(t *testing.T) {
	if os.Getpid() != 1 {
		t.Skip("runs inside TestCgroupsAndTheJailInAGuest")
	}
	scope, err := os.Open(makeScope(t))
	if err != nil {
		t.Fatal(err)
	}
	said := imprisoned(t, prison(t), hogCell, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(scope.Fd())}
	})
	for _, want := range []string{
		"cell: the worker is in 0::/aegis.slice/aegis-vm-one.scope/worker",
		"cell: the monitor is in 0::/aegis.slice/aegis-vm-one.scope/vm",
		"cell: out of memory: the kernel killed the monitor at its limit of 392 MiB",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the jail did not say %q but:\n%s", want, said)
		}
	}
}

// takeTooMuch is what a worker in a jail does with a monitor that has no
// bound.
func takeTooMuch(p Plan) {
	own, err := os.ReadFile("/proc/self/cgroup")
	fmt.Fprintf(os.Stderr, "cell: the worker is in %s (%v)\n", bytes.TrimSpace(own), err)
	os.Setenv(hogEnv, "1")
	cmd := exec.Command("/proc/self/exe")
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "cell: starting the monitor:", err)
		return
	}
	if err := p.Place()(cmd.Process.Pid); err != nil {
		fmt.Fprintln(os.Stderr, "cell:", err)
	}
	its, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid))
	fmt.Fprintf(os.Stderr, "cell: the monitor is in %s (%v)\n", bytes.TrimSpace(its), err)
	err = cmd.Wait()
	fmt.Fprintln(os.Stderr, "cell:", withOOM(p.Cgroup, vmm.Exit{Reason: vmm.ReasonCrashed, Detail: fmt.Sprint(err)}))
}
