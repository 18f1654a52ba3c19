package workspace

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// NfsV3Nfsproc3Setattr changes attributes.
func (p *procedures) NfsV3Nfsproc3Setattr(ctx context.Context, r *nfs3.Setattr3args) (nfs3.Setattr3res, error) {
	a, err := p.open(r.Object.Data)
	if err != nil {
		return &nfs3.Setattr3res_default{Status: statusOf(err), Resfail: nfs3.Setattr3resfail{ObjWcc: noWcc}}, nil
	}
	defer a.close()
	if err = guarded(a, r.Guard); err == nil {
		err = p.maySet(callOf(ctx), a, r.NewAttributes)
	}
	if err == nil {
		err = p.apply(a, r.Object.Data, r.NewAttributes)
	}
	wcc := p.wcc(&a.st, a.fd)
	if err != nil {
		return &nfs3.Setattr3res_default{Status: statusOf(err), Resfail: nfs3.Setattr3resfail{ObjWcc: wcc}}, nil
	}
	return &nfs3.Setattr3res_NFS3_OK{Resok: nfs3.Setattr3resok{ObjWcc: wcc}}, nil
}

// guarded refuses a change of a file that somebody else has changed.
func guarded(a *at, guard nfs3.Sattrguard3) error {
	if g, ok := guard.(*nfs3.Sattrguard3_TRUE); ok && g.ObjCtime != timeOf(a.st.Ctime) {
		return errNotSync
	}
	return nil
}

// apply changes what is given: the size first, because it changes times, and
// the owner before the mode, because it changes that.
func (s *Server) apply(a *at, handle []byte, to nfs3.Sattr3) error {
	if size, ok := to.Size.(*nfs3.SetSize3_TRUE); ok {
		if err := s.truncate(handle, size.Size); err != nil {
			return err
		}
	}
	if err := s.chown(a, to); err != nil {
		return err
	}
	if mode, ok := to.Mode.(*nfs3.SetMode3_TRUE); ok {
		if a.kind == unix.S_IFLNK {
			return unix.EOPNOTSUPP
		}
		if err := unix.Chmod(a.fd.path(), safeMode(a.kind, mode.Mode)); err != nil {
			return err
		}
	}
	return setTimes(a, to)
}

// safeMode leaves out what would let other users of the host run a guest's
// program with the rights of the workspace's owner.
func safeMode(kind, mode uint32) uint32 {
	if kind == unix.S_IFDIR {
		return mode & 0o7777
	}
	return mode & 0o1777
}

func (s *Server) truncate(handle []byte, size uint64) error {
	if size > 1<<63-1 {
		return unix.EFBIG
	}
	f, err := s.content(handle, true)
	if err != nil {
		return err
	}
	defer s.files.release(f)
	return unix.Ftruncate(int(f.fd), int64(size))
}

// chown gives a file away, which only root with its powers may. Others are root in the guest
// and own what they have already.
func (s *Server) chown(a *at, to nfs3.Sattr3) error {
	uid, gid := -1, -1
	if u, ok := to.Uid.(*nfs3.SetUid3_TRUE); ok {
		uid = int(int32(u.Uid))
	}
	if g, ok := to.Gid.(*nfs3.SetGid3_TRUE); ok {
		gid = int(int32(g.Gid))
	}
	shownUID, shownGID := s.shown(&a.st)
	if uid == int(shownUID) {
		uid = -1
	}
	if gid == int(shownGID) {
		gid = -1
	}
	switch {
	case uid == -1 && gid == -1:
		return nil
	case !s.powerful:
		return unix.EPERM
	}
	return unix.Fchownat(int(a.fd), "", uid, gid, unix.AT_EMPTY_PATH)
}

func setTimes(a *at, to nfs3.Sattr3) error {
	ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	switch t := to.Atime.(type) {
	case *nfs3.SetAtime_SET_TO_CLIENT_TIME:
		ts[0] = timespec(t.Atime)
	case *nfs3.SetAtime_default:
		if t.SetIt == nfs3.SET_TO_SERVER_TIME {
			ts[0].Nsec = unix.UTIME_NOW
		}
	}
	switch t := to.Mtime.(type) {
	case *nfs3.SetMtime_SET_TO_CLIENT_TIME:
		ts[1] = timespec(t.Mtime)
	case *nfs3.SetMtime_default:
		if t.SetIt == nfs3.SET_TO_SERVER_TIME {
			ts[1].Nsec = unix.UTIME_NOW
		}
	}
	if ts[0].Nsec == unix.UTIME_OMIT && ts[1].Nsec == unix.UTIME_OMIT {
		return nil
	}
	if a.kind != unix.S_IFLNK {
		return unix.UtimesNanoAt(unix.AT_FDCWD, a.fd.path(), ts[:], 0)
	}
	return unix.UtimesNanoAt(int(a.fd), "", ts[:], unix.AT_EMPTY_PATH)
}

func timespec(t nfs3.Nfstime3) unix.Timespec {
	return unix.Timespec{Sec: int64(t.Seconds), Nsec: int64(t.Nseconds % 1e9)}
}
