package vmmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/erofs/go-erofs"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake/program"
)

// Artefacts are what a real machine of the suite is made of.
type Artefacts struct {
	// Kernel and Initramfs are the product's own.
	Kernel, Initramfs string
	// dir holds what was made for the suite: an image with the programs, an
	// empty disk, an initramfs whose init does nothing and one without.
	dir string
}

// Real finds the guest's kernel and initramfs, and makes the rest; it skips
// the test where something is missing. The kernel and initramfs.cpio are in
// the directory AEGIS_TEST_GUEST, else where `make build` puts them. The
// program of the guest is AEGIS_TEST_PROGRAM, else built.
func Real(t testing.TB) *Artefacts {
	t.Helper()
	if testing.Short() {
		t.Skip("boots real machines")
	}
	guest := guestDir()
	if guest == "" {
		t.Skip("SKIPPED: no guest kernel and initramfs.cpio in share/aegisvm/guest/{lean,distro}: run `make build`, or set AEGIS_TEST_GUEST")
	}
	a := &Artefacts{
		Kernel: filepath.Join(guest, "kernel"), Initramfs: filepath.Join(guest, "initramfs.cpio"), dir: t.TempDir(),
	}
	prog := os.Getenv("AEGIS_TEST_PROGRAM")
	if prog == "" {
		prog = a.build(t)
	}
	b, err := os.ReadFile(prog)
	if err != nil {
		t.Fatal(err)
	}
	// A distribution kernel has its drivers in the initramfs: with these two
	// it has no console.
	write(t, a.file("hang.cpio"), initramfs(b))
	write(t, a.file("bare.cpio"), initramfs(nil))
	a.makeImage(t, b)
	a.makeDisk(t)
	return a
}

func (a *Artefacts) file(name string) string { return filepath.Join(a.dir, name) }

// guestDir is the first directory that has a kernel and an initramfs.
func guestDir() string {
	root := repository()
	for _, d := range []string{
		os.Getenv("AEGIS_TEST_GUEST"),
		filepath.Join(root, "share/aegisvm/guest/lean"), filepath.Join(root, "share/aegisvm/guest/distro"),
	} {
		if d == "" {
			continue
		}
		_, err1 := os.Stat(filepath.Join(d, "kernel"))
		_, err2 := os.Stat(filepath.Join(d, "initramfs.cpio"))
		if err1 == nil && err2 == nil {
			return d
		}
	}
	return ""
}

// repository is the directory of go.mod, as seen from this file.
func repository() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../..")
}

func (a *Artefacts) build(t testing.TB) string {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", a.file("guestprog"), "github.com/xfeldman/aegisvm/vmm/vmmtest/guestprog")
	cmd.Dir, cmd.Env = repository(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: building the guest's program: %v: %s", err, out)
	}
	return a.file("guestprog")
}

// makeImage makes an EROFS disk with the programs in /bin and the directories
// that a system has.
func (a *Artefacts) makeImage(t testing.TB, prog []byte) {
	t.Helper()
	f, err := os.Create(a.file("image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := erofs.Create(f)
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "var"} {
		must(t, w.Mkdir("/"+d, 0o755))
	}
	p, err := w.Create("/bin/guestprog")
	must(t, err)
	_, err = p.Write(prog)
	must(t, err)
	must(t, p.Chmod(0o755))
	must(t, p.Close())
	for name := range program.Builtins() {
		must(t, w.Symlink("guestprog", "/bin/"+name))
	}
	must(t, w.Close())
}

// makeDisk makes an empty ext4.
func (a *Artefacts) makeDisk(t testing.TB) {
	t.Helper()
	write(t, a.file("own"), nil)
	must(t, os.Truncate(a.file("own"), 64<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", a.file("own")).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: mkfs.ext4 (apt install e2fsprogs): %v: %s", err, out)
	}
}

var serial atomic.Int64

// Plan makes a machine of 256 MiB and one processor.
func (a *Artefacts) Plan(t testing.TB) vmm.Plan {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("cp", "--sparse=always", a.file("own"), filepath.Join(dir, "own")).CombinedOutput(); err != nil {
		t.Fatalf("copying the disk: %v: %s", err, out)
	}
	return vmm.Plan{
		ID: fmt.Sprintf("vmmtest-%d-%d", os.Getpid(), serial.Add(1)), Kernel: a.Kernel, Initramfs: a.Initramfs,
		MemoryMiB: 256, VCPUs: 1, Dir: dir,
		Console: open(t, filepath.Join(dir, "console"), os.O_RDWR|os.O_CREATE),
		Disks: []vmm.Disk{
			{Role: vmm.RoleImage, ReadOnly: true, File: open(t, a.file("image"), os.O_RDONLY)},
			{Role: vmm.RoleOwn, File: open(t, filepath.Join(dir, "own"), os.O_RDWR)},
		},
	}
}

// NeverReady gives the plan an init that does nothing.
func (a *Artefacts) NeverReady(_ testing.TB, p *vmm.Plan) { p.Initramfs = a.file("hang.cpio") }

// PanicAtBoot gives the plan no init at all.
func (a *Artefacts) PanicAtBoot(_ testing.TB, p *vmm.Plan) { p.Initramfs = a.file("bare.cpio") }

func open(t testing.TB, path string, flag int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flag, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	must(t, os.WriteFile(path, b, 0o644))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
