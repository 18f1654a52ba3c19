package workspace

import (
	"context"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// NfsV3Nfsproc3Lookup finds a name in a directory.
func (p *procedures) NfsV3Nfsproc3Lookup(_ context.Context, r *nfs3.Lookup3args) (nfs3.Lookup3res, error) {
	p.names.RLock()
	defer p.names.RUnlock()
	dir, err := p.openDir(r.What.Dir.Data)
	if err != nil {
		return &nfs3.Lookup3res_default{Status: statusOf(err), Resfail: nfs3.Lookup3resfail{DirAttributes: noAttr}}, nil
	}
	defer dir.close()
	id, st, err := p.lookup(dir, r.What.Name)
	if err != nil {
		return &nfs3.Lookup3res_default{Status: statusOf(err), Resfail: nfs3.Lookup3resfail{DirAttributes: p.post(&dir.st)}}, nil
	}
	return &nfs3.Lookup3res_NFS3_OK{Resok: nfs3.Lookup3resok{
		Object: nfs3.NfsFh3{Data: p.table.handle(id)}, ObjAttributes: p.post(&st), DirAttributes: p.post(&dir.st),
	}}, nil
}

func (p *procedures) lookup(dir *at, name []byte) (nodeID, unix.Statx_t, error) {
	switch string(name) {
	case ".":
		return dir.id, dir.st, nil
	case "..":
		up, ok := p.table.parent(dir.id)
		if !ok {
			return 0, unix.Statx_t{}, errStale
		}
		a, err := p.open(p.table.handle(up.id))
		if err != nil {
			return 0, unix.Statx_t{}, err
		}
		defer a.close()
		return a.id, a.st, nil
	}
	s, err := checkName(name)
	if err != nil {
		return 0, unix.Statx_t{}, err
	}
	return p.child(dir, s)
}

// change is a call under way that changes names in directories.
type change struct {
	*procedures
	id call
	// earlier is what an earlier server had found before it began the call,
	// if again.
	earlier intent
	again   bool
}

// changing begins a change, to be ended.
func (p *procedures) changing(ctx context.Context) *change {
	p.names.Lock()
	c := &change{procedures: p, id: callOf(ctx)}
	c.earlier, c.again = p.table.intended(c.id.id)
	return c
}

// intend notes what is there before the change; a repeated one has its note.
func (c *change) intend(in intent) error {
	if c.again {
		in = c.earlier
	}
	return c.table.intend(c.id.id, in)
}

func (c *change) end() {
	c.table.settled(c.id.id)
	c.names.Unlock()
}

// keyAt is what is at a name, zero if nothing is.
func keyAt(dir fd, name string) identity {
	st, err := statAt(dir, name)
	if err != nil {
		return identity{}
	}
	return keyOf(&st)
}

// born is a new entry of a directory.
type born struct {
	dir  *at // nil if it was not found; to be closed
	id   nodeID
	st   unix.Statx_t
	fail error
}

func (b *born) close() {
	if b.dir != nil {
		b.dir.close()
	}
}

// make makes a file where there is none, which is the caller's.
func (c *change) make(where nfs3.Diropargs3, how func(dir fd, name string) error) born {
	b := c.name(where, how)
	if b.fail != nil || !c.bound(c.id) && c.id.gid == 0 {
		return b
	}
	name := string(where.Name)
	if b.fail = c.give(b.dir, name); b.fail == nil {
		b.st, b.fail = statAt(b.dir.fd, name)
	}
	return b
}

// name makes an entry where there is none.
func (c *change) name(where nfs3.Diropargs3, how func(dir fd, name string) error) (b born) {
	if b.dir, b.fail = c.openDir(where.Dir.Data); b.fail != nil {
		return b
	}
	name, err := checkName(where.Name)
	if errors.Is(err, errName) {
		err = unix.EEXIST // "." and ".." are there
	}
	if err != nil {
		b.fail = err
		return b
	}
	if b.fail = c.mayName(b.dir, name); b.fail != nil {
		return b
	}
	if b.fail = c.intend(intent{to: keyAt(b.dir.fd, name)}); b.fail != nil {
		return b
	}
	err = how(b.dir.fd, name)
	made := c.again && c.earlier.to == identity{} && errors.Is(err, unix.EEXIST)
	if err != nil && !made {
		b.fail = err
		return b
	}
	b.id, b.st, b.fail = c.child(b.dir, name)
	return b
}

// mayName refuses who may not make a name; one that is there is told first.
func (c *change) mayName(dir *at, name string) error {
	err := c.mayChange(c.id, dir)
	if err != nil && keyAt(dir.fd, name) != (identity{}) {
		return nil // EEXIST, of whoever makes it
	}
	return err
}

// give gives a new file to the user of the guest who made it.
func (c *change) give(dir *at, name string) error {
	if !c.powerful {
		return nil
	}
	gid := int(c.id.gid)
	if dir.st.Mode&unix.S_ISGID != 0 {
		gid = -1 // the directory's group is inherited
	}
	return unix.Fchownat(int(dir.fd), name, int(c.id.uid), gid, unix.AT_SYMLINK_NOFOLLOW)
}

// dress gives a new entry the attributes that it was not made with.
func (c *change) dress(b *born, attr nfs3.Sattr3) {
	attr.Mode = &nfs3.SetMode3_default{}
	if b.fail != nil || !sets(attr) {
		return
	}
	handle := c.table.handle(b.id)
	a, err := c.open(handle)
	if err != nil {
		b.fail = err
		return
	}
	defer a.close()
	if b.fail = c.maySet(c.id, a, attr); b.fail == nil {
		b.fail = c.apply(a, handle, attr)
	}
	if b.fail == nil {
		b.st, b.fail = stat(a.fd)
	}
}

// modeOf is the mode that attributes give, or one for want of it.
func modeOf(attr nfs3.Sattr3, otherwise uint32) uint32 {
	if m, ok := attr.Mode.(*nfs3.SetMode3_TRUE); ok {
		return m.Mode & 0o7777
	}
	return otherwise
}

// NfsV3Nfsproc3Create makes a regular file.
func (p *procedures) NfsV3Nfsproc3Create(ctx context.Context, r *nfs3.Create3args) (nfs3.Create3res, error) {
	c := p.changing(ctx)
	defer c.end()
	var b born
	switch how := r.How.(type) {
	case *nfs3.Createhow3_UNCHECKED:
		b = c.createNew(r.Where, how.ObjAttributes)
		if errors.Is(b.fail, unix.EEXIST) {
			c.reuse(&b, r.Where, how.ObjAttributes)
		}
	case *nfs3.Createhow3_GUARDED:
		b = c.createNew(r.Where, how.ObjAttributes)
	case *nfs3.Createhow3_EXCLUSIVE:
		b = c.createExclusive(r.Where, how.Verf)
	}
	defer b.close()
	if b.fail != nil {
		return &nfs3.Create3res_default{Status: statusOf(b.fail), Resfail: nfs3.Create3resfail{DirWcc: p.dirWcc(b.dir)}}, nil
	}
	return &nfs3.Create3res_NFS3_OK{Resok: nfs3.Create3resok{
		Obj: p.postHandle(b.id), ObjAttributes: p.post(&b.st), DirWcc: p.dirWcc(b.dir),
	}}, nil
}

func (p *procedures) postHandle(id nodeID) nfs3.PostOpFh3 {
	return &nfs3.PostOpFh3_TRUE{Handle: nfs3.NfsFh3{Data: p.table.handle(id)}}
}

func (c *change) createNew(where nfs3.Diropargs3, attr nfs3.Sattr3) born {
	b := c.createFile(where, safeMode(unix.S_IFREG, modeOf(attr, 0o644)))
	c.dress(&b, attr)
	return b
}

// createFile makes a file and keeps it open for who made it.
func (c *change) createFile(where nfs3.Diropargs3, mode uint32) born {
	opened := fd(-1)
	b := c.make(where, func(dir fd, name string) error {
		f, err := unix.Openat(int(dir), name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		if err == nil {
			opened = fd(f)
		}
		return err
	})
	switch {
	case opened < 0:
	case b.fail == nil:
		c.files.release(c.files.put(b.id, opened, true))
	default:
		opened.close()
	}
	return b
}

// createExclusive makes a file that is the caller's alone. The verifier is
// kept in its times, so that a repeated call finds that it was carried out.
func (c *change) createExclusive(where nfs3.Diropargs3, verf [8]byte) born {
	b := c.createFile(where, 0o600)
	mark := [2]unix.Timespec{
		{Sec: int64(binary.BigEndian.Uint32(verf[:4]) & 0x7fffffff)},
		{Sec: int64(binary.BigEndian.Uint32(verf[4:]) & 0x7fffffff)},
	}
	name := string(where.Name)
	switch {
	case b.fail == nil:
		if b.fail = unix.UtimesNanoAt(int(b.dir.fd), name, mark[:], unix.AT_SYMLINK_NOFOLLOW); b.fail == nil {
			b.st, b.fail = statAt(b.dir.fd, name)
		}
	case errors.Is(b.fail, unix.EEXIST) && b.dir != nil:
		st, err := statAt(b.dir.fd, name)
		if err == nil && kindOf(&st) == unix.S_IFREG && st.Size == 0 && st.Atime.Sec == mark[0].Sec && st.Mtime.Sec == mark[1].Sec {
			b.id, b.st, b.fail = c.child(b.dir, name)
		}
	}
	return b
}

// reuse takes a file that is there for one that was to be made.
func (c *change) reuse(b *born, where nfs3.Diropargs3, attr nfs3.Sattr3) {
	name, err := checkName(where.Name)
	if err != nil {
		return
	}
	id, st, err := c.child(b.dir, name)
	if err != nil || kindOf(&st) != unix.S_IFREG {
		return
	}
	b.id, b.st, b.fail = id, st, nil
	c.dress(b, nfs3.Sattr3{Size: attr.Size})
}

// NfsV3Nfsproc3Mkdir makes a directory.
func (p *procedures) NfsV3Nfsproc3Mkdir(ctx context.Context, r *nfs3.Mkdir3args) (nfs3.Mkdir3res, error) {
	c := p.changing(ctx)
	defer c.end()
	b := c.make(r.Where, func(dir fd, name string) error {
		return unix.Mkdirat(int(dir), name, modeOf(r.Attributes, 0o755))
	})
	defer b.close()
	c.dress(&b, r.Attributes)
	if b.fail != nil {
		return &nfs3.Mkdir3res_default{Status: statusOf(b.fail), Resfail: nfs3.Mkdir3resfail{DirWcc: p.dirWcc(b.dir)}}, nil
	}
	return &nfs3.Mkdir3res_NFS3_OK{Resok: nfs3.Mkdir3resok{
		Obj: p.postHandle(b.id), ObjAttributes: p.post(&b.st), DirWcc: p.dirWcc(b.dir),
	}}, nil
}

// NfsV3Nfsproc3Symlink makes a symbolic link, whose target nobody here reads.
func (p *procedures) NfsV3Nfsproc3Symlink(ctx context.Context, r *nfs3.Symlink3args) (nfs3.Symlink3res, error) {
	c := p.changing(ctx)
	defer c.end()
	b := c.make(r.Where, func(dir fd, name string) error {
		return unix.Symlinkat(string(r.Symlink.SymlinkData), int(dir), name)
	})
	defer b.close()
	if b.fail != nil {
		return &nfs3.Symlink3res_default{Status: statusOf(b.fail), Resfail: nfs3.Symlink3resfail{DirWcc: p.dirWcc(b.dir)}}, nil
	}
	return &nfs3.Symlink3res_NFS3_OK{Resok: nfs3.Symlink3resok{
		Obj: p.postHandle(b.id), ObjAttributes: p.post(&b.st), DirWcc: p.dirWcc(b.dir),
	}}, nil
}

// NfsV3Nfsproc3Mknod makes a named pipe or a socket's place. Devices are of
// the host and none of the guest's business.
func (p *procedures) NfsV3Nfsproc3Mknod(ctx context.Context, r *nfs3.Mknod3args) (nfs3.Mknod3res, error) {
	var kind uint32
	var attr nfs3.Sattr3
	switch what := r.What.(type) {
	case *nfs3.Mknoddata3_NF3FIFO:
		kind, attr = unix.S_IFIFO, what.PipeAttributes
	case *nfs3.Mknoddata3_NF3SOCK:
		kind, attr = unix.S_IFSOCK, what.PipeAttributes
	default:
		return &nfs3.Mknod3res_default{Status: nfs3.NFS3ERR_PERM, Resfail: nfs3.Mknod3resfail{DirWcc: noWcc}}, nil
	}
	c := p.changing(ctx)
	defer c.end()
	b := c.make(r.Where, func(dir fd, name string) error {
		return unix.Mknodat(int(dir), name, kind|safeMode(kind, modeOf(attr, 0o600)), 0)
	})
	defer b.close()
	c.dress(&b, attr)
	if b.fail != nil {
		return &nfs3.Mknod3res_default{Status: statusOf(b.fail), Resfail: nfs3.Mknod3resfail{DirWcc: p.dirWcc(b.dir)}}, nil
	}
	return &nfs3.Mknod3res_NFS3_OK{Resok: nfs3.Mknod3resok{
		Obj: p.postHandle(b.id), ObjAttributes: p.post(&b.st), DirWcc: p.dirWcc(b.dir),
	}}, nil
}
