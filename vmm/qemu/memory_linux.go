package qemu

import (
	"context"
	"fmt"
	"os"

	"github.com/xfeldman/aegisvm/vmm/monitor"
	"golang.org/x/sys/unix"
)

// sealed is what a memory that machines share must be: nobody can write to
// it, whatever descriptor they get of it.
const sealed = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL

// newMemory makes a memory file of size bytes that is on no disk.
func newMemory(size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate("aegis-memory", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("making guest memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "aegis-memory")
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("making guest memory: %w", err)
	}
	return f, nil
}

// Template copies the memory of a snapshot to a sealed file. Any number of
// restores from a Snapshot with such a Memory share its pages and copy only
// what they write; a restore from any other file has all of it copied. The
// caller closes it.
func Template(memory *os.File) (*os.File, error) {
	fi, err := memory.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading snapshot memory: %w", err)
	}
	f, err := copyMemory(memory, fi.Size())
	if err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, sealed); err != nil {
		f.Close()
		return nil, fmt.Errorf("sealing snapshot memory: %w", err)
	}
	return f, nil
}

// isTemplate tells whether nobody can write to f any more.
func isTemplate(f *os.File) bool {
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	return err == nil && seals&unix.F_SEAL_WRITE != 0
}

// copyMemory makes a memory with the content of from.
func copyMemory(from *os.File, size int64) (*os.File, error) {
	f, err := newMemory(size)
	if err != nil {
		return nil, err
	}
	if err := monitor.CopySparse(context.Background(), f, from); err != nil {
		f.Close()
		return nil, fmt.Errorf("copying snapshot memory: %w", err)
	}
	return f, nil
}
