package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
)

// How a layer says that something of the layers below is gone.
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// apply merges a layer's tar stream into the tree and its files' contents
// into the spool.
func (t *tree) apply(r io.Reader, layer int, sp *spool) error {
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return unreadable("its tar stream", err)
		}
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := t.entry(hdr, tr, layer, sp); err != nil {
			return unreadable(fmt.Sprintf("entry %.200q", hdr.Name), err)
		}
	}
}

// entry merges one entry of a layer.
func (t *tree) entry(hdr *tar.Header, content io.Reader, layer int, sp *spool) error {
	parts, err := split(hdr.Name)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return t.setRoot(hdr)
	}
	dir, name := parts[:len(parts)-1], parts[len(parts)-1]
	if strings.HasPrefix(name, whiteoutPrefix) {
		return t.hide(dir, name, layer)
	}
	if hdr.Typeflag == tar.TypeLink {
		return t.hardLink(hdr, dir, name, layer)
	}
	n, err := newInode(hdr)
	if err != nil {
		return err
	}
	p, err := t.walk(dir, layer)
	if err != nil {
		return err
	}
	if n.mode.IsDir() {
		n.children = map[string]*entry{}
		if old := p.children[name]; old != nil && old.mode.IsDir() {
			n.children, n.cleared = old.children, old.cleared
		}
	}
	if n.mode.IsRegular() {
		if n.off, n.size, err = sp.put(content, hdr.Size); err != nil {
			return err
		}
	}
	return t.add(p, name, &entry{n, layer})
}

// setRoot gives the root directory the owner and mode of the entry "./".
func (t *tree) setRoot(hdr *tar.Header) error {
	n, err := newInode(hdr)
	if err != nil {
		return err
	}
	if !n.mode.IsDir() {
		return broken("is the root, but no directory")
	}
	n.children, n.cleared = t.root.children, t.root.cleared
	t.root = n
	return nil
}

// hide carries out a whiteout.
func (t *tree) hide(dir []string, name string, layer int) error {
	if err := t.count(); err != nil {
		return err
	}
	p, err := t.walk(dir, -1)
	if err != nil || p == nil {
		return err
	}
	if name == whiteoutOpaque {
		opaque(p.inode, layer)
		return nil
	}
	if strings.HasPrefix(name, whiteoutMeta) {
		return nil // of aufs, not of the image
	}
	switch hidden := strings.TrimPrefix(name, whiteoutPrefix); hidden {
	case "", ".", "..":
		return broken("is a whiteout of nothing")
	default:
		whiteout(p, hidden, layer)
		return nil
	}
}

// hardLink gives a file of the image another name.
func (t *tree) hardLink(hdr *tar.Header, dir []string, name string, layer int) error {
	to, err := split(hdr.Linkname)
	if err != nil {
		return fmt.Errorf("its link target %.200q %w", hdr.Linkname, err)
	}
	if len(to) == 0 {
		return broken("is a hard link to the root")
	}
	from, err := t.walk(to[:len(to)-1], -1)
	if err != nil {
		return err
	}
	var old *entry
	if from != nil {
		old = from.children[to[len(to)-1]]
	}
	if old == nil || old.mode.IsDir() {
		return broken("is a hard link to %.200q, which is no file of the image", hdr.Linkname)
	}
	p, err := t.walk(dir, layer)
	if err != nil {
		return err
	}
	return t.add(p, name, &entry{old.inode, layer})
}

// newInode makes an inode of what a tar header says.
func newInode(hdr *tar.Header) (*inode, error) {
	typ, err := fileType(hdr)
	if err != nil {
		return nil, err
	}
	for _, id := range []int{hdr.Uid, hdr.Gid} {
		if id < 0 || int64(id) >= math.MaxUint32 {
			return nil, broken("has the owner %d:%d: ids lie between 0 and %d", hdr.Uid, hdr.Gid, uint32(math.MaxUint32-1))
		}
	}
	n := &inode{
		mode: typ | fs.FileMode(hdr.Mode&0o777), uid: uint32(hdr.Uid), gid: uint32(hdr.Gid),
		mtime: hdr.ModTime, target: hdr.Linkname,
	}
	for bit, mode := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if hdr.Mode&bit != 0 {
			n.mode |= mode
		}
	}
	if typ&fs.ModeDevice != 0 {
		if n.rdev, err = deviceNumber(hdr.Devmajor, hdr.Devminor); err != nil {
			return nil, err
		}
	}
	if typ != fs.ModeSymlink {
		n.target = ""
	} else if l := len(n.target); l == 0 || l > maxPath || strings.IndexByte(n.target, 0) >= 0 {
		return nil, broken("is a symbolic link to a path of %d bytes: expected 1 to %d without NUL", l, maxPath)
	}
	n.xattrs, err = xattrs(hdr.PAXRecords)
	return n, err
}

func fileType(hdr *tar.Header) (fs.FileMode, error) {
	switch hdr.Typeflag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		return 0, nil
	case tar.TypeDir:
		return fs.ModeDir, nil
	case tar.TypeSymlink:
		return fs.ModeSymlink, nil
	case tar.TypeChar:
		return fs.ModeDevice | fs.ModeCharDevice, nil
	case tar.TypeBlock:
		return fs.ModeDevice, nil
	case tar.TypeFifo:
		return fs.ModeNamedPipe, nil
	default:
		return 0, broken("has the type %q, which an image cannot hold", hdr.Typeflag)
	}
}

// deviceNumber encodes a device as Linux does in file systems.
func deviceNumber(major, minor int64) (uint32, error) {
	if major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff {
		return 0, broken("is device %d:%d: numbers go up to 4095:1048575", major, minor)
	}
	return uint32(minor&0xff | major<<8 | (minor&^0xff)<<12), nil
}

const (
	paxXattr  = "SCHILY.xattr."
	maxXattrs = 60 << 10 // bytes of all attributes of a file
)

// xattrs keeps the extended attributes that Linux file systems hold. Those of
// overlayfs are dropped: they would steer the guest's overlay.
func xattrs(pax map[string]string) (map[string]string, error) {
	var attrs map[string]string
	size := 0
	for record, value := range pax {
		name, ok := strings.CutPrefix(record, paxXattr)
		if !ok || value == "" { // an empty record takes one back
			continue
		}
		name, ok = attribute(name)
		if !ok {
			continue
		}
		if size += len(name) + len(value) + 8; len(name) > maxName || size > maxXattrs {
			return nil, beyond("has more than %d bytes of extended attributes", maxXattrs)
		}
		if attrs == nil {
			attrs = map[string]string{}
		}
		attrs[name] = value
	}
	return attrs, nil
}

// attribute is the name under which the disk holds an attribute.
func attribute(name string) (string, bool) {
	switch {
	case strings.HasPrefix(name, "trusted.overlay."), strings.HasPrefix(name, "user.overlay."):
		return "", false
	case name == "system.posix_acl_access", name == "system.posix_acl_default":
		return name + ".", true // go-erofs knows these two with a dot
	}
	namespace, rest, _ := strings.Cut(name, ".")
	return name, rest != "" && (namespace == "user" || namespace == "trusted" || namespace == "security")
}
