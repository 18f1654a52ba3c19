package workspace

import (
	"container/list"
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// maxOpen is how many regular files are kept open between calls.
const maxOpen = 128

// files keeps regular files open for the calls to come: a file may lose the
// rights that it was made with, as those of git do, and is written all the
// same by who has it open.
type files struct {
	mu   sync.Mutex // guards the fields below
	byID map[nodeID]*file
	used *list.List // of *file, the last used one first
}

// file is an open regular file.
type file struct {
	id       nodeID
	fd       fd
	writable bool
	users    int
	place    *list.Element // nil when it is to be closed by its last user

	// order serializes the writers of a file, so that what a reply tells of
	// before and after belongs to one call.
	order sync.Mutex
}

func newFiles() *files { return &files{byID: map[nodeID]*file{}, used: list.New()} }

// get returns an open file to release, nil if it is not open as wanted.
func (c *files) get(id nodeID, write bool) *file {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.byID[id]
	if f == nil || write && !f.writable {
		return nil
	}
	c.used.MoveToFront(f.place)
	f.users++
	return f
}

// put takes possession of a descriptor and returns its file, to release.
func (c *files) put(id nodeID, f fd, writable bool) *file {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.byID[id]; old != nil {
		c.drop(old)
	}
	fresh := &file{id: id, fd: f, writable: writable, users: 1}
	fresh.place = c.used.PushFront(fresh)
	c.byID[id] = fresh
	if c.used.Len() > maxOpen {
		c.drop(c.used.Back().Value.(*file))
	}
	return fresh
}

func (c *files) release(f *file) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.users--; f.users == 0 && f.place == nil {
		f.fd.close()
	}
}

// forget closes a file that is gone from the guest's view.
func (c *files) forget(id nodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.byID[id]; f != nil {
		c.drop(f)
	}
}

// drop needs the lock.
func (c *files) drop(f *file) {
	delete(c.byID, f.id)
	c.used.Remove(f.place)
	f.place = nil
	if f.users == 0 {
		f.fd.close()
	}
}

// close closes all files that nobody uses any more.
func (c *files) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.byID {
		c.drop(f)
	}
}

// content opens a regular file for reading, or for both, to be released. The
// owner of a file may do both whatever its mode says, as where the file was
// opened before the mode was set.
func (s *Server) content(handle []byte, write bool) (*file, error) {
	n, err := s.table.find(handle)
	switch {
	case err != nil:
		return nil, err
	case n.kind == unix.S_IFDIR:
		return nil, unix.EISDIR
	case n.kind != unix.S_IFREG:
		return nil, unix.EINVAL
	}
	if f := s.files.get(n.id, write); f != nil {
		return f, nil
	}
	for _, how := range []struct {
		flags    int
		writable bool
	}{{unix.O_RDWR, true}, {unix.O_RDONLY, false}} {
		if write && !how.writable {
			continue
		}
		a, err := s.openFor(handle, how.flags|unix.O_NONBLOCK)
		if err == nil {
			return s.files.put(n.id, a.fd, how.writable), nil
		}
		if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ETXTBSY) {
			return nil, err
		}
	}
	return s.override(handle, n.id)
}

// override opens a file whose mode forbids it to its owner.
func (s *Server) override(handle []byte, id nodeID) (*file, error) {
	a, err := s.open(handle)
	if err != nil {
		return nil, err
	}
	defer a.close()
	if a.st.Uid != s.uid {
		return nil, unix.EACCES
	}
	mode := uint32(a.st.Mode) & 0o7777
	if err := unix.Chmod(a.fd.path(), mode|0o600); err != nil {
		return nil, err
	}
	f, err := unix.Open(a.fd.path(), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if back := unix.Chmod(a.fd.path(), mode); err == nil && back != nil {
		unix.Close(f)
		err = back
	}
	if err != nil {
		return nil, err
	}
	return s.files.put(id, fd(f), true), nil
}
