package workspace

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// changes are calls that must not be carried out twice, in an order in which
// each finds what it needs.
func (g *guest) changes() []struct {
	name string
	proc uint32
	args io.WriterTo
} {
	var f []byte
	if h, st := g.lookup(g.root, "f"); st == nfs3.NFS3_OK {
		f = h
	}
	return []struct {
		name string
		proc uint32
		args io.WriterTo
	}{
		{"create", 8, g.createArgs(g.root, "made")},
		{"exclusive create", 8, &nfs3.Create3args{Where: where(g.root, "mine"), How: &nfs3.Createhow3_EXCLUSIVE{Verf: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}}},
		{"mkdir", 9, &nfs3.Mkdir3args{Where: where(g.root, "dir"), Attributes: plain(0o755)}},
		{"symlink", 10, &nfs3.Symlink3args{Where: where(g.root, "link"), Symlink: nfs3.Symlinkdata3{SymlinkAttributes: plain(0o777), SymlinkData: []byte("f")}}},
		{"mknod", 11, &nfs3.Mknod3args{Where: where(g.root, "fifo"), What: &nfs3.Mknoddata3_NF3FIFO{PipeAttributes: plain(0o644)}}},
		{"link", 15, &nfs3.Link3args{File: nfs3.NfsFh3{Data: f}, Link: where(g.root, "hard")}},
		{"rename", 14, &nfs3.Rename3args{From: where(g.root, "f"), To: where(g.root, "g")}},
		{"rename over", 14, &nfs3.Rename3args{From: where(g.root, "g"), To: where(g.root, "victim")}},
		{"remove", 12, &nfs3.Remove3args{Object: where(g.root, "made")}},
		{"rmdir", 13, &nfs3.Rmdir3args{Object: where(g.root, "dir")}},
	}
}

// TestRepeatedCalls repeats each call as a guest does that got no answer: on
// the connection, on a new one, and to a server that was started meanwhile.
func TestRepeatedCalls(t *testing.T) {
	for name, between := range map[string]func(*guest){
		"at once":             func(*guest) {},
		"on a new connection": (*guest).reconnect,
		"to a new server":     (*guest).restart,
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.file(filepath.Join(g.folder, "f"), "1")
			g.file(filepath.Join(g.folder, "victim"), "2")
			for _, c := range g.changes() {
				g.want(c.name, status(g.call(c.proc, c.args)), nfs3.NFS3_OK)
				xid := g.xid
				between(g)
				g.xid = xid
				g.want(c.name+" again", status(g.repeat(c.proc, c.args)), nfs3.NFS3_OK)
				g.xid += 100
			}
			if b, err := os.ReadFile(filepath.Join(g.folder, "victim")); err != nil || string(b) != "1" {
				t.Errorf("victim: %q, %v", b, err)
			}
			got, _ := os.ReadDir(g.folder)
			if len(got) != 5 { // mine, link, fifo, hard, victim
				t.Errorf("left: %v", got)
			}
		})
	}
}

func (g *guest) reconnect() { g.connect() }

// TestCallsAnewAreNotRepeats makes the same calls once more with numbers of
// their own: they fail as they should.
func TestCallsAnewAreNotRepeats(t *testing.T) {
	g := newGuest(t)
	g.file(filepath.Join(g.folder, "f"), "1")
	g.want("remove", status(g.call(12, &nfs3.Remove3args{Object: where(g.root, "f")})), nfs3.NFS3_OK)
	g.restart()
	g.want("another remove", status(g.call(12, &nfs3.Remove3args{Object: where(g.root, "f")})), nfs3.NFS3ERR_NOENT)
	g.want("mkdir", status(g.call(9, &nfs3.Mkdir3args{Where: where(g.root, "d"), Attributes: plain(0o755)})), nfs3.NFS3_OK)
	g.restart()
	g.want("another mkdir", status(g.call(9, &nfs3.Mkdir3args{Where: where(g.root, "d"), Attributes: plain(0o755)})), nfs3.NFS3ERR_EXIST)
}

// TestKilledBeforeTheCallWasCarriedOut leaves an intent without its deed.
func TestKilledBeforeTheCallWasCarriedOut(t *testing.T) {
	g := newGuest(t)
	g.file(filepath.Join(g.folder, "f"), "1")
	args := &nfs3.Rename3args{From: where(g.root, "f"), To: where(g.root, "g")}
	g.want("rename", status(g.call(14, args)), nfs3.NFS3_OK)
	xid := g.xid
	if err := os.Rename(filepath.Join(g.folder, "g"), filepath.Join(g.folder, "f")); err != nil {
		t.Fatal(err)
	}
	g.restart()
	g.xid = xid
	g.want("rename again", status(g.repeat(14, args)), nfs3.NFS3_OK)
	if _, err := os.Stat(filepath.Join(g.folder, "g")); err != nil {
		t.Errorf("it was told to be done and was not: %v", err)
	}
}

// TestHandlesOutliveTheServer uses handles of one server with the next ones,
// through renames of what is above them.
func TestHandlesOutliveTheServer(t *testing.T) {
	g := newGuest(t)
	if err := os.MkdirAll(filepath.Join(g.folder, "a/b/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	g.file(filepath.Join(g.folder, "a/b/c/f"), "content")
	file := g.root
	for _, name := range []string{"a", "b", "c", "f"} {
		file, _ = g.lookup(file, name)
	}
	for i, rename := range [][2]string{{"a", "x"}, {"x", "y"}} {
		g.restart()
		if got, st := g.read(file); st != nfs3.NFS3_OK || got != "content" {
			t.Fatalf("after restart %d: %q, %v", i, got, st)
		}
		g.want("rename", status(g.call(14, &nfs3.Rename3args{From: where(g.root, rename[0]), To: where(g.root, rename[1])})), nfs3.NFS3_OK)
		if got, st := g.read(file); st != nfs3.NFS3_OK || got != "content" {
			t.Fatalf("after rename %d: %q, %v", i, got, st)
		}
	}
	if err := g.server.table.journal.rewrite(g.server.table.all()); err != nil {
		t.Fatal(err)
	}
	g.restart()
	if got, st := g.read(file); st != nfs3.NFS3_OK || got != "content" {
		t.Fatalf("after a rewrite: %q, %v", got, st)
	}
	g.want("remove", status(g.call(12, &nfs3.Remove3args{Object: where(parentOf(g, "y", "b", "c"), "f")})), nfs3.NFS3_OK)
	g.file(filepath.Join(g.folder, "y/b/c/f"), "another file")
	g.restart()
	_, st := g.read(file)
	g.want("a removed file", st, nfs3.NFS3ERR_STALE)
}

func parentOf(g *guest, names ...string) []byte {
	dir := g.root
	for _, n := range names {
		dir, _ = g.lookup(dir, n)
	}
	return dir
}

// TestTornJournal cuts the journal anywhere: what was whole before is kept.
func TestTornJournal(t *testing.T) {
	g := newGuest(t)
	g.file(filepath.Join(g.folder, "f"), "content")
	file, _ := g.lookup(g.root, "f")
	path := filepath.Join(g.state, "journal")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g.lookup(g.root, "none")
	for _, tail := range [][]byte{{1}, {9, 0, 0, 0, 1, 2, 3, 4, 5}, {2, 0, 0, 0, 0, 0, 0, 0, 'n', 1}, {255, 255, 255, 255, 0, 0, 0, 0}} {
		g.kill()
		if err := os.WriteFile(path, append(bytes.Clone(whole), tail...), 0o600); err != nil {
			t.Fatal(err)
		}
		g.start()
		if got, st := g.read(file); st != nfs3.NFS3_OK || got != "content" {
			t.Errorf("tail %v: %q, %v", tail, got, st)
		}
	}
}
