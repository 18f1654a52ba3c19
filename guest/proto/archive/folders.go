package archive

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// folder is one that gets its mode and time last, as both are of no use while
// it is filled.
type folder struct {
	at    string
	entry *entry
}

// level is one folder on the way to the entry that is unpacked.
type level struct {
	name string
	root *os.Root
	self *os.File // opened when needed
}

func (l *level) close() {
	l.root.Close()
	if l.self != nil {
		l.self.Close()
	}
}

// enter goes to the folder at, making what is missing on the way. It follows
// no link: what came of an archive could send the next entry anywhere.
func (u *unpacker) enter(at string) (*level, error) {
	var parts []string
	if at != "." {
		parts = strings.Split(at, "/")
	}
	same := 0
	for same < len(parts) && same+1 < len(u.path) && u.path[same+1].name == parts[same] {
		same++
	}
	u.leave(same + 1)
	for _, part := range parts[same:] {
		if err := u.descend(part); err != nil {
			return nil, err
		}
	}
	return &u.path[len(u.path)-1], nil
}

func (u *unpacker) descend(name string) error {
	in := u.path[len(u.path)-1].root
	if err := in.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := isFolder(in, name); err != nil {
		return err
	}
	sub, err := in.OpenRoot(name)
	if err != nil {
		return err
	}
	u.path = append(u.path, level{name: name, root: sub})
	return nil
}

// leave closes all levels but the first n; the very first is the caller's.
func (u *unpacker) leave(n int) {
	for _, l := range u.path[min(n, len(u.path)):] {
		l.close()
	}
	u.path = u.path[:min(n, len(u.path))]
}

// isFolder refuses what is no folder itself, such as a link to one.
func isFolder(in *os.Root, name string) error {
	info, err := in.Lstat(name)
	switch {
	case err != nil:
		return err
	case info.Mode().Type() == fs.ModeSymlink:
		return fmt.Errorf("%s is a symbolic link, which is not followed", quote(name))
	case !info.IsDir():
		return fmt.Errorf("%s is no folder", quote(name))
	}
	return nil
}

// finish gives the folders their modes and times, the inner ones first, as far
// as that can be done, and closes what is open.
func (u *unpacker) finish(whole bool) error {
	slices.SortStableFunc(u.folders, func(a, b folder) int {
		return cmp.Compare(strings.Count(b.at, "/"), strings.Count(a.at, "/"))
	})
	var failed error
	for _, f := range u.folders {
		if err := u.settle(f); err != nil && failed == nil {
			failed = refuse(f.entry.name, "%w", reason(err))
		}
	}
	u.leave(1)
	if l := u.path[0]; l.self != nil {
		l.self.Close()
	}
	if !whole {
		return nil // there is an error that says more
	}
	return errors.Join(failed, u.lost.err())
}

func (u *unpacker) settle(f folder) error {
	in, err := u.enter(path.Dir(f.at))
	if err != nil {
		return err
	}
	name := path.Base(f.at)
	if err := isFolder(in.root, name); err != nil {
		return err
	}
	if len(f.entry.attrs) > 0 {
		dir, err := in.openFolder(name)
		if err != nil {
			return err
		}
		u.setAttrs(dir, f.entry, f.entry.attrs)
		dir.Close()
	}
	return u.dress(in, name, f.entry, u.mode(f.entry)|fs.ModeDir)
}

// mode is the mode that an entry gets.
func (u *unpacker) mode(e *entry) fs.FileMode {
	mode := fs.FileMode(e.Mode & 0o777)
	if e.Mode&unix.S_ISVTX != 0 && e.dir {
		mode |= fs.ModeSticky
	}
	if e.Mode&unix.S_ISUID != 0 && u.options.Setid {
		mode |= fs.ModeSetuid
	}
	if e.Mode&unix.S_ISGID != 0 && u.options.Setid {
		mode |= fs.ModeSetgid
	}
	return mode
}

// dress gives a folder or a link its owner, mode and time.
func (u *unpacker) dress(in *level, name string, e *entry, mode fs.FileMode) error {
	if u.options.Owner {
		if err := in.root.Lchown(name, e.Uid, e.Gid); err != nil {
			return err
		}
	}
	if mode&fs.ModeSymlink == 0 {
		if err := in.root.Chmod(name, mode&^fs.ModeDir); err != nil {
			return err
		}
	}
	return in.stamp(name, e)
}

// dir is the folder, opened once.
func (l *level) dir() (_ *os.File, err error) {
	if l.self == nil {
		l.self, err = l.root.Open(".")
	}
	return l.self, err
}

// stamp sets the time of a file in the folder.
func (l *level) stamp(name string, e *entry) error {
	self, err := l.dir()
	if err != nil {
		return err
	}
	return stampAt(int(self.Fd()), name, e, unix.AT_SYMLINK_NOFOLLOW)
}

// stampAt sets the time of a file. One that cannot be told to the kernel is
// left out.
func stampAt(dir int, name string, e *entry, flags int) error {
	t, err := unix.TimeToTimespec(e.ModTime)
	if err != nil {
		return nil
	}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{t, t}, flags)
}
