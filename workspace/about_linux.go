package workspace

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// NfsV3Nfsproc3Fsstat tells how full the host's file system is.
func (p *procedures) NfsV3Nfsproc3Fsstat(_ context.Context, r *nfs3.Fsstat3args) (nfs3.Fsstat3res, error) {
	refuse := func(err error) (nfs3.Fsstat3res, error) {
		return &nfs3.Fsstat3res_default{Status: statusOf(err), Resfail: nfs3.Fsstat3resfail{ObjAttributes: noAttr}}, nil
	}
	a, err := p.open(r.Fsroot.Data)
	if err != nil {
		return refuse(err)
	}
	defer a.close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(a.fd), &st); err != nil {
		return refuse(err)
	}
	unit := uint64(st.Bsize)
	return &nfs3.Fsstat3res_NFS3_OK{Resok: nfs3.Fsstat3resok{
		ObjAttributes: p.post(&a.st), Tbytes: st.Blocks * unit, Fbytes: st.Bfree * unit, Abytes: st.Bavail * unit,
		Tfiles: st.Files, Ffiles: st.Ffree, Afiles: st.Ffree,
	}}, nil
}

// NfsV3Nfsproc3Fsinfo tells what the server can do.
func (p *procedures) NfsV3Nfsproc3Fsinfo(_ context.Context, r *nfs3.Fsinfo3args) (nfs3.Fsinfo3res, error) {
	a, err := p.open(r.Fsroot.Data)
	if err != nil {
		return &nfs3.Fsinfo3res_default{Status: statusOf(err), Resfail: nfs3.Fsinfo3resfail{ObjAttributes: noAttr}}, nil
	}
	defer a.close()
	return &nfs3.Fsinfo3res_NFS3_OK{Resok: nfs3.Fsinfo3resok{
		ObjAttributes: p.post(&a.st),
		Rtmax:         transfer, Rtpref: transfer, Rtmult: 4096, Wtmax: transfer, Wtpref: transfer, Wtmult: 4096, Dtpref: listing,
		Maxfilesize: 1<<63 - 1, TimeDelta: nfs3.Nfstime3{Nseconds: 1},
		Properties: nfs3.FSF3_LINK | nfs3.FSF3_SYMLINK | nfs3.FSF3_HOMOGENEOUS | nfs3.FSF3_CANSETTIME,
	}}, nil
}

// NfsV3Nfsproc3Pathconf tells the limits of names.
func (p *procedures) NfsV3Nfsproc3Pathconf(_ context.Context, r *nfs3.Pathconf3args) (nfs3.Pathconf3res, error) {
	a, err := p.open(r.Object.Data)
	if err != nil {
		return &nfs3.Pathconf3res_default{Status: statusOf(err), Resfail: nfs3.Pathconf3resfail{ObjAttributes: noAttr}}, nil
	}
	defer a.close()
	return &nfs3.Pathconf3res_NFS3_OK{Resok: nfs3.Pathconf3resok{
		ObjAttributes: p.post(&a.st), Linkmax: 32000, NameMax: unix.NAME_MAX, NoTrunc: true, ChownRestricted: true, CasePreserving: true,
	}}, nil
}

// Rights, as in a mode.
const (
	mayExecute = 1 << iota
	mayWrite
	mayRead
)

// allowed is what a user of the guest may do: what this process can do, and
// the mode lets that user.
func (s *Server) allowed(c call, a *at) uint32 {
	rights := s.able(a)
	if s.bound(c) {
		rights &= s.class(c, &a.st)
	}
	var access uint32
	for _, r := range []struct{ right, file, dir uint32 }{
		{mayRead, nfs3.ACCESS3_READ, nfs3.ACCESS3_READ},
		{mayWrite, nfs3.ACCESS3_MODIFY | nfs3.ACCESS3_EXTEND, nfs3.ACCESS3_MODIFY | nfs3.ACCESS3_EXTEND | nfs3.ACCESS3_DELETE},
		{mayExecute, nfs3.ACCESS3_EXECUTE, nfs3.ACCESS3_LOOKUP},
	} {
		switch {
		case rights&r.right == 0:
		case a.kind == unix.S_IFDIR:
			access |= r.dir
		default:
			access |= r.file
		}
	}
	return access
}

// able is what this process can do with a file.
func (s *Server) able(a *at) uint32 {
	own := a.st.Uid == s.uid || s.powerful
	if own && a.kind == unix.S_IFREG {
		rights := uint32(mayRead | mayWrite)
		if a.st.Mode&0o111 != 0 {
			rights |= mayExecute
		}
		return rights
	}
	var rights uint32
	for _, right := range []uint32{mayRead, mayWrite, mayExecute} {
		if unix.Faccessat(unix.AT_FDCWD, a.fd.path(), right, unix.AT_EACCESS) == nil {
			rights |= right
		}
	}
	if a.kind == unix.S_IFLNK {
		rights = mayRead // what it leads to is another question
	}
	return rights
}

// class is what the mode of a file lets a user of the guest do.
func (s *Server) class(c call, st *unix.Statx_t) uint32 {
	uid, gid := s.shown(st)
	mode := uint32(st.Mode)
	switch {
	case uid == c.uid:
		return mode >> 6 & 7
	case gid == c.gid || slices.Contains(c.gids, gid):
		return mode >> 3 & 7
	default:
		return mode & 7
	}
}
