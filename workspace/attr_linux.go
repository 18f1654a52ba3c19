package workspace

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// Rights of others than the owner, where the process is not root: everything
// of the owner's is root's in the guest, and everything else is nobody's.
const nobody = 65534

// types are the kinds of files.
var types = map[uint32]nfs3.Ftype3{
	unix.S_IFREG: nfs3.NF3REG, unix.S_IFDIR: nfs3.NF3DIR, unix.S_IFLNK: nfs3.NF3LNK, unix.S_IFIFO: nfs3.NF3FIFO,
	unix.S_IFSOCK: nfs3.NF3SOCK, unix.S_IFBLK: nfs3.NF3BLK, unix.S_IFCHR: nfs3.NF3CHR,
}

// attributes are what the guest sees of a file.
func (s *Server) attributes(st *unix.Statx_t) nfs3.Fattr3 {
	uid, gid := s.shown(st)
	return nfs3.Fattr3{
		Type: types[kindOf(st)], Mode: uint32(st.Mode) & 0o7777, Nlink: st.Nlink, Uid: uid, Gid: gid,
		Size: st.Size, Used: st.Blocks * 512, Rdev: nfs3.Specdata3{Specdata1: st.Rdev_major, Specdata2: st.Rdev_minor},
		Fsid: s.table.root.Dev, Fileid: st.Ino,
		Atime: timeOf(st.Atime), Mtime: timeOf(st.Mtime), Ctime: timeOf(st.Ctime),
	}
}

// shown is who owns a file as the guest sees it.
func (s *Server) shown(st *unix.Statx_t) (uid, gid uint32) {
	uid, gid = st.Uid, st.Gid
	if s.powerful {
		return uid, gid
	}
	if uid = nobody; st.Uid == s.uid {
		uid = 0
	}
	if gid = nobody; st.Gid == s.gid {
		gid = 0
	}
	return uid, gid
}

func timeOf(t unix.StatxTimestamp) nfs3.Nfstime3 {
	return nfs3.Nfstime3{Seconds: uint32(t.Sec), Nseconds: t.Nsec}
}

// after are the attributes of an open file, if they can be told.
func (s *Server) after(f fd) nfs3.PostOpAttr {
	st, err := stat(f)
	if err != nil {
		return &nfs3.PostOpAttr_FALSE{}
	}
	return s.post(&st)
}

func (s *Server) post(st *unix.Statx_t) nfs3.PostOpAttr {
	return &nfs3.PostOpAttr_TRUE{Attributes: s.attributes(st)}
}

var (
	noAttr = &nfs3.PostOpAttr_FALSE{}
	noWcc  = nfs3.WccData{Before: &nfs3.PreOpAttr_FALSE{}, After: noAttr}
)

// wcc tells what a file was like before and after a call.
func (s *Server) wcc(before *unix.Statx_t, f fd) nfs3.WccData {
	return nfs3.WccData{
		Before: &nfs3.PreOpAttr_TRUE{Attributes: nfs3.WccAttr{
			Size: before.Size, Mtime: timeOf(before.Mtime), Ctime: timeOf(before.Ctime),
		}},
		After: s.after(f),
	}
}

// dirWcc is wcc of a directory that may not have been found.
func (s *Server) dirWcc(dir *at) nfs3.WccData {
	if dir == nil {
		return noWcc
	}
	return s.wcc(&dir.st, dir.fd)
}

// statuses are what errors are called in NFS.
var statuses = []struct {
	err    error
	status nfs3.Nfsstat3
}{
	{errStale, nfs3.NFS3ERR_STALE},
	{errBadHandle, nfs3.NFS3ERR_BADHANDLE},
	{errName, nfs3.NFS3ERR_INVAL},
	{errTooLong, nfs3.NFS3ERR_NAMETOOLONG},
	{errUnsupported, nfs3.NFS3ERR_NOTSUPP},
	{errTooSmall, nfs3.NFS3ERR_TOOSMALL},
	{errNotSync, nfs3.NFS3ERR_NOT_SYNC},
	{unix.EPERM, nfs3.NFS3ERR_PERM},
	{unix.ENOENT, nfs3.NFS3ERR_NOENT},
	{unix.ENXIO, nfs3.NFS3ERR_NXIO},
	{unix.EACCES, nfs3.NFS3ERR_ACCES},
	{unix.EEXIST, nfs3.NFS3ERR_EXIST},
	{unix.EXDEV, nfs3.NFS3ERR_XDEV},
	{unix.ENODEV, nfs3.NFS3ERR_NODEV},
	{unix.ENOTDIR, nfs3.NFS3ERR_NOTDIR},
	{unix.EISDIR, nfs3.NFS3ERR_ISDIR},
	{unix.EINVAL, nfs3.NFS3ERR_INVAL},
	{unix.EFBIG, nfs3.NFS3ERR_FBIG},
	{unix.ENOSPC, nfs3.NFS3ERR_NOSPC},
	{unix.EROFS, nfs3.NFS3ERR_ROFS},
	{unix.EMLINK, nfs3.NFS3ERR_MLINK},
	{unix.ENAMETOOLONG, nfs3.NFS3ERR_NAMETOOLONG},
	{unix.ENOTEMPTY, nfs3.NFS3ERR_NOTEMPTY},
	{unix.EDQUOT, nfs3.NFS3ERR_DQUOT},
	{unix.EOPNOTSUPP, nfs3.NFS3ERR_NOTSUPP},
	{unix.ELOOP, nfs3.NFS3ERR_STALE},
}

var (
	errUnsupported = errors.New("not supported")
	errTooSmall    = errors.New("too small a reply")
	errNotSync     = errors.New("changed meanwhile")
)

func statusOf(err error) nfs3.Nfsstat3 {
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	return nfs3.NFS3ERR_IO
}
