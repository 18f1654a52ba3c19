package workspace

import (
	"errors"

	"golang.org/x/sys/unix"
)

// at is an open node.
type at struct {
	node
	fd fd
	st unix.Statx_t
}

func (a *at) close() { a.fd.close() }

// open opens the node of a handle without access to its content.
func (s *Server) open(handle []byte) (*at, error) { return s.openFor(handle, unix.O_PATH) }

// openFor opens the node of a handle where it was last seen, if it is still
// there; one that is elsewhere is stale.
func (s *Server) openFor(handle []byte, flags int) (*at, error) {
	n, err := s.table.find(handle)
	if err != nil {
		return nil, err
	}
	if n.id == rootID {
		return s.openAt(n, nil, flags)
	}
	for _, p := range n.places {
		names, ok := s.table.way(p)
		if !ok {
			continue
		}
		a, err := s.openAt(n, names, flags)
		if err == nil || !elsewhere(err) {
			return a, err
		}
	}
	return nil, errStale
}

// elsewhere tells whether an error means that a file is not where it was.
func elsewhere(err error) bool {
	for _, e := range []error{errStale, unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Server) openAt(n node, names []string, flags int) (*at, error) {
	f, err := s.tree.open(names, flags)
	if err != nil {
		return nil, err
	}
	st, err := stat(f)
	if err == nil && keyOf(&st) != n.key {
		err = errStale
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return &at{node: n, fd: f, st: st}, nil
}

// openDir opens a directory of which a name is asked.
func (s *Server) openDir(handle []byte) (*at, error) {
	a, err := s.open(handle)
	if err == nil && a.kind != unix.S_IFDIR {
		a.close()
		return nil, unix.ENOTDIR
	}
	return a, err
}

// child makes the node of a name in a directory known.
func (s *Server) child(dir *at, name string) (nodeID, unix.Statx_t, error) {
	st, err := statAt(dir.fd, name)
	if err != nil {
		return 0, st, err
	}
	if st.Mnt_id != s.mount {
		return 0, st, unix.EXDEV
	}
	ids, err := s.table.learn(seen{place{dir.id, name}, keyOf(&st), kindOf(&st)})
	return ids[0], st, err
}
