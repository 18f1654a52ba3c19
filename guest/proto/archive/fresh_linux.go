package archive

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openNameless makes a file without a name. Kernels and file systems that have
// no such say so in several ways.
func (l *level) openNameless() (*os.File, error) {
	self, err := l.dir()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat(int(self.Fd()), ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	switch {
	case err == nil:
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
		return nil, errors.ErrUnsupported
	default:
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "file")
	if unix.Faccessat(unix.AT_FDCWD, fdPath(f), unix.F_OK, 0) != nil { // no /proc, by which it would get its name
		f.Close()
		return nil, errors.ErrUnsupported
	}
	return f, nil
}

// link gives a file without a name one that nobody has.
func (f *fresh) link(name string) error {
	self, err := f.in.dir()
	if err != nil {
		return err
	}
	return unix.Linkat(unix.AT_FDCWD, fdPath(f.File), int(self.Fd()), name, unix.AT_SYMLINK_FOLLOW)
}

// stamp sets the time of the file.
func (f *fresh) stamp(e *entry) error {
	if f.temp != "" {
		return f.in.stamp(f.temp, e)
	}
	return stampAt(unix.AT_FDCWD, fdPath(f.File), e, 0)
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
