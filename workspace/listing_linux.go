package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// entry is a name in a directory. Its cookie depends on the name alone, so
// that a listing goes on where it was whatever was removed meanwhile, and
// whichever server began it.
type entry struct {
	cookie uint64
	ino    uint64
	name   string
}

// Cookies of the entries that every directory has.
const (
	cookieSelf = iota + 1
	cookieParent
	firstCookie
)

func (t *table) cookie(name string) uint64 {
	sum := sha256.Sum256(append(t.tag[:len(t.tag):len(t.tag)], name...))
	return max(binary.BigEndian.Uint64(sum[:])>>1, firstCookie)
}

// listings remembers the directories that are being listed.
type listings struct {
	mu   sync.Mutex // guards the field below
	last []listed
}

type listed struct {
	id      nodeID
	entries []entry
}

// maxListings is how many directories are remembered.
const maxListings = 4

func (l *listings) get(id nodeID) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.last {
		if d.id == id {
			return d.entries
		}
	}
	return nil
}

func (l *listings) put(id nodeID, entries []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = slices.DeleteFunc(l.last, func(d listed) bool { return d.id == id })
	if len(l.last) == maxListings {
		l.last = l.last[1:]
	}
	l.last = append(l.last, listed{id, entries})
}

// entries are those of a directory from a cookie on. A listing that goes on
// may use what its beginning has read.
func (s *Server) entries(dir *at, cookie uint64) ([]entry, error) {
	var all []entry
	if cookie != 0 {
		all = s.listings.get(dir.id)
	}
	if all == nil {
		var err error
		if all, err = s.readNames(dir); err != nil {
			return nil, err
		}
		s.listings.put(dir.id, all)
	}
	i, _ := slices.BinarySearchFunc(all, cookie, func(e entry, c uint64) int {
		if e.cookie <= c {
			return -1
		}
		return 1
	})
	return all[i:], nil
}

func (s *Server) readNames(dir *at) ([]entry, error) {
	up := dir.key.Ino
	if parent, ok := s.table.parent(dir.id); ok {
		up = parent.key.Ino
	}
	all := []entry{{cookieSelf, dir.key.Ino, "."}, {cookieParent, up, ".."}}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.ReadDirent(int(dir.fd), buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		all = s.parseNames(buf[:n], all)
	}
	slices.SortFunc(all, func(a, b entry) int {
		if a.cookie < b.cookie {
			return -1
		}
		return 1
	})
	return all, nil
}

// Layout of a struct linux_dirent64.
const (
	direntLength = 16
	direntName   = 19
)

func (s *Server) parseNames(b []byte, all []entry) []entry {
	for len(b) > direntName {
		size := int(binary.NativeEndian.Uint16(b[direntLength:]))
		ino, name := binary.NativeEndian.Uint64(b), b[direntName:size]
		b = b[size:]
		if end := slices.Index(name, 0); end >= 0 {
			name = name[:end]
		}
		if text := string(name); text != "." && text != ".." {
			all = append(all, entry{s.table.cookie(text), ino, text})
		}
	}
	return all
}

// openListing opens a directory to list it.
func (s *Server) openListing(handle []byte) (*at, error) {
	dir, err := s.openFor(handle, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOTDIR {
		return nil, unix.ENOTDIR
	}
	return dir, err
}

// Sizes of replies without names: of an entry, and of all else.
const (
	entrySize     = 8 + 4 + 8 + 4
	entryPlusSize = entrySize + 4 + nfs3.Fattr3EncodedSizeBytes + 4 + 4 + 16
	listingHead   = 256
)

// fit returns as many entries as there is room for, and whether there are
// more.
func fit(all []entry, room, each int) (some []entry, more bool) {
	for i, e := range all {
		if room -= each + len(e.name) + 3; room < 0 {
			return all[:i], true
		}
	}
	return all, false
}

// NfsV3Nfsproc3Readdir lists names.
func (p *procedures) NfsV3Nfsproc3Readdir(_ context.Context, r *nfs3.Readdir3args) (nfs3.Readdir3res, error) {
	refuse := func(err error) (nfs3.Readdir3res, error) {
		return &nfs3.Readdir3res_default{Status: statusOf(err), Resfail: nfs3.Readdir3resfail{DirAttributes: noAttr}}, nil
	}
	dir, err := p.openListing(r.Dir.Data)
	if err != nil {
		return refuse(err)
	}
	defer dir.close()
	all, err := p.entries(dir, r.Cookie)
	if err != nil {
		return refuse(err)
	}
	some, more := fit(all, int(min(r.Count, listing))-listingHead, entrySize)
	if len(some) == 0 && more {
		return refuse(errTooSmall)
	}
	var list *nfs3.Entry3
	for _, e := range slices.Backward(some) {
		list = &nfs3.Entry3{Fileid: e.ino, Name: []byte(e.name), Cookie: e.cookie, Nextentry: list}
	}
	return &nfs3.Readdir3res_NFS3_OK{Resok: nfs3.Readdir3resok{
		DirAttributes: p.after(dir.fd), Reply: nfs3.Dirlist3{Entries: list, Eof: !more},
	}}, nil
}

// NfsV3Nfsproc3Readdirplus lists names with what they are names of.
func (p *procedures) NfsV3Nfsproc3Readdirplus(_ context.Context, r *nfs3.Readdirplus3args) (nfs3.Readdirplus3res, error) {
	refuse := func(err error) (nfs3.Readdirplus3res, error) {
		return &nfs3.Readdirplus3res_default{Status: statusOf(err), Resfail: nfs3.Readdirplus3resfail{DirAttributes: noAttr}}, nil
	}
	p.names.RLock()
	defer p.names.RUnlock()
	dir, err := p.openListing(r.Dir.Data)
	if err != nil {
		return refuse(err)
	}
	defer dir.close()
	all, err := p.entries(dir, r.Cookie)
	if err != nil {
		return refuse(err)
	}
	some, more := fit(all, int(min(r.Maxcount, listing))-listingHead, entryPlusSize)
	if len(some) == 0 && more {
		return refuse(errTooSmall)
	}
	list, err := p.plus(dir, some)
	if err != nil {
		return refuse(err)
	}
	return &nfs3.Readdirplus3res_NFS3_OK{Resok: nfs3.Readdirplus3resok{
		DirAttributes: p.after(dir.fd), Reply: nfs3.Dirlistplus3{Entries: list, Eof: !more},
	}}, nil
}

// plus looks at each entry. One that has gone meanwhile, and one that is not
// ours to show, is told by its name alone.
func (p *procedures) plus(dir *at, some []entry) (*nfs3.Entryplus3, error) {
	out := make([]nfs3.Entryplus3, len(some))
	var found []seen
	var of []int
	for i, e := range some {
		out[i] = nfs3.Entryplus3{
			Fileid: e.ino, Name: []byte(e.name), Cookie: e.cookie,
			NameAttributes: noAttr, NameHandle: &nfs3.PostOpFh3_FALSE{},
		}
		if i > 0 {
			out[i-1].Nextentry = &out[i]
		}
		if e.cookie < firstCookie {
			continue
		}
		st, err := statAt(dir.fd, e.name)
		if err != nil || st.Mnt_id != p.mount {
			continue
		}
		out[i].Fileid, out[i].NameAttributes = st.Ino, p.post(&st)
		found, of = append(found, seen{place{dir.id, e.name}, keyOf(&st), kindOf(&st)}), append(of, i)
	}
	ids, err := p.table.learn(found...)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	for k, i := range of {
		out[i].NameHandle = p.postHandle(ids[k])
	}
	return &out[0], nil
}
