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
)

// replace makes name in a folder. A file or link that is there already is
// replaced in one step, and stays where making fails; nothing else is.
func replace(in *os.Root, name string, make func(name string) error) error {
	switch info, err := in.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
		return make(name)
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("there is a folder, which no file replaces")
	case !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink:
		return errors.New("there is something that is neither a file nor a folder")
	}
	temp := temporary()
	if err := make(temp); err != nil {
		return err
	}
	err := in.Rename(temp, name)
	in.Remove(temp) // where both are links to one file, nothing was renamed
	return err
}

func temporary() string {
	b := make([]byte, 8)
	rand.Read(b)
	return ".aegis-cp-" + hex.EncodeToString(b)
}

func (u *unpacker) makeFile(e *entry, in *level, name, at string) error {
	err := replace(in.root, name, func(name string) error {
		f, err := in.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		err = u.fill(f, e)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err == nil {
			err = u.dress(in, name, e, u.mode(e))
		}
		if err != nil {
			in.root.Remove(name)
		}
		return err
	})
	if err == nil {
		u.remember(at)
	}
	return err
}

// fill writes the content of a file.
func (u *unpacker) fill(f *os.File, e *entry) error {
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
	u.folders = append(u.folders, folder{at: at, entry: e})
	return nil
}
