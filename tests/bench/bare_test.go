package bench

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/tests/testbed"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/qemu"
)

// bare starts machines without any of our daemons.
type bare struct {
	tb        testing.TB
	driver    *qemu.Driver
	store     *image.Local
	image     image.Image
	kernel    string
	initramfs string
}

func newBare(tb testing.TB) *bare {
	tb.Helper()
	root := testbed.Built(tb)
	store, err := image.Open(tb.TempDir(), image.Options{Base: filepath.Join(root, "share/aegisvm/base")})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { store.Close() })
	img, err := store.Prepare(tb.Context(), "", nil)
	if err != nil {
		tb.Fatal(err)
	}
	if err := store.CreateDisk(tb.Context(), "bare", image.DiskSize); err != nil {
		tb.Fatal(err)
	}
	guest := testbed.Guest(tb)
	return &bare{
		tb: tb, driver: &qemu.Driver{}, store: store, image: img,
		kernel: filepath.Join(guest, "kernel"), initramfs: filepath.Join(guest, "initramfs.cpio"),
	}
}

// open opens a file of the store or ends the benchmark.
func (b *bare) open(f *os.File, err error) *os.File {
	if err != nil {
		b.tb.Fatal(err)
	}
	b.tb.Cleanup(func() { f.Close() })
	return f
}

// start boots a machine and returns it as soon as its monitor runs.
func (b *bare) start(ctx context.Context) vmm.Machine {
	disk := "bare"
	console, err := os.CreateTemp(b.tb.TempDir(), "console")
	m, err := b.driver.Start(ctx, vmm.Plan{
		ID: "bare", Kernel: b.kernel, Initramfs: b.initramfs, MemoryMiB: 512, VCPUs: 1,
		Disks: []vmm.Disk{
			{Role: vmm.RoleImage, ReadOnly: true, File: b.open(b.store.Open(ctx, b.image.Digest))},
			{Role: vmm.RoleOwn, File: b.open(b.store.OpenDisk(ctx, disk))},
		},
		Console: b.open(console, err), Dir: b.tb.TempDir(),
	})
	if err != nil {
		b.tb.Fatal(err)
	}
	return m
}

// run boots, runs one program and tells how long that took, from before the
// monitor's start to the program's status.
func (b *bare) run(ctx context.Context, argv ...string) time.Duration {
	begin := time.Now()
	m := b.start(ctx)
	defer m.Stop(ctx)
	select {
	case <-m.Ready():
	case <-m.Done():
		b.tb.Fatalf("the bare machine ended: %+v", m.Exit())
	}
	dial := func(ctx context.Context, port uint32) (*os.File, error) { return pipeTo(m, ctx, port) }
	s, err := guestsession.Open(ctx, dial)
	if err != nil {
		b.tb.Fatal(err)
	}
	defer s.Close()
	entropy := make([]byte, 32)
	rand.Read(entropy)
	if err := s.Identify(ctx, &proto.Identity{Hostname: "bare", Entropy: entropy, UnixNano: time.Now().UnixNano()}); err != nil {
		b.tb.Fatal(err)
	}
	if err := s.Start(ctx, guestsession.Process{ID: "p", Argv: argv, Env: []string{"PATH=/usr/bin:/bin"}}); err != nil {
		b.tb.Fatal(err)
	}
	status, err := s.Wait(ctx, "p")
	if err != nil || status.Code != 0 {
		b.tb.Fatalf("bare %v: %+v, %v", argv, status, err)
	}
	return time.Since(begin)
}

// pipeTo gives a guest port as a descriptor, as the worker does.
func pipeTo(m vmm.Machine, ctx context.Context, port uint32) (*os.File, error) {
	conn, err := m.Connect(ctx, port)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := socketpair()
	if err != nil {
		conn.Close()
		return nil, err
	}
	go func() {
		io.Copy(ours, conn)
		ours.Close()
	}()
	go func() {
		io.Copy(conn, ours)
		conn.CloseWrite()
	}()
	return theirs, nil
}
