package attend

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/workspace/door"
)

// pathOf is a path of exactly what f is, whatever happens to its name.
func pathOf(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// nameOf is where f is now.
func nameOf(f *os.File) string {
	name, err := os.Readlink(pathOf(f))
	if err != nil {
		return f.Name()
	}
	return name
}

// named is where the owner's folders with names are.
func (a *attendant) named() string {
	if !a.Everybody {
		return a.Named
	}
	return filepath.Join(a.Named, strconv.FormatUint(uint64(a.Owner), 10))
}

// prepareNamed makes the place for the owner's folders with names: theirs, and
// seen by the group of the place of all, which is aegisd's.
func (a *attendant) prepareNamed() error {
	switch {
	case filepath.IsAbs(a.Folder):
		return nil
	case !a.Everybody:
		return os.MkdirAll(a.Named, 0o700)
	}
	all, err := os.Stat(a.Named)
	if err != nil {
		return fmt.Errorf("workspaces: %w", err)
	}
	if err := os.Mkdir(a.named(), 0o751); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("workspaces: %w", err)
	}
	st, ok := all.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("workspaces: no group of their folder")
	}
	if err := os.Lchown(a.named(), int(a.Owner), int(st.Gid)); err != nil {
		return fmt.Errorf("workspaces: %w", err)
	}
	return nil
}

// open opens the folder as this process may, which is the owner by then.
func (a *attendant) open(create bool) (*os.File, error) {
	path := a.Folder
	if !filepath.IsAbs(path) {
		path = filepath.Join(a.named(), a.Folder)
		if create {
			if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, a.explain(err)
			}
		}
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, a.explain(err)
	}
	f := os.NewFile(uintptr(fd), path)
	err = unix.Faccessat(fd, ".", unix.R_OK|unix.X_OK, unix.AT_EACCESS)
	if err != nil {
		err = a.explain(err)
	} else if filepath.IsAbs(a.Folder) {
		err = a.apart(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// explain says what is wrong with the folder.
func (a *attendant) explain(err error) error {
	name := door.Shorten(a.Folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.NotFound, "workspace %q is not there: make it, or say --create-workspace", name)
	case errors.Is(err, unix.ENOTDIR):
		return api.Errorf(api.InvalidArgument, "workspace %q is no folder: name a folder", name)
	case errors.Is(err, fs.ErrPermission):
		return api.Errorf(api.Denied, "workspace %q: uid %d may not enter it: name a folder of that user", name, a.Owner)
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return api.Errorf(api.InvalidArgument, "workspace %q: %w", name, errno)
	}
	return err
}

// apart refuses a folder that holds aegisd's own state, or lies in it: with it
// a guest could rewrite what aegisd knows.
func (a *attendant) apart(f *os.File) error {
	state, err := filepath.EvalSymlinks(a.Apart)
	if err != nil {
		return fmt.Errorf("the state of aegisd: %w", err)
	}
	if folder := nameOf(f); within(state, folder) || within(folder, state) {
		return api.Errorf(api.Denied, "workspace %q: aegisd's own state is in %s: choose a folder apart from it", door.Shorten(a.Folder), state)
	}
	return nil
}

func within(inner, outer string) bool {
	rel, err := filepath.Rel(outer, inner)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// remove deletes a folder with a name. It loses its name first, so that half a
// folder after a crash is none; it goes with the next one.
func (a *attendant) remove() error {
	all, err := os.OpenRoot(a.named())
	if err != nil {
		return fmt.Errorf("workspaces: %w", err)
	}
	defer all.Close()
	if a.Folder != "" {
		going := "." + a.Folder + "." + time.Now().UTC().Format("20060102T150405.000000000")
		switch err := all.Rename(a.Folder, going); {
		case errors.Is(err, fs.ErrNotExist):
			return api.Errorf(api.NotFound, "no workspace %q: see `aegis workspace list`", a.Folder)
		case err != nil:
			return fmt.Errorf("removing workspace %q: %w", a.Folder, err)
		}
	}
	return sweep(all)
}

// sweep deletes all that has lost its name.
func sweep(all *os.Root) error {
	entries, err := fs.ReadDir(all.FS(), ".")
	if err != nil {
		return fmt.Errorf("removing workspaces: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			continue
		}
		regain(all, e.Name())
		if err := all.RemoveAll(e.Name()); err != nil {
			return fmt.Errorf("removing workspace %q: %w", e.Name(), err)
		}
	}
	return nil
}

// regain gives the owner back the folders that a guest has closed to them, so
// that they can be emptied. What cannot be opened is for the removal to name.
func regain(all *os.Root, name string) {
	_ = fs.WalkDir(all.FS(), name, func(path string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() && err == nil {
			_ = all.Chmod(path, 0o700)
		}
		return nil
	})
}
