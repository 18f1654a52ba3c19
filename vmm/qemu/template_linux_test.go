package qemu_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/qemu"
	"github.com/xfeldman/aegisvm/vmm/vmmtest"
	"golang.org/x/sys/unix"
)

// memoryFile has data at its first page and at 3 MiB, and holes elsewhere.
func memoryFile(t *testing.T) (*os.File, []byte) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "memory"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	want := make([]byte, 8<<20)
	rand.Read(want[:4096])
	rand.Read(want[3<<20 : 3<<20+100_000])
	for _, r := range [][2]int{{0, 4096}, {3 << 20, 3<<20 + 100_000}} {
		if _, err := f.WriteAt(want[r[0]:r[1]], int64(r[0])); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(int64(len(want))); err != nil {
		t.Fatal(err)
	}
	return f, want
}

func TestATemplateIsACopyThatNobodyCanWriteTo(t *testing.T) {
	from, want := memoryFile(t)
	f, err := qemu.Template(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes that differ from the memory's %d, %v", len(got), len(want), err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("the copy takes %d bytes, %v: holes were filled", st.Blocks*512, err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("the template's own descriptor can write")
	}
	again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("opening it as QEMU does: %v", err)
	}
	defer again.Close()
	if _, err := again.WriteAt([]byte("x"), 0); err == nil {
		t.Error("a descriptor opened anew can write")
	}
	if _, err := unix.Mmap(int(again.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		t.Error("a descriptor opened anew can be mapped for writing")
	}
	if err := again.Truncate(0); err == nil {
		t.Error("a template can shrink under its clones")
	}
}

// TestConformanceOfClones runs the suite's tests of snapshots with machines whose
// memory is mapped from templates.
func TestConformanceOfClones(t *testing.T) {
	a := vmmtest.Real(t)
	vmmtest.RunSnapshots(t, func(t *testing.T) vmmtest.Harnessed {
		return vmmtest.Harnessed{Driver: templating{&qemu.Driver{}, t}, Plan: a.Plan, Patience: 3 * time.Minute}
	})
}

// templating is the driver for someone who makes a template of every snapshot
// before restoring it.
type templating struct {
	*qemu.Driver
	t *testing.T
}

func (d templating) Start(ctx context.Context, p vmm.Plan) (vmm.Machine, error) {
	if p.Restore == nil {
		return d.Driver.Start(ctx, p)
	}
	if fi, err := p.Restore.Memory.Stat(); err != nil || fi.Size() == 0 {
		return d.Driver.Start(ctx, p) // a clone's snapshot is in its state
	}
	f, err := qemu.Template(p.Restore.Memory)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	p.Restore = &vmm.Snapshot{State: p.Restore.State, Memory: f}
	return d.Driver.Start(ctx, p)
}
