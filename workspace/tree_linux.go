package workspace

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// tree reaches the files below a folder, and nothing else: every path is
// resolved from the folder's descriptor, below it, without links and without
// crossing into what is mounted there.
type tree struct{ root *os.File }

// resolve is how every path is resolved.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV

// pathPart is how long a path may be for one call, less than the kernel's
// PATH_MAX.
const pathPart = 4000

// fd is a descriptor that its holder closes.
type fd int

func (f fd) close() { unix.Close(int(f)) }

// path is a name of exactly what f is, whatever happens to its path.
func (f fd) path() string { return fmt.Sprintf("/proc/self/fd/%d", int(f)) }

// open opens the file that names lead to.
func (t tree) open(names []string, flags int) (fd, error) {
	at := fd(-1)
	defer func() {
		if at >= 0 {
			at.close()
		}
	}()
	for {
		n, size := 0, 0
		for n < len(names) && size+len(names[n]) < pathPart {
			size += len(names[n]) + 1
			n++
		}
		dir := int(t.root.Fd())
		if at >= 0 {
			dir = int(at)
		}
		path, last := ".", n == len(names)
		if n > 0 {
			path = strings.Join(names[:n], "/")
		}
		how := flags
		if !last {
			how = unix.O_PATH | unix.O_DIRECTORY
		}
		next, err := openat2(dir, path, how)
		if err != nil || last {
			return next, err
		}
		if at >= 0 {
			at.close()
		}
		at, names = next, names[n:]
	}
}

// maxTries bounds how often a path is resolved anew.
const maxTries = 100

func openat2(dir int, path string, flags int) (fd, error) {
	for try := 0; ; try++ {
		f, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC), Resolve: resolve})
		if try == maxTries || err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: a rename came between
			return fd(f), err
		}
	}
}

// statMask is what is asked of files.
const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID

// stat tells about an open file.
func stat(f fd) (unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(int(f), "", unix.AT_EMPTY_PATH, statMask, &st)
	return st, err
}

// statAt tells about a name in a directory.
func statAt(dir fd, name string) (unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(int(dir), name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statMask, &st)
	return st, err
}

func keyOf(st *unix.Statx_t) identity {
	k := identity{Dev: uint64(unix.Mkdev(st.Dev_major, st.Dev_minor)), Ino: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		k.Born = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return k
}

func kindOf(st *unix.Statx_t) uint32 { return uint32(st.Mode) & unix.S_IFMT }

var (
	errName    = errors.New("not a name of a file")
	errTooLong = errors.New("name too long")
)

// checkName refuses what is not the name of an entry of a directory.
func checkName(name []byte) (string, error) {
	s := string(name)
	switch {
	case s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00"):
		return "", errName
	case len(s) > unix.NAME_MAX:
		return "", errTooLong
	}
	return s, nil
}
