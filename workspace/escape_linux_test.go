package workspace

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// outside makes a file beside the folder that no guest may reach.
func (g *guest) outside() string {
	g.t.Helper()
	path := filepath.Join(filepath.Dir(g.folder), "outside")
	g.file(path, "secret")
	g.t.Cleanup(func() {
		if b, err := os.ReadFile(path); err != nil || string(b) != "secret" {
			g.t.Errorf("the file outside: %q, %v", b, err)
		}
	})
	return path
}

func TestNamesThatLeaveADirectoryAreRefused(t *testing.T) {
	g := newGuest(t)
	g.outside()
	for _, name := range []string{"", "..", ".", "../outside", "/etc/passwd", "a/b", "./a", "a\x00b"} {
		res, _ := nfs3.Nfsstat3_name[status(g.call(8, g.createArgs(g.root, name)))]
		if res == "NFS3_OK" {
			t.Errorf("creating %q was allowed", name)
		}
		g.want("removing "+name, status(g.call(12, &nfs3.Remove3args{Object: where(g.root, name)})), nfs3.NFS3ERR_INVAL)
		if name != ".." && name != "." {
			_, st := g.lookup(g.root, name)
			g.want("looking up "+name, st, nfs3.NFS3ERR_INVAL)
		}
		g.want("renaming to "+name, status(g.call(14, &nfs3.Rename3args{From: where(g.root, "x"), To: where(g.root, name)})), nfs3.NFS3ERR_INVAL)
	}
	g.want("a long name", status(g.call(8, g.createArgs(g.root, strings.Repeat("n", 256)))), nfs3.NFS3ERR_NAMETOOLONG)
	up, st := g.lookup(g.root, "..")
	if st != nfs3.NFS3_OK || !slices.Equal(up, g.root) {
		t.Errorf("the root's parent: %x, %v; expected the root %x", up, st, g.root)
	}
}

func TestLinksAreNotFollowed(t *testing.T) {
	g := newGuest(t)
	outside := g.outside()
	for name, target := range map[string]string{"abs": outside, "rel": "../outside", "proc": "/proc/self/root", "dir": ".."} {
		g.want(name, status(g.call(10, &nfs3.Symlink3args{
			Where: where(g.root, name), Symlink: nfs3.Symlinkdata3{SymlinkAttributes: plain(0o777), SymlinkData: []byte(target)},
		})), nfs3.NFS3_OK)
		link, st := g.lookup(g.root, name)
		g.want(name, st, nfs3.NFS3_OK)
		_, st = g.read(link)
		g.want("reading "+name, st, nfs3.NFS3ERR_INVAL)
		g.want("writing "+name, g.write(link, "x"), nfs3.NFS3ERR_INVAL)
		_, st = g.lookup(link, "outside")
		g.want("looking through "+name, st, nfs3.NFS3ERR_NOTDIR)
		g.want("creating through "+name, status(g.call(8, g.createArgs(link, "new"))), nfs3.NFS3ERR_NOTDIR)
		attr := plain(0o777)
		g.want("chmod of "+name, status(g.call(2, &nfs3.Setattr3args{
			Object: nfs3.NfsFh3{Data: link}, NewAttributes: attr, Guard: &nfs3.Sattrguard3_FALSE{},
		})), nfs3.NFS3ERR_NOTSUPP)
	}
}

func TestADirectoryThatBecameALinkIsStale(t *testing.T) {
	g := newGuest(t)
	outside := g.outside()
	dir := filepath.Join(g.folder, "dir")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	g.file(filepath.Join(dir, "outside"), "inside")
	handle, _ := g.lookup(g.root, "dir")
	file, _ := g.lookup(handle, "outside")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), dir); err != nil {
		t.Fatal(err)
	}
	_, st := g.read(file)
	g.want("reading below it", st, nfs3.NFS3ERR_STALE)
	_, st = g.lookup(handle, "outside")
	g.want("looking below it", st, nfs3.NFS3ERR_STALE)
	g.want("creating below it", status(g.call(8, g.createArgs(handle, "new"))), nfs3.NFS3ERR_STALE)
}

// TestSwapsUnderTheServer exchanges a directory for a link to the outside as
// fast as the host can, while the guest reads and writes below it.
func TestSwapsUnderTheServer(t *testing.T) {
	g := newGuest(t)
	g.outside()
	dir, link := filepath.Join(g.folder, "dir"), filepath.Join(g.folder, "link")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..", link); err != nil {
		t.Fatal(err)
	}
	g.file(filepath.Join(dir, "outside"), "inside")
	stop := make(chan struct{})
	var swaps sync.WaitGroup
	swaps.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
			}
		}
	})
	defer swaps.Wait()
	defer close(stop)
	read := 0
	for range 3000 {
		handle, st := g.lookup(g.root, "dir")
		if st != nfs3.NFS3_OK {
			continue
		}
		file, st := g.lookup(handle, "outside")
		if st != nfs3.NFS3_OK {
			continue
		}
		got, st := g.read(file)
		if st == nfs3.NFS3_OK && got != "inside" {
			t.Fatalf("read %q from outside", got)
		}
		if st == nfs3.NFS3_OK {
			read++
		}
		g.write(file, "inside")
	}
	if read == 0 {
		t.Error("nothing was ever read: the test shows nothing")
	}
}

func TestForgedHandles(t *testing.T) {
	g := newGuest(t)
	g.outside()
	other := newGuest(t)
	other.file(filepath.Join(other.folder, "f"), "other's")
	foreign, _ := other.lookup(other.root, "f")
	past := slices.Clone(g.root)
	binary.BigEndian.PutUint64(past[8:], 1<<63)
	for name, c := range map[string]struct {
		handle []byte
		want   nfs3.Nfsstat3
	}{
		"empty":         {nil, nfs3.NFS3ERR_BADHANDLE},
		"short":         {g.root[:15], nfs3.NFS3ERR_BADHANDLE},
		"long":          {append(slices.Clone(g.root), 0), nfs3.NFS3ERR_BADHANDLE},
		"zeros":         {make([]byte, 16), nfs3.NFS3ERR_STALE},
		"another guest": {foreign, nfs3.NFS3ERR_STALE},
		"never given":   {past, nfs3.NFS3ERR_STALE},
	} {
		_, st := g.read(c.handle)
		g.want(name, st, c.want)
		_, st = g.lookup(c.handle, "outside")
		g.want(name, st, c.want)
	}
}

func TestWhatIsMountedInTheFolderIsNotServed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	g := newGuest(t)
	dir := filepath.Join(g.folder, "dir")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	handle, _ := g.lookup(g.root, "dir")
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("mounting: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	g.file(filepath.Join(dir, "f"), "another file system's")
	_, st := g.lookup(g.root, "dir")
	g.want("looking it up", st, nfs3.NFS3ERR_XDEV)
	_, st = g.lookup(handle, "f")
	g.want("looking into it", st, nfs3.NFS3ERR_STALE)
}

func TestSetuidAndDevicesAreRefused(t *testing.T) {
	g := newGuest(t)
	g.want("a file", status(g.call(8, &nfs3.Create3args{
		Where: where(g.root, "f"), How: &nfs3.Createhow3_UNCHECKED{ObjAttributes: plain(0o6755)},
	})), nfs3.NFS3_OK)
	if info, err := os.Stat(filepath.Join(g.folder, "f")); err != nil || info.Mode() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	g.want("a device", status(g.call(11, &nfs3.Mknod3args{
		Where: where(g.root, "null"),
		What: &nfs3.Mknoddata3_NF3CHR{Device: nfs3.Devicedata3{
			DevAttributes: plain(0o666), Spec: nfs3.Specdata3{Specdata1: 1, Specdata2: 3},
		}},
	})), nfs3.NFS3ERR_PERM)
}
