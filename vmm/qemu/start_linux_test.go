package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/vmm"
)

// pretender is a program in QEMU's place that logs its arguments and fails
// in the words given.
func pretender(t *testing.T, script string) (driver *Driver, calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls")
	binary := filepath.Join(dir, "qemu")
	text := "#!/bin/sh\necho \"$@\" >>" + log + "\n" + script + "\n"
	if err := os.WriteFile(binary, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return &Driver{Binary: binary, Accel: "tcg"}, func() []string {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
}

// plan needs no real kernel.
func plan(t *testing.T) vmm.Plan {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "disk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return vmm.Plan{
		ID: "m", Kernel: f.Name(), Initramfs: f.Name(), MemoryMiB: 16, VCPUs: 1,
		Disks: []vmm.Disk{{Role: vmm.RoleOwn, File: f}},
	}
}

func TestAMonitorThatFailsIsQuoted(t *testing.T) {
	d, _ := pretender(t, "echo qemu: no such machine >&2; exit 1")
	_, err := d.Start(t.Context(), plan(t))
	if err == nil || err.Error() != `starting machine "m": qemu exited with status 1: qemu: no such machine` {
		t.Errorf("error %v", err)
	}
}

func TestABuildWithoutIOUringGetsThreads(t *testing.T) {
	if diskAIO() != aioURing {
		t.Skip("SKIPPED: no io_uring here, so it is not tried")
	}
	d, calls := pretender(t, "echo aio=io_uring was specified, but is not supported in this build >&2; exit 1")
	if _, err := d.Start(t.Context(), plan(t)); err == nil {
		t.Fatal("no error from a program that is no QEMU")
	}
	c := calls()
	if len(c) != 2 || !strings.Contains(c[0], `"aio":"io_uring"`) || !strings.Contains(c[1], `"aio":"threads"`) {
		t.Errorf("%d starts: %q", len(c), c)
	}
}

func TestWhatIsMissingIsSaidWithItsPackage(t *testing.T) {
	t.Setenv("PATH", "/no/such/directory")
	d := &Driver{}
	s, err := d.Probe(t.Context())
	if err != nil || s.Missing != "qemu-system-x86_64 not found: apt install qemu-system-x86" {
		t.Errorf("missing %q, %v", s.Missing, err)
	}
	if _, err := d.Start(t.Context(), plan(t)); err == nil || !strings.Contains(err.Error(), "apt install qemu-system-x86") {
		t.Errorf("start without QEMU: %v", err)
	}
}

func TestBadPlansAreRefusedInWords(t *testing.T) {
	d, _ := pretender(t, "exit 1")
	for want, spoil := range map[string]func(*vmm.Plan){
		"opening the guest kernel": func(p *vmm.Plan) { p.Kernel = "/no/such/kernel" },
		"opening the initramfs":    func(p *vmm.Plan) { p.Initramfs = "/no/such/initramfs" },
		`disk "own": writable`: func(p *vmm.Plan) {
			ro, err := os.Open(p.Kernel)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ro.Close() })
			p.Disks[0].File = ro
		},
		"snapshot has 7 bytes of memory, the plan 16777216": func(p *vmm.Plan) {
			f, err := os.Create(filepath.Join(t.TempDir(), "memory"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			f.WriteString("7 bytes")
			p.Restore = &vmm.Snapshot{State: f, Memory: f}
		},
	} {
		p := plan(t)
		spoil(&p)
		if _, err := d.Start(t.Context(), p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
