package workspace

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// procedures are the server as NFS names its procedures. What is wrong with a
// call is a status of its reply, never an error.
type procedures struct{ *Server }

var _ nfs3.NfsProgram = (*procedures)(nil)

// Sizes of transfers: what fits well through a serial link beside others.
const (
	transfer   = 256 << 10
	listing    = 64 << 10
	minListing = 512
)

// NfsV3Nfsproc3Null does nothing.
func (p *procedures) NfsV3Nfsproc3Null(context.Context) error { return nil }

// NfsV3Nfsproc3Getattr tells a file's attributes.
func (p *procedures) NfsV3Nfsproc3Getattr(_ context.Context, r *nfs3.Getattr3args) (nfs3.Getattr3res, error) {
	a, err := p.open(r.Object.Data)
	if err != nil {
		return &nfs3.Getattr3res_default{Status: statusOf(err)}, nil
	}
	defer a.close()
	return &nfs3.Getattr3res_NFS3_OK{Resok: nfs3.Getattr3resok{ObjAttributes: p.attributes(&a.st)}}, nil
}

// NfsV3Nfsproc3Access tells what a user of the guest may do with a file.
func (p *procedures) NfsV3Nfsproc3Access(ctx context.Context, r *nfs3.Access3args) (nfs3.Access3res, error) {
	a, err := p.open(r.Object.Data)
	if err != nil {
		return &nfs3.Access3res_default{Status: statusOf(err), Resfail: nfs3.Access3resfail{ObjAttributes: noAttr}}, nil
	}
	defer a.close()
	return &nfs3.Access3res_NFS3_OK{Resok: nfs3.Access3resok{
		ObjAttributes: p.post(&a.st), Access: r.Access & p.allowed(callOf(ctx), a),
	}}, nil
}

// NfsV3Nfsproc3Readlink reads a link, which only the guest follows.
func (p *procedures) NfsV3Nfsproc3Readlink(_ context.Context, r *nfs3.Readlink3args) (nfs3.Readlink3res, error) {
	refuse := func(err error) (nfs3.Readlink3res, error) {
		return &nfs3.Readlink3res_default{Status: statusOf(err), Resfail: nfs3.Readlink3resfail{SymlinkAttributes: noAttr}}, nil
	}
	a, err := p.open(r.Symlink.Data)
	if err != nil {
		return refuse(err)
	}
	defer a.close()
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(a.fd), "", target)
	if err != nil || a.kind != unix.S_IFLNK {
		return refuse(unix.EINVAL)
	}
	return &nfs3.Readlink3res_NFS3_OK{Resok: nfs3.Readlink3resok{SymlinkAttributes: p.after(a.fd), Data: target[:n]}}, nil
}

// NfsV3Nfsproc3Read reads from a file.
func (p *procedures) NfsV3Nfsproc3Read(_ context.Context, r *nfs3.Read3args) (nfs3.Read3res, error) {
	refuse := func(err error) (nfs3.Read3res, error) {
		return &nfs3.Read3res_default{Status: statusOf(err), Resfail: nfs3.Read3resfail{FileAttributes: noAttr}}, nil
	}
	if r.Offset > 1<<63-1 {
		return refuse(unix.EINVAL)
	}
	f, err := p.content(r.File.Data, false)
	if err != nil {
		return refuse(err)
	}
	defer p.files.release(f)
	data := make([]byte, min(r.Count, transfer))
	n, err := readFull(f.fd, data, int64(r.Offset))
	if err != nil {
		return refuse(err)
	}
	st, err := stat(f.fd)
	if err != nil {
		return refuse(err)
	}
	return &nfs3.Read3res_NFS3_OK{Resok: nfs3.Read3resok{
		FileAttributes: p.post(&st), Count: uint32(n), Data: data[:n], Eof: r.Offset+uint64(n) >= st.Size,
	}}, nil
}

// readFull reads until data is full or the file ends.
func readFull(f fd, data []byte, offset int64) (n int, err error) {
	for n < len(data) {
		m, err := unix.Pread(int(f), data[n:], offset+int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		}
		n += m
	}
	return n, nil
}

// NfsV3Nfsproc3Write writes to a file.
func (p *procedures) NfsV3Nfsproc3Write(_ context.Context, r *nfs3.Write3args) (nfs3.Write3res, error) {
	refuse := func(err error) (nfs3.Write3res, error) {
		return &nfs3.Write3res_default{Status: statusOf(err), Resfail: nfs3.Write3resfail{FileWcc: noWcc}}, nil
	}
	switch {
	case int(r.Count) != len(r.Data):
		return refuse(unix.EINVAL)
	case r.Offset > 1<<63-1-uint64(len(r.Data)):
		return refuse(unix.EFBIG)
	}
	f, err := p.content(r.File.Data, true)
	if err != nil {
		return refuse(err)
	}
	defer p.files.release(f)
	f.order.Lock()
	defer f.order.Unlock()
	before, err := stat(f.fd)
	if err != nil {
		return refuse(err)
	}
	if err := writeFull(f.fd, r.Data, int64(r.Offset)); err != nil {
		return refuse(err)
	}
	if r.Stable != nfs3.UNSTABLE {
		if err := unix.Fsync(int(f.fd)); err != nil {
			return refuse(err)
		}
	}
	return &nfs3.Write3res_NFS3_OK{Resok: nfs3.Write3resok{
		FileWcc: p.wcc(&before, f.fd), Count: r.Count, Committed: r.Stable, Verf: p.verifier,
	}}, nil
}

func writeFull(f fd, data []byte, offset int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(int(f), data, offset)
		if err != nil && err != unix.EINTR {
			return err
		}
		data, offset = data[max(n, 0):], offset+int64(max(n, 0))
	}
	return nil
}

// NfsV3Nfsproc3Commit brings what was written to the disk.
func (p *procedures) NfsV3Nfsproc3Commit(_ context.Context, r *nfs3.Commit3args) (nfs3.Commit3res, error) {
	refuse := func(err error) (nfs3.Commit3res, error) {
		return &nfs3.Commit3res_default{Status: statusOf(err), Resfail: nfs3.Commit3resfail{FileWcc: noWcc}}, nil
	}
	f, err := p.content(r.File.Data, false)
	if err != nil {
		return refuse(err)
	}
	defer p.files.release(f)
	before, err := stat(f.fd)
	if err == nil {
		err = unix.Fsync(int(f.fd))
	}
	if err != nil {
		return refuse(err)
	}
	return &nfs3.Commit3res_NFS3_OK{Resok: nfs3.Commit3resok{FileWcc: p.wcc(&before, f.fd), Verf: p.verifier}}, nil
}
