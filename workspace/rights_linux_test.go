package workspace

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// TestRights makes the calls of another user of the guest, which its kernel
// does not refuse by itself.
func TestRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a guest's users are one to a server that is not root")
	}
	for _, c := range []struct {
		name string
		proc uint32
		args func(g *guest, dir, file []byte) io.WriterTo
		// want is the answer in a folder of root's, and free in one that all
		// may write to, with the sticky bit set.
		want, free nfs3.Nfsstat3
	}{
		{"create", 8, func(g *guest, dir, _ []byte) io.WriterTo { return g.createArgs(dir, "new") }, nfs3.NFS3ERR_ACCES, nfs3.NFS3_OK},
		{"create what is there", 8, func(g *guest, dir, _ []byte) io.WriterTo { return g.createArgs(dir, "file") }, nfs3.NFS3ERR_EXIST, nfs3.NFS3ERR_EXIST},
		{"mkdir", 9, func(_ *guest, dir, _ []byte) io.WriterTo {
			return &nfs3.Mkdir3args{Where: where(dir, "new"), Attributes: plain(0o755)}
		}, nfs3.NFS3ERR_ACCES, nfs3.NFS3_OK},
		{"remove", 12, func(_ *guest, dir, _ []byte) io.WriterTo {
			return &nfs3.Remove3args{Object: where(dir, "file")}
		}, nfs3.NFS3ERR_ACCES, nfs3.NFS3ERR_PERM},
		{"rename", 14, func(_ *guest, dir, _ []byte) io.WriterTo {
			return &nfs3.Rename3args{From: where(dir, "file"), To: where(dir, "new")}
		}, nfs3.NFS3ERR_ACCES, nfs3.NFS3ERR_PERM},
		{"link", 15, func(_ *guest, dir, file []byte) io.WriterTo {
			return &nfs3.Link3args{File: nfs3.NfsFh3{Data: file}, Link: where(dir, "new")}
		}, nfs3.NFS3ERR_ACCES, nfs3.NFS3_OK},
		{"chmod", 2, func(_ *guest, _, file []byte) io.WriterTo {
			return &nfs3.Setattr3args{Object: nfs3.NfsFh3{Data: file}, NewAttributes: plain(0o666), Guard: &nfs3.Sattrguard3_FALSE{}}
		}, nfs3.NFS3ERR_PERM, nfs3.NFS3ERR_PERM},
		{"chown", 2, func(_ *guest, _, file []byte) io.WriterTo {
			to := plain(0)
			to.Mode, to.Uid = &nfs3.SetMode3_default{}, &nfs3.SetUid3_TRUE{Uid: 1000}
			return &nfs3.Setattr3args{Object: nfs3.NfsFh3{Data: file}, NewAttributes: to, Guard: &nfs3.Sattrguard3_FALSE{}}
		}, nfs3.NFS3ERR_PERM, nfs3.NFS3ERR_PERM},
		{"truncate", 2, func(_ *guest, _, file []byte) io.WriterTo {
			to := plain(0)
			to.Mode, to.Size = &nfs3.SetMode3_default{}, &nfs3.SetSize3_TRUE{}
			return &nfs3.Setattr3args{Object: nfs3.NfsFh3{Data: file}, NewAttributes: to, Guard: &nfs3.Sattrguard3_FALSE{}}
		}, nfs3.NFS3ERR_ACCES, nfs3.NFS3ERR_ACCES},
		{"touch", 2, func(_ *guest, _, file []byte) io.WriterTo {
			to := plain(0)
			to.Mode, to.Mtime = &nfs3.SetMode3_default{}, &nfs3.SetMtime_default{SetIt: nfs3.SET_TO_SERVER_TIME}
			return &nfs3.Setattr3args{Object: nfs3.NfsFh3{Data: file}, NewAttributes: to, Guard: &nfs3.Sattrguard3_FALSE{}}
		}, nfs3.NFS3ERR_ACCES, nfs3.NFS3ERR_ACCES},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t)
			for name, mode := range map[string]os.FileMode{"own": 0o755, "free": 0o777 | os.ModeSticky} {
				dir := filepath.Join(g.folder, name)
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(dir, mode); err != nil {
					t.Fatal(err)
				}
				g.file(filepath.Join(dir, "file"), "root's")
			}
			g.uid = 1000
			for name, want := range map[string]nfs3.Nfsstat3{"own": c.want, "free": c.free} {
				dir, _ := g.lookup(g.root, name)
				file, _ := g.lookup(dir, "file")
				g.want(name, status(g.call(c.proc, c.args(g, dir, file))), want)
			}
		})
	}
}

// TestWhatIsMadeIsTheMakers looks at what another user makes, also where a
// server was killed before it could be given away.
func TestWhatIsMadeIsTheMakers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a guest's users are one to a server that is not root")
	}
	g := newGuest(t)
	if err := os.Chmod(g.folder, 0o777|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(g.folder, 0, 50); err != nil {
		t.Fatal(err)
	}
	g.uid = 1000
	args := &nfs3.Mkdir3args{Where: where(g.root, "dir"), Attributes: plain(0o755)}
	g.want("mkdir", status(g.call(9, args)), nfs3.NFS3_OK)
	g.restart()
	if err := os.Chown(filepath.Join(g.folder, "dir"), 0, 0); err != nil {
		t.Fatal(err)
	}
	g.xid-- // of the mount
	res, _, err := nfs3.ReadMkdir3res(g.repeat(9, args))
	if err != nil {
		t.Fatal(err)
	}
	ok, is := res.(*nfs3.Mkdir3res_NFS3_OK)
	if !is {
		t.Fatalf("mkdir again: %+v", res)
	}
	attr := ok.Resok.ObjAttributes.(*nfs3.PostOpAttr_TRUE).Attributes
	if attr.Uid != 1000 || attr.Mode != 0o2755 {
		t.Errorf("made by 1000: %+v", attr)
	}
}
