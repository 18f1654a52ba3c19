package workspace

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// A guest's kernel asks by ACCESS before it opens a file, and leaves it to the
// server to refuse what else its users may not do. Where this process has not
// the powers of root, all of a guest's users are one, the workspace's owner, and the host's
// kernel decides.

// bound tells whether a caller is one of several users, and not root.
func (s *Server) bound(c call) bool { return s.powerful && c.uid != 0 }

// mayChange refuses who may not make or take names in a directory.
func (s *Server) mayChange(c call, dir *at) error {
	const both = mayWrite | mayExecute
	if s.bound(c) && s.class(c, &dir.st)&both != both {
		return unix.EACCES
	}
	return nil
}

// mayTake refuses who may not take a name away: in a sticky directory it must
// be the caller's, or the directory be.
func (s *Server) mayTake(c call, dir *at, name string) error {
	if err := s.mayChange(c, dir); err != nil {
		return err
	}
	if !s.bound(c) || dir.st.Mode&unix.S_ISVTX == 0 || dir.st.Uid == c.uid {
		return nil
	}
	if st, err := statAt(dir.fd, name); err == nil && st.Uid != c.uid {
		return unix.EPERM
	}
	return nil
}

// mayMove refuses who may not take a name away from a directory and take a
// name's place in another.
func (c *change) mayMove(from, to *at, old, fresh string) error {
	if err := c.mayTake(c.id, from, old); err != nil {
		return err
	}
	return c.mayTake(c.id, to, fresh)
}

// maySet refuses attributes that are not the caller's to change.
func (s *Server) maySet(c call, a *at, to nfs3.Sattr3) error {
	if !s.bound(c) {
		return nil
	}
	_, mode := to.Mode.(*nfs3.SetMode3_TRUE)
	_, size := to.Size.(*nfs3.SetSize3_TRUE)
	owner := a.st.Uid == c.uid
	switch {
	case !s.mayGive(c, a, to), !owner && (mode || givesTimes(to)):
		return unix.EPERM
	case !owner && (size || touches(to)) && s.class(c, &a.st)&mayWrite == 0:
		return unix.EACCES
	}
	return nil
}

// mayGive tells whether the owner that a file is given is one that the caller
// may choose: of its own files the groups that it is in.
func (s *Server) mayGive(c call, a *at, to nfs3.Sattr3) bool {
	if u, ok := to.Uid.(*nfs3.SetUid3_TRUE); ok && (u.Uid != a.st.Uid || a.st.Uid != c.uid) {
		return false
	}
	g, ok := to.Gid.(*nfs3.SetGid3_TRUE)
	return !ok || a.st.Uid == c.uid && (g.Gid == a.st.Gid || g.Gid == c.gid || slices.Contains(c.gids, g.Gid))
}

func givesTimes(to nfs3.Sattr3) bool {
	_, atime := to.Atime.(*nfs3.SetAtime_SET_TO_CLIENT_TIME)
	_, mtime := to.Mtime.(*nfs3.SetMtime_SET_TO_CLIENT_TIME)
	return atime || mtime
}

// sets tells whether attributes other than the mode are to be set.
func sets(to nfs3.Sattr3) bool {
	_, uid := to.Uid.(*nfs3.SetUid3_TRUE)
	_, gid := to.Gid.(*nfs3.SetGid3_TRUE)
	_, size := to.Size.(*nfs3.SetSize3_TRUE)
	return uid || gid || size || givesTimes(to) || touches(to)
}

func touches(to nfs3.Sattr3) bool {
	atime, ok := to.Atime.(*nfs3.SetAtime_default)
	if ok && atime.SetIt == nfs3.SET_TO_SERVER_TIME {
		return true
	}
	mtime, ok := to.Mtime.(*nfs3.SetMtime_default)
	return ok && mtime.SetIt == nfs3.SET_TO_SERVER_TIME
}
