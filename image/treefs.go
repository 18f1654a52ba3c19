package image

import (
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/erofs/go-erofs"
)

// link counts the names of each inode below dir and remembers the first. It
// returns how many names are not the first.
func link(dir *inode, at string) (aliases int) {
	dir.nlink, dir.first = 2, at
	for _, name := range slices.Sorted(maps.Keys(dir.children)) {
		n, full := dir.children[name].inode, path.Join(at, name)
		switch {
		case n.mode.IsDir():
			dir.nlink++
			aliases += link(n, full)
		case n.nlink == 0:
			n.nlink, n.first = 1, full
		default:
			n.nlink++
			aliases++
		}
	}
	return aliases
}

// treeFS shows a linked tree to go-erofs. A further name of an inode is shown
// as an empty file of its own, which patchLinks replaces.
type treeFS struct {
	root  *inode
	spool *spool
}

func (t treeFS) find(name string) (*inode, error) {
	n := t.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		e := n.children[part]
		if e == nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		n = e.inode
	}
	return n, nil
}

func (t treeFS) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find(name)
	return fileInfo{n, name}, err
}

func (t treeFS) Open(name string) (fs.File, error) {
	n, err := t.find(name)
	if err != nil {
		return nil, err
	}
	return file{t.spool.open(n.off, n.size), fileInfo{n, name}}, nil
}

func (t treeFS) ReadLink(name string) (string, error) {
	n, err := t.find(name)
	if err != nil {
		return "", err
	}
	return n.target, nil
}

func (t treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.find(name)
	if err != nil {
		return nil, err
	}
	entries := make([]fs.DirEntry, 0, len(n.children))
	for _, child := range slices.Sorted(maps.Keys(n.children)) {
		entries = append(entries, fs.FileInfoToDirEntry(fileInfo{n.children[child].inode, path.Join(name, child)}))
	}
	return entries, nil
}

// file is an open regular file of the tree.
type file struct {
	io.Reader
	info fileInfo
}

func (f file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f file) Close() error               { return nil }

// fileInfo describes an inode under one of its names.
type fileInfo struct {
	*inode
	path string
}

// alias tells whether the inode has an earlier name.
func (i fileInfo) alias() bool { return !i.mode.IsDir() && i.first != i.path }

func (i fileInfo) Name() string       { return path.Base(i.path) }
func (i fileInfo) Mode() fs.FileMode  { return i.mode }
func (i fileInfo) ModTime() time.Time { return i.mtime }
func (i fileInfo) IsDir() bool        { return i.mode.IsDir() }

func (i fileInfo) Size() int64 {
	if i.alias() {
		return 0
	}
	return i.size
}

func (i fileInfo) Sys() any {
	if i.alias() {
		return &erofs.Stat{Rdev: i.rdev, Nlink: 1}
	}
	return &erofs.Stat{
		UID: i.uid, GID: i.gid, Rdev: i.rdev, Nlink: i.nlink, Xattrs: i.xattrs,
		Mtime: uint64(i.mtime.Unix()), MtimeNs: uint32(i.mtime.Nanosecond()),
	}
}
