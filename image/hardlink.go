package image

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path"
	"slices"
)

// go-erofs writes one inode for each name, so hard links are joined after it:
// the directory entry of each further name is made to point to the inode of
// the first, and the empty inode that stood for it is left to nobody. The
// offsets are those of the EROFS on-disk format.
const (
	superOffset   = 1024
	superInodes   = superOffset + 16 // u64
	superMeta     = superOffset + 40 // u32, in blocks
	blockSize     = 4096
	nidSize       = 32
	direntSize    = 12
	layoutPlain   = 0
	layoutInline  = 2
	maxDirectory  = 1 << 30
	extendedInode = 64
	compactInode  = 32
)

// linker joins the hard links of one EROFS image.
type linker struct {
	f    *os.File
	meta int64
	nids map[*inode]uint64 // of the inodes with several names
}

// dirent is where an entry of a directory lies and what it points to.
type dirent struct {
	nid uint64
	off int64
}

// patchLinks makes the names of each inode below root point to one inode.
func patchLinks(f *os.File, root *inode, aliases int) error {
	if aliases == 0 {
		return nil
	}
	var super [48]byte
	if _, err := f.ReadAt(super[:], superOffset); err != nil {
		return err
	}
	l := &linker{f: f, nids: map[*inode]uint64{}}
	l.meta = int64(binary.LittleEndian.Uint32(super[superMeta-superOffset:])) * blockSize
	if err := l.join(root, uint64(binary.LittleEndian.Uint16(super[14:])), "."); err != nil {
		return err
	}
	inodes := binary.LittleEndian.Uint64(super[superInodes-superOffset:])
	return l.putUint64(superInodes, inodes-uint64(aliases))
}

// join walks the directory in the order of link, so that it meets the first
// name of an inode before the others.
func (l *linker) join(dir *inode, nid uint64, at string) error {
	entries, err := l.entries(nid)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	for _, name := range slices.Sorted(maps.Keys(dir.children)) {
		n := dir.children[name].inode
		d, ok := entries[name]
		if !ok {
			return fmt.Errorf("%s: %q is missing", at, name)
		}
		switch {
		case n.mode.IsDir():
			err = l.join(n, d.nid, path.Join(at, name))
		case n.nlink == 1:
		case n.first == path.Join(at, name):
			l.nids[n] = d.nid
		default:
			err = l.putUint64(d.off, l.nids[n])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entries reads the directory with the number nid.
func (l *linker) entries(nid uint64) (map[string]dirent, error) {
	off, size, err := l.content(nid)
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if _, err := l.f.ReadAt(data, off); err != nil {
		return nil, err
	}
	entries := map[string]dirent{}
	for start := 0; start < len(data); start += blockSize {
		block := data[start:min(start+blockSize, len(data))]
		if err := parseBlock(block, off+int64(start), entries); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// content tells where the content of a directory lies.
func (l *linker) content(nid uint64) (off, size int64, err error) {
	at := l.meta + int64(nid)*nidSize
	var b [extendedInode]byte
	if _, err := l.f.ReadAt(b[:compactInode], at); err != nil {
		return 0, 0, err
	}
	format := binary.LittleEndian.Uint16(b[0:])
	size, core := int64(binary.LittleEndian.Uint32(b[8:])), int64(compactInode)
	if format&1 != 0 {
		size, core = int64(binary.LittleEndian.Uint64(b[8:])), extendedInode
	}
	if size < 0 || size > maxDirectory {
		return 0, 0, fmt.Errorf("directory of %d bytes", size)
	}
	switch format >> 1 & 7 {
	case layoutPlain:
		return int64(binary.LittleEndian.Uint32(b[16:])) * blockSize, size, nil
	case layoutInline:
		if count := int64(binary.LittleEndian.Uint16(b[2:])); count > 0 {
			core += 12 + 4*(count-1) // extended attributes
		}
		return at + core, size, nil
	default:
		return 0, 0, fmt.Errorf("directory of unknown layout %#x", format)
	}
}

// parseBlock adds the entries of one block of a directory, which lies at off.
func parseBlock(b []byte, off int64, entries map[string]dirent) error {
	if len(b) < direntSize {
		return io.ErrUnexpectedEOF
	}
	count := int(binary.LittleEndian.Uint16(b[8:])) / direntSize
	if count == 0 || count*direntSize > len(b) {
		return fmt.Errorf("block with %d entries", count)
	}
	for i := range count {
		d := b[i*direntSize:]
		from, to := int(binary.LittleEndian.Uint16(d[8:])), len(b)
		if i+1 < count {
			to = int(binary.LittleEndian.Uint16(d[direntSize+8:]))
		}
		if from > to || to > len(b) {
			return fmt.Errorf("entry %d of a block is damaged", i)
		}
		name := b[from:to]
		if end := slices.Index(name, 0); end >= 0 {
			name = name[:end] // the last name of a block ends with it or with a NUL
		}
		entries[string(name)] = dirent{nid: binary.LittleEndian.Uint64(d), off: off + int64(i*direntSize)}
	}
	return nil
}

func (l *linker) putUint64(off int64, v uint64) error {
	if v == math.MaxUint64 {
		return fmt.Errorf("inode number %d", v)
	}
	_, err := l.f.WriteAt(binary.LittleEndian.AppendUint64(nil, v), off)
	return err
}
