package files

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// Write replaces a file, or makes it, by data: as a whole or not at all.
func (f Folder) Write(path string, data io.ReaderAt) error {
	if err := check(path); err != nil {
		return err
	}
	name := filepath.Base(path)
	if name == "." || strings.HasSuffix(path, "/") {
		return refused(path, "expected the name of a file")
	}
	dir, err := f.makeAll(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	mode, err := replaceable(dir, name, path)
	if err != nil {
		return err
	}
	t, err := newTemp(dir, path)
	if err != nil {
		return err
	}
	defer t.discard()
	if err := t.fill(data, mode); err != nil {
		return err
	}
	return t.publish(name)
}

// makeAll opens a folder, and makes it with those on the way where there are
// none. Each path is resolved from the root, so that links on the way may lead
// up.
func (f Folder) makeAll(path string) (*os.File, error) {
	at, err := f.open(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil || path == "." {
		return at, err
	}
	parts := strings.Split(filepath.Clean(path), "/")
	for i, part := range parts {
		here := strings.Join(parts[:i+1], "/")
		next, err := f.open(here, unix.O_RDONLY|unix.O_DIRECTORY)
		if api.CodeOf(err) == api.NotFound {
			if err = unix.Mkdirat(int(at.Fd()), part, 0o755); err == nil || errors.Is(err, unix.EEXIST) {
				next, err = f.open(here, unix.O_RDONLY|unix.O_DIRECTORY)
			} else {
				err = explain(here, err)
			}
		}
		at.Close()
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// replaceable tells the mode of the file that will have the name: that of
// the file that it replaces.
func replaceable(dir *os.File, name, path string) (uint32, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	switch kind := st.Mode & unix.S_IFMT; {
	case errors.Is(err, unix.ENOENT):
		return 0o644, nil
	case err != nil:
		return 0, explain(path, err)
	case kind == unix.S_IFDIR:
		return 0, refused(path, "it is a folder: expected a file")
	case kind == unix.S_IFLNK:
		return 0, api.Errorf(api.Denied, "path %q: it is a symbolic link: name the file itself", path)
	case kind != unix.S_IFREG:
		return 0, refused(path, "it is no regular file")
	}
	return st.Mode & 0o777, nil
}

// temp is a file that has no name yet that anybody looks for.
type temp struct {
	*os.File
	dir        *os.File
	path, name string
	sum        hash.Hash
	size       int64
}

func newTemp(dir *os.File, path string) (*temp, error) {
	name := ".aegis-" + strings.ToLower(rand.Text()) + ".tmp"
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, explain(path, err)
	}
	return &temp{File: os.NewFile(uintptr(fd), name), dir: dir, path: path, name: name, sum: sha256.New()}, nil
}

// fill writes the data, up to the limit, and syncs it.
func (t *temp) fill(data io.ReaderAt, mode uint32) (err error) {
	t.size, err = io.Copy(io.MultiWriter(t, t.sum), io.NewSectionReader(data, 0, api.MaxFile+1))
	if t.size > api.MaxFile {
		return tooLarge(t.path)
	}
	if err == nil {
		err = unix.Fchmod(int(t.Fd()), mode)
	}
	if err == nil {
		err = t.Sync()
	}
	if err != nil {
		return explain(t.path, err)
	}
	return nil
}

// publish gives the file its name.
func (t *temp) publish(name string) error {
	if err := unix.Renameat(int(t.dir.Fd()), t.name, int(t.dir.Fd()), name); err != nil {
		return explain(t.path, err)
	}
	t.name = ""
	if err := t.dir.Sync(); err != nil {
		return explain(t.path, err)
	}
	return nil
}

// discard removes a file that was not published.
func (t *temp) discard() {
	if t.name != "" {
		unix.Unlinkat(int(t.dir.Fd()), t.name, 0)
	}
	t.Close()
}

// extensions are those of the images that are taken.
var extensions = map[string]string{"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}

// blobs is where blobs are.
const blobs = ".aegis/blobs"

// Put keeps an image under the name of its content.
func (f Folder) Put(mediaType string, data io.ReaderAt) (api.Blob, error) {
	if mediaType == "" {
		mediaType = "image/png"
	}
	ext, known := extensions[mediaType]
	if !known {
		return api.Blob{}, api.Errorf(api.InvalidArgument, "media type %.80q: expected image/png, image/jpeg, image/gif or image/webp", mediaType)
	}
	dir, err := f.makeAll(blobs)
	if err != nil {
		return api.Blob{}, err
	}
	defer dir.Close()
	t, err := newTemp(dir, blobs)
	if err != nil {
		return api.Blob{}, err
	}
	defer t.discard()
	if err := t.fill(data, 0o644); err != nil {
		return api.Blob{}, err
	}
	b := api.Blob{Blob: fmt.Sprintf("%s.%s", hex.EncodeToString(t.sum.Sum(nil)), ext), MediaType: mediaType, Size: t.size}
	return b, t.publish(b.Blob)
}
