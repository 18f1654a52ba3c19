package workspace

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// NfsV3Nfsproc3Remove removes what is no directory.
func (p *procedures) NfsV3Nfsproc3Remove(ctx context.Context, r *nfs3.Remove3args) (nfs3.Remove3res, error) {
	c := p.changing(ctx)
	defer c.end()
	dir, err := c.remove(r.Object, 0)
	if dir != nil {
		defer dir.close()
	}
	if err != nil {
		return &nfs3.Remove3res_default{Status: statusOf(err), Resfail: nfs3.Remove3resfail{DirWcc: p.dirWcc(dir)}}, nil
	}
	return &nfs3.Remove3res_NFS3_OK{Resok: nfs3.Remove3resok{DirWcc: p.dirWcc(dir)}}, nil
}

// NfsV3Nfsproc3Rmdir removes an empty directory.
func (p *procedures) NfsV3Nfsproc3Rmdir(ctx context.Context, r *nfs3.Rmdir3args) (nfs3.Rmdir3res, error) {
	c := p.changing(ctx)
	defer c.end()
	dir, err := c.remove(r.Object, unix.AT_REMOVEDIR)
	if dir != nil {
		defer dir.close()
	}
	if err != nil {
		return &nfs3.Rmdir3res_default{Status: statusOf(err), Resfail: nfs3.Rmdir3resfail{DirWcc: p.dirWcc(dir)}}, nil
	}
	return &nfs3.Rmdir3res_NFS3_OK{Resok: nfs3.Rmdir3resok{DirWcc: p.dirWcc(dir)}}, nil
}

// remove returns the directory, if it was found, to be closed.
func (c *change) remove(what nfs3.Diropargs3, flags int) (*at, error) {
	dir, err := c.openDir(what.Dir.Data)
	if err != nil {
		return nil, err
	}
	name, err := checkName(what.Name)
	if err != nil {
		return dir, err
	}
	if err := c.mayTake(c.id, dir, name); err != nil {
		return dir, err
	}
	there := keyAt(dir.fd, name)
	gone := c.again && c.earlier.from != identity{} && there != c.earlier.from
	if !gone {
		if err := c.intend(intent{from: there}); err != nil {
			return dir, err
		}
		if err := unix.Unlinkat(int(dir.fd), name, flags); err != nil {
			return dir, err
		}
	}
	id, err := c.table.forget(place{dir.id, name})
	c.files.forget(id)
	return dir, err
}

// NfsV3Nfsproc3Rename moves a name, in place of another one.
func (p *procedures) NfsV3Nfsproc3Rename(ctx context.Context, r *nfs3.Rename3args) (nfs3.Rename3res, error) {
	c := p.changing(ctx)
	defer c.end()
	from, err := c.openDir(r.From.Dir.Data)
	if err != nil {
		return &nfs3.Rename3res_default{Status: statusOf(err), Resfail: nfs3.Rename3resfail{FromdirWcc: noWcc, TodirWcc: noWcc}}, nil
	}
	defer from.close()
	to, err := c.openDir(r.To.Dir.Data)
	if err != nil {
		return &nfs3.Rename3res_default{Status: statusOf(err), Resfail: nfs3.Rename3resfail{FromdirWcc: p.dirWcc(from), TodirWcc: noWcc}}, nil
	}
	defer to.close()
	err = c.rename(from, to, r.From.Name, r.To.Name)
	before, after := p.dirWcc(from), p.dirWcc(to)
	if err != nil {
		return &nfs3.Rename3res_default{Status: statusOf(err), Resfail: nfs3.Rename3resfail{FromdirWcc: before, TodirWcc: after}}, nil
	}
	return &nfs3.Rename3res_NFS3_OK{Resok: nfs3.Rename3resok{FromdirWcc: before, TodirWcc: after}}, nil
}

func (c *change) rename(from, to *at, fromName, toName []byte) error {
	old, err := checkName(fromName)
	if err != nil {
		return err
	}
	fresh, err := checkName(toName)
	if err != nil {
		return err
	}
	if err := c.mayMove(from, to, old, fresh); err != nil {
		return err
	}
	was, victim := keyAt(from.fd, old), keyAt(to.fd, fresh)
	done := c.again && c.earlier.from != identity{} && was != c.earlier.from && victim == c.earlier.from
	if !done {
		if err := c.intend(intent{from: was, to: victim}); err != nil {
			return err
		}
		if err := unix.Renameat(int(from.fd), old, int(to.fd), fresh); err != nil {
			return err
		}
	}
	st, err := statAt(to.fd, fresh)
	if err != nil {
		return err
	}
	if was == victim && was != (identity{}) {
		return nil // two names of one file: both stay
	}
	gone, err := c.table.moved(place{from.id, old}, seen{place{to.id, fresh}, keyOf(&st), kindOf(&st)})
	c.files.forget(gone)
	return err
}

// NfsV3Nfsproc3Link gives a file another name.
func (p *procedures) NfsV3Nfsproc3Link(ctx context.Context, r *nfs3.Link3args) (nfs3.Link3res, error) {
	c := p.changing(ctx)
	defer c.end()
	refuse := func(err error, attr nfs3.PostOpAttr, wcc nfs3.WccData) (nfs3.Link3res, error) {
		return &nfs3.Link3res_default{Status: statusOf(err), Resfail: nfs3.Link3resfail{FileAttributes: attr, LinkdirWcc: wcc}}, nil
	}
	a, err := c.open(r.File.Data)
	if err != nil {
		return refuse(err, noAttr, noWcc)
	}
	defer a.close()
	b := c.name(r.Link, func(dir fd, name string) error {
		if a.kind == unix.S_IFDIR {
			return unix.EPERM
		}
		return unix.Linkat(unix.AT_FDCWD, a.fd.path(), int(dir), name, unix.AT_SYMLINK_FOLLOW)
	})
	defer b.close()
	if b.fail == nil && b.id != a.id {
		b.fail = unix.EEXIST
	}
	if b.fail != nil {
		return refuse(b.fail, p.after(a.fd), p.dirWcc(b.dir))
	}
	return &nfs3.Link3res_NFS3_OK{Resok: nfs3.Link3resok{FileAttributes: p.after(a.fd), LinkdirWcc: p.dirWcc(b.dir)}}, nil
}
