package user

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// count is one counter.
type count struct{ packets, bytes atomic.Uint64 }

// counters count what a policy makes of a machine's packets. They are in a
// file that is mapped, so that they outlive whoever is killed; nobody else has
// it.
type counters struct{ all []count }

// size is that of the file; it is written at once, so that a full disk is an
// error here and not a signal later.
var size = len(policy.GuestCounters) * int(unsafe.Sizeof(count{}))

func openCounters(path string) (*counters, error) {
	if st, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || err == nil && st.Size() != int64(size) {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			return nil, fmt.Errorf("making counters: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening counters: %w", err)
	}
	defer f.Close()
	raw, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping counters: %w", err)
	}
	c := &counters{unsafe.Slice((*count)(unsafe.Pointer(&raw[0])), len(policy.GuestCounters))}
	// Whoever still counts for a machine that goes has c, and with it the map.
	runtime.AddCleanup(c, func(raw []byte) { _ = unix.Munmap(raw) }, raw)
	return c, nil
}

func (c *counters) add(name string, bytes int) {
	if i := slices.Index(policy.GuestCounters, name); i >= 0 {
		c.all[i].packets.Add(1)
		c.all[i].bytes.Add(uint64(max(bytes, 0)))
	}
}

func (c *counters) list() (all []netd.Counter) {
	for i, name := range policy.GuestCounters {
		all = append(all, netd.Counter{Name: name, Packets: c.all[i].packets.Load(), Bytes: c.all[i].bytes.Load()})
	}
	return all
}
