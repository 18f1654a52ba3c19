package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/workspace/door"
)

// Folder is a workspace.
type Folder struct {
	// Root is open for any access or none (O_PATH).
	Root *os.File
}

// check refuses what is not the path of something in a workspace.
func check(path string) error {
	switch {
	case path == "":
		return refused(path, "expected a path in the workspace, such as src/main.go")
	case strings.ContainsRune(path, 0):
		return refused(path, "expected a path without a NUL")
	case len(path) >= unix.PathMax:
		return refused(path, fmt.Sprintf("expected at most %d bytes", unix.PathMax-1))
	case filepath.IsAbs(path):
		return refused(path, "expected a path from the workspace on: leave the first / out")
	case !filepath.IsLocal(path):
		return refused(path, "expected a path that stays in the workspace")
	}
	return nil
}

func refused(path, why string) error {
	return api.Errorf(api.InvalidArgument, "path %q: %s", door.Shorten(path), why)
}

// within is how paths are resolved.
const within = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// maxTries bounds how often a path is resolved anew.
const maxTries = 100

// open opens what a path leads to.
func (f Folder) open(path string, flags int) (*os.File, error) {
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NONBLOCK), Resolve: within}
	if flags&unix.O_PATH != 0 {
		how.Flags &^= unix.O_NONBLOCK
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(int(f.Root.Fd()), path, how)
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if try == maxTries || err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: a rename came between
			return nil, explain(path, err)
		}
	}
}

// explain makes a refusal of what the kernel says.
func explain(path string, err error) error {
	name := door.Shorten(path)
	switch {
	case errors.Is(err, unix.ENOENT):
		return api.Errorf(api.NotFound, "path %q: no such file or folder in the workspace", name)
	case errors.Is(err, unix.EXDEV):
		return api.Errorf(api.Denied, "path %q: it leads out of the workspace", name)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return api.Errorf(api.Denied, "path %q: the owner of the instance may not do that", name)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG),
		errors.Is(err, unix.EISDIR), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENXIO):
		return api.Errorf(api.InvalidArgument, "path %q: %w", name, reason(err))
	}
	return fmt.Errorf("path %q: %w", name, reason(err))
}

// reason is what the kernel said, without the call and the path.
func reason(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return err
}

// kind refuses what is not of the wanted kind.
func kind(f *os.File, path string, want uint32) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, explain(path, err)
	}
	switch got := st.Mode & unix.S_IFMT; {
	case got == want:
		return st, nil
	case want == unix.S_IFDIR:
		return st, refused(path, "it is no folder")
	case got == unix.S_IFDIR:
		return st, refused(path, "it is a folder: expected a file")
	}
	return st, refused(path, "it is no regular file")
}

// Open opens a regular file for reading. What it is is known before it is
// opened: the opening of a device may do something, and that of a pipe waits.
func (f Folder) Open(path string) (*os.File, error) {
	if err := check(path); err != nil {
		return nil, err
	}
	at, err := f.open(path, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	st, err := kind(at, path, unix.S_IFREG)
	if err != nil {
		return nil, err
	}
	if st.Size > api.MaxFile {
		return nil, tooLarge(path)
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", at.Fd()), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, explain(path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func tooLarge(path string) error {
	return api.Errorf(api.LimitExceeded, "path %q: more than %d MiB: use `aegis cp`", door.Shorten(path), api.MaxFile>>20)
}
