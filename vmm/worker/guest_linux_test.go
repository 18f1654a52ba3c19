package worker

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The names by which this test program knows what it is to be, when it starts
// itself in a guest: init of the guest, or a monitor that takes memory.
const (
	hogEnv  = "AEGIS_TEST_HOG"
	testEnv = "AEGIS_TEST_RUN"     // the kernel gives its init what it does not know
	cellEnv = "GO_AEGIS_TEST_CELL" // the jail keeps variables that begin with GO
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(hogEnv) != "":
		hog()
	case os.Getenv(mayEnv) != "":
		fmt.Print(MayUnshare())
		os.Exit(0)
	case os.Getenv(jailEnv) != "": // not kept by the jail: the second stage goes on
		imprisonMe()
	case os.Getenv(cellEnv) != "":
		inCell(os.Getenv(cellEnv))
	case os.Getpid() == 1:
		asInit(m)
	}
	os.Exit(m.Run())
}

// What a prisoner does.
const (
	lookCell = "look"
	hogCell  = "hog"
	planCell = "plan"
	ownCell  = "own"
)

func inCell(what string) {
	p, _, err := Inherit()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "cell: reading the plan:", err)
	case what == hogCell:
		takeTooMuch(p)
	case what == planCell:
		fmt.Fprintln(os.Stderr, "cell:", p.Kernel, p.Initramfs, p.RunDir)
	case what == ownCell:
		fmt.Fprintln(os.Stderr, "cell:", whatItHas(p))
	default:
		fmt.Fprintln(os.Stderr, "cell:", lookAround())
	}
	os.Exit(0)
}

// hog takes memory until the kernel objects.
func hog() {
	var taken [][]byte
	for {
		taken = append(taken, bytes.Repeat([]byte{1}, 16<<20))
		fmt.Fprintln(os.Stderr, len(taken)*16, "MiB")
	}
}

// asInit makes the guest a place to test in, runs the test that the kernel's
// command line names, and ends the machine.
func asInit(m *testing.M) {
	if err := leaveInitramfs(); err != nil {
		fmt.Println("preparing the guest:", err)
		os.Exit(1)
	}
	os.Args = []string{os.Args[0], "-test.v", "-test.run=^" + os.Getenv(testEnv) + "$"}
	fmt.Printf("\nguest tests ended with %d\n", m.Run())
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	os.Exit(0) // the test has given up the right to reboot: the kernel panics and does
}

// leaveInitramfs makes a root that can be left by pivot_root, unlike the
// kernel's first one, with this program in it.
func leaveInitramfs() error {
	program, err := os.ReadFile("/init")
	if err != nil {
		return err
	}
	os.Mkdir("/new", 0o755)
	if err := unix.Mount("tmpfs", "/new", "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	if err := os.WriteFile("/new/init", program, 0o755); err != nil {
		return err
	}
	if err := os.Chdir("/new"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	for _, m := range []struct{ dir, kind string }{
		{"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev", "devtmpfs"}, {"/tmp", "tmpfs"}, {"/sys/fs/cgroup", "cgroup2"},
	} {
		os.MkdirAll(m.dir, 0o755)
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.dir, err)
		}
	}
	return os.Chdir("/")
}

// guests is where "make build" puts the guests' kernels.
const guests = "../../share/aegisvm/guest"

// inGuest runs another test as init of a guest with one of our kernels, and
// fails with it.
func inGuest(t *testing.T, test, flavour string, devices ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine")
	}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("qemu-system-x86_64 is not installed: install the package qemu-system-x86")
	}
	kernel := filepath.Join(guests, flavour, "kernel")
	if _, err := os.Stat(kernel); err != nil {
		t.Skipf("there is no %s guest kernel: run make build", flavour)
	}
	initramfs := filepath.Join(t.TempDir(), "initramfs.cpio")
	if err := os.WriteFile(initramfs, archive(t), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-accel", "tcg,thread=multi", "-cpu", "Nehalem",
		"-m", "1024", "-kernel", kernel, "-initrd", initramfs, "-chardev", "stdio,id=console",
		"-append", "console=hvc0 console=ttyS0 reboot=t panic=-1 tsc=reliable no_timer_check tsc_early_khz=2000000 quiet " +
			testEnv + "=" + test,
	}, devices...)
	cmd := exec.CommandContext(t.Context(), qemu, args...)
	timer := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "guest tests ended with 0") || !strings.Contains(string(out), "--- PASS: "+test) {
		t.Errorf("the guest: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func TestCgroupsInAGuest(t *testing.T) {
	inGuest(t, "TestInAGuestLimitsOfTheVMLeafBite", "lean", "-M", "microvm,isa-serial=off", "-device", "virtio-serial-device", "-device", "virtconsole,chardev=console")
}

// The distribution's kernel has Landlock.
func TestTheJailInAGuestWithLandlock(t *testing.T) {
	inGuest(t, "TestInAGuestTheJailHolds", "distro", "-M", "pc", "-serial", "chardev:console")
}

func TestCgroupsAndTheJailInAGuest(t *testing.T) {
	inGuest(t, "TestInAGuestLimitsReachTheJail", "distro", "-M", "pc", "-serial", "chardev:console")
}

// archive is an initramfs with this test program as its init.
func archive(t *testing.T) []byte {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "init")
	build := exec.Command("go", "test", "-c", "-buildvcs=false", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest's init: %v: %s", err, out)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	entry := func(name string, mode, major, minor int, data []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			b.Len(), mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
		b.Write(make([]byte, -b.Len()&3))
		b.Write(data)
		b.Write(make([]byte, -b.Len()&3))
	}
	entry("dev", 0o040755, 0, 0, nil)
	entry("dev/console", 0o020600, 5, 1, nil)
	entry("dev/null", 0o020666, 1, 3, nil)
	entry("init", 0o100755, 0, 0, program)
	entry("TRAILER!!!", 0, 0, 0, nil)
	return b.Bytes()
}
