package archive

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto/link"
)

// chunk is how much is moved at once: a few whole frames of a serial link.
const chunk = 4 * link.MaxWrite

// batch is how many names of a folder are held at once.
const batch = 4096

// Pack writes the archive of s. An Incomplete error says that the archive is
// whole but lacks something; sockets are left out in silence, as they mean
// nothing elsewhere. Another error is one of w.
func (s *Source) Pack(w io.Writer) error {
	p := newPacker(w)
	if err := p.pack(s.root, s.name, s.as, 0); err != nil {
		return err
	}
	return p.end()
}

func newPacker(w io.Writer) *packer {
	out := bufio.NewWriterSize(w, chunk)
	return &packer{out: out, tar: tar.NewWriter(out), buf: make([]byte, chunk), links: map[inode]*linked{}}
}

// end ends the archive.
func (p *packer) end() error {
	if err := p.tar.Close(); err != nil {
		return fmt.Errorf("ending the archive: %w", err)
	}
	if err := p.out.Flush(); err != nil {
		return err
	}
	return p.lost.err()
}

type packer struct {
	out   *bufio.Writer
	tar   *tar.Writer
	buf   []byte
	links map[inode]*linked
	lost  losses
}

// inode is a file that has several names, linked the first of those in the
// archive and how many are still to come.
type (
	inode  struct{ dev, ino uint64 }
	linked struct {
		name string
		left uint64
	}
)

// pack packs what is called name in dir.
func (p *packer) pack(dir *os.Root, name, as string, depth int) error {
	info, err := dir.Lstat(name)
	if err != nil {
		p.lose(as, err)
		return nil
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		return p.folder(dir, name, as, info, depth)
	case fs.ModeSocket:
		return nil
	case fs.ModeSymlink:
		to, err := dir.Readlink(name)
		if err != nil {
			p.lose(as, err)
			return nil
		}
		return p.header(as, info, to, nil)
	case 0:
		return p.file(dir, name, as, info)
	default: // devices and fifos: who unpacks decides
		return p.header(as, info, "", nil)
	}
}

func (p *packer) lose(as string, err error) { p.lost.add(told(as, err)) }

// header begins an entry. Owners are numbers: names would be looked up in
// files of who knows whom. Of what is open the attributes are packed as well.
func (p *packer) header(as string, info fs.FileInfo, to string, f *os.File) error {
	h, err := tar.FileInfoHeader(nameless{info}, to)
	if err != nil {
		p.lose(as, err)
		return nil
	}
	if f != nil {
		h.PAXRecords = p.attrRecords(f, as)
	}
	return p.write(h, as)
}

func (p *packer) write(h *tar.Header, as string) error {
	h.Name, h.Format = as, tar.FormatPAX // the format that has fractions of seconds
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	return p.tar.WriteHeader(h)
}

// nameless is a file whose owner has only a number.
type nameless struct{ fs.FileInfo }

func (nameless) Uname() (string, error) { return "", nil }
func (nameless) Gname() (string, error) { return "", nil }

// folder packs a folder and what is in it.
func (p *packer) folder(dir *os.Root, name, as string, info fs.FileInfo, depth int) error {
	if depth > maxDepth {
		p.lost.add(refuse(as, "more than %d folders deep", maxDepth))
		return nil
	}
	sub, err := dir.OpenRoot(name)
	if err != nil {
		p.lose(as, err)
		return nil
	}
	defer sub.Close()
	list, err := sub.Open(".")
	if err != nil {
		p.lose(as, err)
		return nil
	}
	defer list.Close()
	if err := p.header(as, info, "", list); err != nil {
		return err
	}
	if depth > 0 && pseudo(list) {
		return nil
	}
	for {
		names, err := list.Readdirnames(batch)
		slices.Sort(names)
		for _, n := range names {
			if err := p.pack(sub, n, path.Join(as, n), depth+1); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			p.lose(as, err)
			return nil
		}
	}
}

// file packs a regular file, or a link to it where it was packed already.
func (p *packer) file(dir *os.Root, name, as string, info fs.FileInfo) error {
	if first := p.known(info, as); first != "" {
		h, err := tar.FileInfoHeader(nameless{info}, "")
		if err != nil {
			p.lose(as, err)
			return nil
		}
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		return p.write(h, as)
	}
	// It may be another one by now, of another kind: a fifo must not hold us.
	f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		p.lose(as, err)
		return nil
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil || !os.SameFile(info, now) {
		p.lost.add(refuse(as, "it was replaced meanwhile"))
		return nil
	}
	if segments, sparse := dataOf(f, now); sparse {
		h, err := tar.FileInfoHeader(nameless{now}, "")
		if err != nil {
			p.lose(as, err)
			return nil
		}
		h.PAXRecords = p.attrRecords(f, as)
		return p.sparse(f, as, h, segments)
	}
	if err := p.header(as, now, "", f); err != nil {
		return err
	}
	if now.Size() > window {
		return p.content(p.tar, &ahead{file: f}, as, now.Size())
	}
	return p.content(p.tar, f, as, now.Size())
}

// known returns the name in the archive of a file with several, noting as if
// it is the first.
func (p *packer) known(info fs.FileInfo, as string) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink < 2 {
		return ""
	}
	id := inode{uint64(st.Dev), uint64(st.Ino)}
	l := p.links[id]
	if l == nil {
		p.links[id] = &linked{as, uint64(st.Nlink) - 1}
		return ""
	}
	if l.left--; l.left == 0 {
		delete(p.links, id)
	}
	return l.name
}

// content packs so many bytes of a file. Those that are not there (any more)
// are zeros, and are told.
func (p *packer) content(to io.Writer, f io.Reader, as string, size int64) error {
	if size >= chunk {
		if err := p.out.Flush(); err != nil { // so that none of them is copied once more
			return err
		}
	}
	for size > 0 {
		n, err := f.Read(p.buf[:min(size, chunk)])
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("it became %d bytes shorter meanwhile", size)
			}
			p.lose(as, err)
			return p.zeros(to, size)
		}
		if _, err := to.Write(p.buf[:n]); err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

func (p *packer) zeros(to io.Writer, n int64) error {
	clear(p.buf)
	for n > 0 {
		m, err := to.Write(p.buf[:min(n, chunk)])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}
