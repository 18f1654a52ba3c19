package archive

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// readAttrs reads those attributes of a file that are carried. A file system
// without any has none.
func readAttrs(f *os.File) ([]attr, error) {
	names, err := sized(func(b []byte) (int, error) { return unix.Flistxattr(int(f.Fd()), b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	var all []attr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if !carried(name) {
			continue
		}
		value, verr := sized(func(b []byte) (int, error) { return unix.Fgetxattr(int(f.Fd()), name, b) })
		switch {
		case errors.Is(verr, unix.ENODATA): // it went meanwhile
		case verr != nil:
			err = verr
		default:
			all = append(all, attr{name, string(value)})
		}
	}
	return all, err
}

// sized reads what first tells its size, which may grow meanwhile.
func sized(read func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		if n, err = read(b); !errors.Is(err, unix.ERANGE) {
			return b[:max(n, 0)], err
		}
	}
}

func writeAttr(f *os.File, a attr) error {
	err := unix.Fsetxattr(int(f.Fd()), a.name, []byte(a.value), 0)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

// openFolder opens a folder itself, not what a link leads to.
func (l *level) openFolder(name string) (*os.File, error) {
	self, err := l.dir()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat(int(self.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
