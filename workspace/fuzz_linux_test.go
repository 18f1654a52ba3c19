package workspace

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// FuzzServe sends what a hostile guest may send. The server must neither end
// nor leave its folder, and must not wait for bytes that were all sent.
func FuzzServe(f *testing.F) {
	g := newGuest(f)
	outside := g.outside()
	g.file(filepath.Join(g.folder, "f"), "content")
	g.conn.Close()
	f.Add([]byte{0x80, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 4, 1, 2, 3, 4, 0x80, 0, 0, 4, 5, 6, 7, 8})
	for _, c := range g.recorded() {
		f.Add(c)
		f.Add(append(bytes.Clone(c), c...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- g.server.Serve(t.Context(), theirs) }()
		go func() { // ends with the connection
			buf := make([]byte, 64<<10)
			for {
				if _, err := ours.Read(buf); err != nil {
					return
				}
			}
		}()
		ours.SetWriteDeadline(time.Now().Add(10 * time.Second))
		ours.Write(data)
		ours.Close()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("the server does not let go of a closed connection")
		}
		if b, err := os.ReadFile(outside); err != nil || string(b) != "secret" {
			t.Fatalf("the file outside: %q, %v", b, err)
		}
	})
}

// recorded are calls of a guest as they are sent.
func (g *guest) recorded() (all [][]byte) {
	ours, theirs := net.Pipe()
	g.conn = theirs
	defer theirs.Close()
	add := func(proc uint32, args ...io.WriterTo) {
		got := make(chan []byte, 1)
		go func() { // ends with the call that is sent next
			record, err := readRecord(ours)
			if err != nil {
				record = nil
			}
			got <- record
		}()
		g.xid++

		g.send(g.xid, nfs3.NFS_PROGRAM_PROGRAM_NUMBER, proc, args...)
		record := <-got
		all = append(all, append(binary.BigEndian.AppendUint32(nil, uint32(len(record))|lastFragment), record...))
	}
	root := nfs3.NfsFh3{Data: g.root}
	add(0)
	add(1, &nfs3.Getattr3args{Object: root})
	add(2, &nfs3.Setattr3args{Object: root, NewAttributes: plain(0o755), Guard: &nfs3.Sattrguard3_FALSE{}})
	add(3, &nfs3.Lookup3args{What: where(g.root, "f")})
	add(4, &nfs3.Access3args{Object: root, Access: 63})
	add(6, &nfs3.Read3args{File: root, Count: 1 << 31})
	add(7, &nfs3.Write3args{File: root, Count: 3, Data: []byte("abc")})
	add(16, &nfs3.Readdir3args{Dir: root, Count: 4096})
	add(17, &nfs3.Readdirplus3args{Dir: root, Dircount: 4096, Maxcount: 4096})
	add(18, &nfs3.Fsstat3args{Fsroot: root})
	for _, c := range []struct {
		proc uint32
		args io.WriterTo
	}{
		{8, g.createArgs(g.root, "made")},
		{12, &nfs3.Remove3args{Object: where(g.root, "made")}},
		{14, &nfs3.Rename3args{From: where(g.root, "f"), To: where(g.root, "g")}},
	} {
		add(c.proc, c.args)
	}
	return all
}
