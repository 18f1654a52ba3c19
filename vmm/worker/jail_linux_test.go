package worker

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
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
	caps, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(caps), "NoNewPrivs:\t")
	return fmt.Sprintf("uid=%d gid=%d root=%s usr=%s run=%s elsewhere=%s null=%s secret=%s mount=%s signal=%s nnp=%s",
		os.Getuid(), os.Getgid(), can(root), can(tools), can(write), can(other), can(null), can(secret), can(mount), can(signal), after[:1])
}

// TestInAGuestTheJailHolds runs as init of a guest, where breaking out would
// do no harm.
func TestInAGuestTheJailHolds(t *testing.T) {
	if os.Getpid() != 1 {
		t.Skip("runs inside TestTheJailInAGuestWithLandlock")
	}
	const uid = 4242
	for _, dir := range []string{"/usr/lib", "/machine/run"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"/secret", "/kernel", "/initramfs"} {
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown("/machine/run", uid, uid); err != nil {
		t.Fatal(err)
	}
	p := Plan{
		ID: "one", Kernel: "/kernel", Initramfs: "/initramfs", RunDir: "/machine/run", MemoryMiB: 64, VCPUs: 1,
		Jail: &Jail{UID: uid, GID: uid, Strict: true},
	}
	said := imprisoned(t, p)
	root, abi := "yes", 0
	if abi, _ = llsys.LandlockGetABIVersion(); abi > 0 {
		root = "no" // the mounts show /, and only Landlock denies it
	}
	want := fmt.Sprintf("cell: uid=%d gid=%d root=%s usr=yes run=yes elsewhere=no null=yes secret=no mount=no signal=no nnp=1", uid, uid, root)
	if !strings.Contains(said, want) {
		t.Errorf("with Landlock %d, in the jail: %s\nexpected: %s", abi, said, want)
	}
	if _, err := os.Stat("/machine/run/mine"); err != nil {
		t.Errorf("what was written in the jail is not outside: %v", err)
	}
}

// jailEnv has this program build a jail around itself.
const jailEnv = "AEGIS_TEST_JAIL"

// imprisoned starts this program, which imprisons itself and looks around.
func imprisoned(t *testing.T, p Plan) string {
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
	cmd.Env = []string{jailEnv + "=1", cellEnv + "=1"}
	cmd.ExtraFiles = Files{Listener: null, RunDir: null, Console: null}.Inherit(reader)
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
