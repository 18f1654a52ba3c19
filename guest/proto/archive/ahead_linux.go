package archive

import (
	"os"

	"golang.org/x/sys/unix"
)

// willNeed asks for a part of a file to be fetched. It is advice: what cannot be
// fetched now is read later.
func willNeed(f *os.File, from, n int64) {
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.Fadvise(int(fd), from, n, unix.FADV_WILLNEED) })
	}
}
