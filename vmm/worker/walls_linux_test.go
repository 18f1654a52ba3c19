package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
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

// whatItHas tells what a machine has without a root of its own.
func whatItHas(p Plan) string {
	var tasks unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &tasks); err != nil {
		return err.Error()
	}
	kernel, err := os.ReadFile(p.Kernel)
	return fmt.Sprintf("uid=%d tasks=%d kernel=%s/%v", os.Getuid(), tasks.Cur, kernel, err)
}

// The limit counts all of a user's processes, also those outside the jail.
func TestTheLimitOfProcessesIsOnlyForAUserOfOnesOwn(t *testing.T) {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &now); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		jail Jail
		want uint64
	}{{Jail{}, now.Cur}, {Jail{Namespace: true}, min(maxProcesses, now.Max)}} {
		p := bare(t)
		p.Jail = &c.jail
		said := imprisoned(t, p, ownCell, asNobody)
		if want := fmt.Sprintf(" tasks=%d ", c.want); !strings.Contains(said, want) {
			t.Errorf("jail %+v: %s, %q expected", c.jail, said, want)
		}
	}
}

// withoutSysAdmin runs do as root of a container with the capabilities that
// containers have: processes that it starts have not got CAP_SYS_ADMIN.
func withoutSysAdmin(t *testing.T, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to have less than root")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread has lost a right
		err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0)
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestRootWithoutCapSysAdminHasAUserForAMachine(t *testing.T) {
	p := bare(t)
	const uid = 2000004242
	p.Jail = &Jail{UID: uid, GID: uid}
	if err := os.WriteFile(p.Kernel, []byte("linux"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(p.Kernel), 0o700); err != nil { // such as /root
		t.Fatal(err)
	}
	withoutSysAdmin(t, func() {
		said := imprisoned(t, p, ownCell, nil)
		if want := fmt.Sprintf("uid=%d tasks=%d kernel=linux/<nil>", uid, maxProcesses); !strings.Contains(said, want) {
			t.Errorf("in the jail: %s, %q expected", said, want)
		}
	})
}

// mayEnv has this program say whether it may build walls.
const mayEnv = "AEGIS_TEST_MAY_UNSHARE"

func TestRootMayBuildWallsUnlessItLacksTheRight(t *testing.T) {
	ask := func(want bool) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{mayEnv + "=1"}
		if out, err := cmd.Output(); err != nil || string(out) != fmt.Sprint(want) {
			t.Errorf("it says %s (%v), %t expected", out, err, want)
		}
	}
	if os.Geteuid() == 0 && MayUnshare() {
		ask(true)
	}
	withoutSysAdmin(t, func() { ask(false) })
}

// A manager without CAP_FOWNER cannot change the mode of somebody's disk.
func TestADiskOfSomebodyElseKeepsItsModeForQEMU(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to have less than root")
	}
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	const owner, group = 4242, 4343
	if err := errors.Join(disk.Chown(owner, owner), disk.Chmod(0o600)); err != nil {
		t.Fatal(err)
	}
	fd := int(disk.Fd())
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread has lost a right
		if err := dropFowner(); err != nil {
			done <- err
			return
		}
		for driver, taken := range map[string]bool{"qemu": true, "cloudhypervisor": false} {
			j := &jailer{plan: Plan{Driver: driver}, log: slog.Default()}
			if err := j.giveDisk(fd, group); (err == nil) != taken {
				t.Errorf("%s: %v", driver, err)
			}
		}
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Gid != group || st.Mode&0o777 != 0o600 {
		t.Errorf("the disk has group %d and mode %o (%v)", st.Gid, st.Mode, err)
	}
}

// dropFowner takes CAP_FOWNER from this thread.
func dropFowner() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	sets[0].Effective &^= 1 << unix.CAP_FOWNER
	return unix.Capset(&header, &sets[0])
}
