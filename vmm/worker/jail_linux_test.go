package worker

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/vmm"
)

// lookAround tells what a process in the jail can do, in one line.
func lookAround() string {
	can := func(err error) string {
		if err != nil {
			return "no"
		}
		return "yes"
	}
	_, root := os.ReadDir("/")
	_, tools := os.ReadDir("/usr")
	write := os.WriteFile("/run/mine", []byte("x"), 0o600)
	other := os.WriteFile("/usr/theirs", []byte("x"), 0o600)
	null := os.WriteFile("/dev/null", []byte("x"), 0)
	_, secret := os.Stat("/secret")
	mount := unix.Mount("tmpfs", "/run", "tmpfs", 0, "")
	signal := unix.Kill(1, 0)
	// As a monitor does that opens its disks by name.
	image, read := os.Open(disk(0))
	_, spoil := os.OpenFile(disk(0), os.O_RDWR, 0)
	_, own := os.OpenFile(disk(1), os.O_RDWR, 0)
	image.Close()
	namespace := unix.Unshare(unix.CLONE_NEWUSER)
	child := exec.Command("/proc/self/exe")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	_, inet := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	_, keys := unix.KeyctlInt(unix.KEYCTL_GET_KEYRING_ID, unix.KEY_SPEC_SESSION_KEYRING, 0, 0, 0)
	caps, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(caps), "NoNewPrivs:\t")
	_, filters, _ := strings.Cut(string(caps), "Seccomp:\t")
	filters, _, _ = strings.Cut(filters, "\n")
	return fmt.Sprintf("uid=%d gid=%d root=%s usr=%s run=%s elsewhere=%s null=%s secret=%s mount=%s signal=%s nnp=%s "+
		"image=%s/%s own=%s namespaces=%s/%s inet=%s keys=%s filter=%s",
		os.Getuid(), os.Getgid(), can(root), can(tools), can(write), can(other), can(null), can(secret), can(mount), can(signal), after[:1],
		can(read), can(spoil), can(own), can(namespace), can(child.Start()), can(inet), can(keys), filters)
}

// disk is the name of a disk's descriptor.
func disk(n int) string { return fmt.Sprintf("/proc/self/fd/%d", diskFD(n)) }

// TestInAGuestTheJailHolds runs as init of a guest, where breaking out would
// do no harm.
func TestInAGuestTheJailHolds(t *testing.T) {
	if os.Getpid() != 1 {
		t.Skip("runs inside TestTheJailInAGuestWithLandlock")
	}
	p := prison(t)
	uid := p.Jail.UID
	said := imprisoned(t, p, lookCell, nil)
	root, abi := "yes", 0
	if abi, _ = llsys.LandlockGetABIVersion(); abi > 0 {
		root = "no" // the mounts show /, and only Landlock denies it
	}
	want := fmt.Sprintf("cell: uid=%d gid=%d root=%s usr=yes run=yes elsewhere=no null=yes secret=no mount=no signal=no nnp=1 "+
		"image=yes/no own=yes namespaces=no/no inet=no keys=no filter=2", uid, uid, root)
	if !strings.Contains(said, want) {
		t.Errorf("with Landlock %d, in the jail: %s\nexpected: %s", abi, said, want)
	}
	if _, err := os.Stat("/machine/run/mine"); err != nil {
		t.Errorf("what was written in the jail is not outside: %v", err)
	}
}

// prison is the plan of a worker, in a guest with what a jail is made of.
func prison(t *testing.T) Plan {
	t.Helper()
	const uid = 4242
	for _, dir := range []string{"/usr/lib", "/machine/run", "/disks"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, mode := range map[string]os.FileMode{
		"/secret": 0o644, "/kernel": 0o644, "/initramfs": 0o644, "/disks/image": 0o444, "/disks/own": 0o600,
	} {
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown("/machine/run", uid, uid); err != nil {
		t.Fatal(err)
	}
	return Plan{
		ID: "one", Kernel: "/kernel", Initramfs: "/initramfs", RunDir: "/machine/run", MemoryMiB: 64, VCPUs: 1,
		Jail:  &Jail{UID: uid, GID: uid, Strict: true},
		Disks: []Disk{{Role: vmm.RoleImage, ReadOnly: true}, {Role: vmm.RoleOwn}},
	}
}

// jailEnv has this program build a jail around itself.
const jailEnv = "AEGIS_TEST_JAIL"

// imprisoned starts this program, which imprisons itself and looks around.
func imprisoned(t *testing.T, p Plan, cell string, adjust func(*exec.Cmd)) string {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := WritePlan(writer, p); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{jailEnv + "=1", cellEnv + "=" + cell}
	files := Files{Listener: null, RunDir: null, Console: null}
	for _, d := range p.Disks {
		flag := os.O_RDWR
		if d.ReadOnly {
			flag = os.O_RDONLY
		}
		f, err := os.OpenFile("/disks/"+string(d.Role), flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files.Disks = append(files.Disks, f)
	}
	cmd.ExtraFiles = files.Inherit(reader)
	if adjust != nil {
		adjust(cmd)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		t.Errorf("the first stage: %v", err)
	}
	return said.String()
}

func imprisonMe() {
	p, _, err := Inherit()
	if err == nil {
		err = Imprison(p, slog.Default())
	}
	fmt.Fprintln(os.Stderr, "imprisoning:", err)
	os.Exit(1)
}
