package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Target is where an archive is to be unpacked, as cp -r has it: into the
// folder that is there, over the file that is there, or under a new name.
type Target struct {
	root *os.Root
	// name is what the archive's item becomes in root; "." says that root is
	// itself the folder that was named.
	name string
	path string // as it was given
	file bool   // there is a file
	// folder says that the path can only be a folder's.
	folder bool
}

// To finds the target at path below root, whose symbolic links it cannot
// leave; they are followed. What is above the last name must be there.
func To(root, path string) (*Target, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	real, err := resolve(root, path, true)
	if err != nil {
		return nil, err
	}
	t := &Target{path: path, name: filepath.Base(real), folder: namesFolder(path)}
	info, err := os.Stat(real)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, told(path, err)
	case info.IsDir():
		t.name = "."
		t.root, err = os.OpenRoot(real)
		return t, told(path, err)
	case t.folder:
		return nil, told(path, syscall.ENOTDIR)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is neither a file nor a folder", ErrInvalid, quote(path))
	default:
		t.file = true
	}
	if t.root, err = os.OpenRoot(filepath.Dir(real)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: the folder above it: %w", quote(path), syscall.ENOENT)
	}
	return t, told(path, err)
}

// Close gives up what To has opened.
func (t *Target) Close() { t.root.Close() }

// IsFolder tells whether the target is a folder that is there.
func (t *Target) IsFolder() bool { return t.name == "." }

// Receive unpacks the archive of one item called as; an empty name takes that
// of the first entry. An Incomplete error says that something was left out on
// purpose.
func (t *Target) Receive(r io.Reader, as string, o Options) error {
	in := newReader(r)
	first, err := in.peek()
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the archive is empty")
	case err != nil:
		return err
	case as == "":
		as = first.name
	}
	name, err := t.fit(as, first.dir)
	if err != nil {
		return err
	}
	return in.unpack(t.root, as, name, o)
}

// Extract unpacks a whole archive into the target, which must be a folder.
func (t *Target) Extract(r io.Reader, o Options) error {
	if !t.IsFolder() {
		return told(t.path, syscall.ENOTDIR)
	}
	return newReader(r).unpack(t.root, ".", ".", o)
}

// fit chooses the name that an item gets.
func (t *Target) fit(as string, dir bool) (string, error) {
	switch {
	case t.IsFolder():
		return as, nil
	case t.file && dir:
		return "", fmt.Errorf("%s is a file: a folder cannot replace it", quote(t.path))
	case t.folder && !dir:
		return "", fmt.Errorf("%s: no such folder to put a file into: make it first, or leave out the slash", quote(t.path))
	default:
		return t.name, nil
	}
}
