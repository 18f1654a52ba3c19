package archive

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
)

// replaceable tells whether name is there already, and refuses what no file
// takes the place of.
func replaceable(in *os.Root, name string) (there bool, err error) {
	switch info, err := in.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.IsDir():
		return true, errors.New("there is a folder, which no file replaces")
	case !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink:
		return true, errors.New("there is something that is neither a file nor a folder")
	}
	return true, nil
}

// replace makes a link called name in a folder. A file or link that is there
// already is replaced in one step, and stays where making fails.
func replace(in *os.Root, name string, make func(name string) error) error {
	there, err := replaceable(in, name)
	if err != nil {
		return err
	}
	if !there {
		return make(name)
	}
	temp := temporary()
	if err := make(temp); err != nil {
		return err
	}
	err = in.Rename(temp, name)
	in.Remove(temp) // where both are links to one file, nothing was renamed
	return err
}

func temporary() string {
	b := make([]byte, 8)
	rand.Read(b)
	return ".aegis-cp-" + hex.EncodeToString(b)
}

func (u *unpacker) makeFile(e *entry, in *level, name, at string) error {
	if _, err := replaceable(in.root, name); err != nil {
		return err // before all of it was written
	}
	f, err := u.fresh(in)
	if err != nil {
		return err
	}
	if err = u.fill(f.File, e); err == nil {
		err = u.finishFile(f, e)
	}
	if err == nil {
		err = f.place(name)
	}
	if cerr := f.close(); err == nil {
		err = cerr
	}
	if err == nil {
		u.remember(at)
	}
	return err
}

// finishFile gives a file its owner, attributes, mode and time, in an order in
// which none of them undoes another.
func (u *unpacker) finishFile(f *fresh, e *entry) error {
	if u.options.Owner {
		if err := f.Chown(e.Uid, e.Gid); err != nil {
			return err
		}
	}
	u.setAttrs(f.File, e, e.attrs)
	if err := f.Chmod(u.mode(e)); err != nil {
		return err
	}
	return f.stamp(e)
}

// fill writes the content of a file.
func (u *unpacker) fill(f *os.File, e *entry) error {
	if e.sparse {
		return u.fillSparse(f, e)
	}
	// Hidden, so that the buffer is ours and large.
	dst, src := struct{ io.Writer }{f}, struct{ io.Reader }{u.tar}
	n, err := io.CopyBuffer(dst, src, u.buf)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the archive breaks off after %d of its %d bytes: %w", n, e.Size, err)
	}
	return err
}

func (u *unpacker) makeSymlink(e *entry, in *level, name, at string) error {
	if len(e.Linkname) > maxName || e.Linkname == "" {
		return fmt.Errorf("a link to a name of %d bytes, 1 to %d expected", len(e.Linkname), maxName)
	}
	u.forget(at)
	return replace(in.root, name, func(name string) error {
		err := in.root.Symlink(e.Linkname, name)
		if err != nil {
			return err
		}
		if err := u.dress(in, name, e, fs.ModeSymlink); err != nil {
			in.root.Remove(name)
			return err
		}
		return nil
	})
}

// makeLink makes another name of a file that came before.
func (u *unpacker) makeLink(e *entry, in *level, name, at string) error {
	first, err := clean(e.Linkname)
	if err == nil {
		first, err = u.place(first)
	}
	if err != nil {
		return err
	}
	if _, ok := u.files[u.hash(first)]; !ok {
		return fmt.Errorf("a hard link to %s, which is no file that came before it", quote(e.Linkname))
	}
	err = replace(in.root, name, func(name string) error {
		return u.root.Link(first, path.Join(path.Dir(at), name))
	})
	if err == nil {
		u.remember(at)
	}
	return err
}

func (u *unpacker) makeFolder(e *entry, in *level, name, at string) error {
	if len(u.folders) >= maxFolders {
		return fmt.Errorf("more than %d folders", maxFolders)
	}
	switch err := in.root.Mkdir(name, 0o700); {
	case err == nil:
	case !errors.Is(err, fs.ErrExist):
		return err
	default:
		if err := isFolder(in.root, name); err != nil {
			return err
		}
	}
	return u.hold(e, in, name, at)
}

// hold remembers what a folder gets when it is filled: a list that says what its
// files inherit is not for those of the archive. Other attributes it gets now.
func (u *unpacker) hold(e *entry, in *level, name, at string) error {
	first := slices.IndexFunc(e.attrs, func(a attr) bool { return isACL(a.name) })
	now, later := e.attrs, []attr(nil)
	if first >= 0 {
		now, later = e.attrs[:first], slices.Clone(e.attrs[first:])
	}
	for _, a := range later {
		u.held += len(a.value)
	}
	if u.held > maxHeld {
		return fmt.Errorf("access lists of folders of more than %d bytes", maxHeld)
	}
	e.attrs = later
	u.folders = append(u.folders, folder{at: at, entry: e})
	if len(now) == 0 {
		return nil
	}
	f, err := in.openFolder(name)
	if err != nil {
		return err
	}
	defer f.Close()
	u.setAttrs(f, e, now)
	return nil
}
