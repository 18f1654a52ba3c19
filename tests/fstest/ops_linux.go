package main

import (
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// op is a call of a case: what it gives, or its error.
type op func(s *scene, args []string) (string, error)

// plain is a call that gives nothing.
func plain(f func(args []string) error) op {
	return func(_ *scene, args []string) (string, error) { return "", f(args) }
}

// number reads a mode, which is octal, or a size.
func number(text string, base int) int64 {
	n, err := strconv.ParseInt(text, base, 64)
	if err != nil {
		panic("a case has no number where it must: " + text)
	}
	return n
}

func mode(text string) uint32 { return uint32(number(text, 8)) }
func id(text string) int      { return int(number(text, 10)) }

var ops map[string]op

func init() {
	ops = map[string]op{
		"as":       func(s *scene, a []string) (string, error) { s.as(id(a[0])); return "", nil },
		"mkdir":    plain(func(a []string) error { return unix.Mkdir(a[0], mode(a[1])) }),
		"rmdir":    plain(func(a []string) error { return unix.Rmdir(a[0]) }),
		"unlink":   plain(func(a []string) error { return unix.Unlink(a[0]) }),
		"link":     plain(func(a []string) error { return unix.Link(a[0], a[1]) }),
		"symlink":  plain(func(a []string) error { return unix.Symlink(a[0], a[1]) }),
		"rename":   plain(func(a []string) error { return unix.Rename(a[0], a[1]) }),
		"mkfifo":   plain(func(a []string) error { return unix.Mkfifo(a[0], mode(a[1])) }),
		"socket":   plain(func(a []string) error { return unix.Mknod(a[0], unix.S_IFSOCK|mode(a[1]), 0) }),
		"chmod":    plain(func(a []string) error { return unix.Chmod(a[0], mode(a[1])) }),
		"lchown":   plain(func(a []string) error { return unix.Lchown(a[0], id(a[1]), id(a[2])) }),
		"truncate": plain(func(a []string) error { return unix.Truncate(a[0], number(a[1], 10)) }),
		"utimes":   plain(utimes),
		"access":   plain(func(a []string) error { return unix.Faccessat2(unix.AT_FDCWD, a[0], mode(a[1]), unix.AT_EACCESS) }),
		"create":   plain(create),
		"put":      plain(func(a []string) error { return os.WriteFile(a[0], []byte(a[1]), 0o644) }),
		"get":      func(_ *scene, a []string) (string, error) { b, err := os.ReadFile(a[0]); return string(b), err },
		"readlink": readlink,
		"list":     list,
		"stat":     func(_ *scene, a []string) (string, error) { return field(a[1], a[0], unix.Stat) },
		"lstat":    func(_ *scene, a []string) (string, error) { return field(a[1], a[0], unix.Lstat) },
		"same":     same,
		"tick":     tick,
		"mark":     func(s *scene, a []string) (string, error) { return "", s.mark(a[0]) },
		"newer":    newer,
		"open":     open,
		"hold":     hold,
		"write": func(s *scene, a []string) (string, error) {
			_, err := unix.Write(s.held[a[0]], []byte(a[1]))
			return "", err
		},
		"pread": pread,
		"fsize": func(s *scene, a []string) (string, error) { return "", unix.Ftruncate(s.held[a[0]], number(a[1], 10)) },
		"fmode": func(s *scene, a []string) (string, error) { return "", unix.Fchmod(s.held[a[0]], mode(a[1])) },
		"fsync": func(s *scene, a []string) (string, error) { return "", unix.Fsync(s.held[a[0]]) },
		"fstat": fstat,
	}
}

func create(a []string) error {
	fd, err := unix.Open(a[0], unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, mode(a[1]))
	if err == nil {
		unix.Close(fd)
	}
	return err
}

var flags = map[string]int{
	"rdonly": unix.O_RDONLY, "wronly": unix.O_WRONLY, "rdwr": unix.O_RDWR, "creat": unix.O_CREAT, "excl": unix.O_EXCL,
	"trunc": unix.O_TRUNC, "append": unix.O_APPEND, "nofollow": unix.O_NOFOLLOW, "directory": unix.O_DIRECTORY,
	"nonblock": unix.O_NONBLOCK,
}

func openAs(a []string) (int, error) {
	how := unix.O_CLOEXEC
	for _, name := range strings.Split(a[1], ",") {
		f, ok := flags[name]
		if !ok {
			panic("a case has no such flag: " + name)
		}
		how |= f
	}
	return unix.Open(a[0], how, 0o644)
}

func open(_ *scene, a []string) (string, error) {
	fd, err := openAs(a)
	if err == nil {
		unix.Close(fd)
	}
	return "", err
}

// hold keeps a file open under a name.
func hold(s *scene, a []string) (string, error) {
	fd, err := openAs(a[1:])
	if err == nil {
		s.held[a[0]] = fd
	}
	return "", err
}

func pread(s *scene, a []string) (string, error) {
	b := make([]byte, 4096)
	n, err := unix.Pread(s.held[a[0]], b, number(a[1], 10))
	return string(b[:max(n, 0)]), err
}

func readlink(_ *scene, a []string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlink(a[0], b)
	return string(b[:max(n, 0)]), err
}

func list(_ *scene, a []string) (string, error) {
	entries, err := os.ReadDir(a[0])
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	sort.Strings(names)
	return strings.Join(names, ","), err
}

// utimes sets both times, in nanoseconds; - leaves one and now is now.
func utimes(a []string) error {
	var ts [2]unix.Timespec
	for i := range ts {
		switch text := a[1+i]; text {
		case "-":
			ts[i].Nsec = unix.UTIME_OMIT
		case "now":
			ts[i].Nsec = unix.UTIME_NOW
		default:
			ts[i] = unix.NsecToTimespec(number(text, 10))
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, a[0], ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

var kinds = map[uint32]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "link", unix.S_IFIFO: "fifo", unix.S_IFSOCK: "socket",
}

func field(what, path string, stat func(string, *unix.Stat_t) error) (string, error) {
	var st unix.Stat_t
	if err := stat(path, &st); err != nil {
		return "", err
	}
	return show(what, &st), nil
}

func fstat(s *scene, a []string) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(s.held[a[0]], &st); err != nil {
		return "", err
	}
	return show(a[1], &st), nil
}

func show(what string, st *unix.Stat_t) string {
	switch what {
	case "kind":
		return kinds[st.Mode&unix.S_IFMT]
	case "mode":
		return fmt.Sprintf("%o", st.Mode&0o7777)
	case "size":
		return fmt.Sprint(st.Size)
	case "links":
		return fmt.Sprint(st.Nlink)
	case "owner":
		return fmt.Sprintf("%d,%d", st.Uid, st.Gid)
	case "atime":
		return fmt.Sprint(st.Atim.Nano())
	case "mtime":
		return fmt.Sprint(st.Mtim.Nano())
	}
	panic("a case asks for an unknown field: " + what)
}

// same tells whether two names are of one file.
func same(_ *scene, a []string) (string, error) {
	var x, y unix.Stat_t
	if err := unix.Lstat(a[0], &x); err != nil {
		return "", err
	}
	err := unix.Lstat(a[1], &y)
	return fmt.Sprint(x.Ino == y.Ino && x.Dev == y.Dev), err
}

func (s *scene) mark(path string) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	s.marks[path] = st
	return err
}

// newer says which times of a marked file have changed since.
func newer(s *scene, a []string) (string, error) {
	old := s.marks[a[0]]
	if err := s.mark(a[0]); err != nil {
		return "", err
	}
	now := s.marks[a[0]]
	var which []string
	if now.Mtim.Nano() > old.Mtim.Nano() {
		which = append(which, "mtime")
	}
	if now.Ctim.Nano() > old.Ctim.Nano() {
		which = append(which, "ctime")
	}
	return strings.Join(append(which, "end"), ","), nil
}

// tick returns when the clock of the file system has gone on.
func tick(*scene, []string) (string, error) {
	const clock = "../clock"
	var first, now unix.Stat_t
	for now.Mtim == first.Mtim {
		if err := os.WriteFile(clock, []byte("x"), 0o666); err != nil {
			return "", err
		}
		if err := unix.Stat(clock, &now); err != nil {
			return "", err
		}
		if first.Mtim.Nano() == 0 {
			first = now
		}
	}
	return "", nil
}
