package manager_test

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMachinesRunInAContainer runs another test as root of a container with
// the usual capabilities, which CAP_SYS_ADMIN is not one of.
func TestMachinesRunInAContainer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to have less than root")
	}
	realConfig(t) // skips where there are no machines
	const other = "TestAShutdownLetsTheGuestLeaveInOrder"
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.run=^"+other+"$")
	var out []byte
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread has lost a right
		err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0)
		if err == nil {
			out, err = cmd.CombinedOutput()
		}
		done <- err
	}()
	if err := <-done; err != nil || !strings.Contains(string(out), "--- PASS: "+other) {
		t.Errorf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "CAP_SYS_ADMIN") {
		t.Errorf("it is not said that walls are missing: %s", out)
	}
}
