package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Source is a file or folder to be packed.
type Source struct {
	root *os.Root
	name string // in root; "." for root itself
	as   string // in the archive; "." for the contents of a folder
}

// Find finds what is at path below root, whose symbolic links it cannot leave.
// A last one is what is found, unless follow, or a slash after it, says that
// what it leads to is. A path that ends in "/." means the contents of a
// folder.
func Find(root, path string, follow bool) (*Source, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	as, folder := Base(path), namesFolder(path)
	real, err := resolve(root, path, follow || folder)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(real)
	switch {
	case err != nil:
		return nil, told(path, err)
	case info.IsDir():
		dir, err := os.OpenRoot(real)
		return &Source{root: dir, name: ".", as: as}, told(path, err)
	case folder:
		return nil, told(path, syscall.ENOTDIR)
	}
	dir, err := os.OpenRoot(filepath.Dir(real))
	return &Source{root: dir, name: filepath.Base(real), as: as}, told(path, err)
}

// Close gives up what Find has opened.
func (s *Source) Close() { s.root.Close() }

// Base is the name in an archive of what is found at path: "." where it is
// the contents of a folder.
func Base(path string) string {
	last := path[strings.LastIndex(path, "/")+1:]
	if last == "." || last == ".." {
		return "."
	}
	base := filepath.Base(path)
	if base == "/" || base == ".." {
		return "."
	}
	return base
}

// namesFolder tells whether a path can only be that of a folder.
func namesFolder(path string) bool {
	last := path[strings.LastIndex(path, "/")+1:]
	return last == "" || last == "." || last == ".."
}

// checkPath refuses what no file can be at.
func checkPath(path string) error {
	if path == "" || len(path) > maxName || strings.ContainsRune(path, 0) {
		return fmt.Errorf("%w: path %s: 1 to %d bytes without a NUL expected", ErrInvalid, quote(path), maxName)
	}
	return nil
}

// resolve is the place of path below root, with no symbolic link in it but
// the last one, unless last says so.
func resolve(root, path string, last bool) (string, error) {
	dir, base := filepath.Split(path)
	if last || base == "" {
		dir, base = path, ""
	}
	real, err := follow(root, dir)
	if err != nil {
		return "", told(path, err)
	}
	return filepath.Join(root, real, base), nil
}

// maxLinks is how many symbolic links a path may lead through, as in the
// kernel.
const maxLinks = 40

// follow resolves the symbolic links of path as if root were "/", so that
// neither they nor ".." leave it. What is not there has no links.
func follow(root, path string) (string, error) {
	at, links := "/", 0
	for part, rest := "", path; rest != ""; {
		part, rest, _ = strings.Cut(rest, "/")
		next := filepath.Join(at, part) // "" and "." stay, ".." goes up but not out
		info, err := os.Lstat(filepath.Join(root, next))
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		case err != nil:
			return "", err
		case info.Mode().Type() == fs.ModeSymlink:
			to, err := os.Readlink(filepath.Join(root, next))
			if err != nil {
				return "", err
			}
			if links++; links > maxLinks {
				return "", syscall.ELOOP
			}
			if next = at; filepath.IsAbs(to) {
				next = "/"
			}
			rest = to + "/" + rest
		}
		at = next
	}
	return at, nil
}

// told says that err is about path, rather than about where that lies.
func told(path string, err error) error {
	if e, ok := err.(*fs.PathError); ok {
		err = e.Err
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", quote(path), err)
}
