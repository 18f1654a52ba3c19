package workspace

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/buildbarn/go-xdr/pkg/protocols/mount"
	"github.com/buildbarn/go-xdr/pkg/protocols/rpcv2"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// guest speaks to a server as a guest's kernel does, or as a hostile one.
type guest struct {
	t             testing.TB
	folder, state string
	server        *Server
	conn          net.Conn
	xid           uint32
	root          []byte
	uid           uint32 // whom it calls for
}

// newGuest serves a new folder.
func newGuest(t testing.TB) *guest {
	t.Helper()
	dir := t.TempDir()
	g := &guest{t: t, folder: filepath.Join(dir, "folder"), state: filepath.Join(dir, "state"), xid: 1000}
	for _, d := range []string{g.folder, g.state} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	g.start()
	t.Cleanup(g.kill)
	return g
}

// start starts a server and connects to it.
func (g *guest) start() {
	g.t.Helper()
	root, err := os.Open(g.folder)
	if err != nil {
		g.t.Fatal(err)
	}
	g.server, err = Open(Config{Root: root, State: g.state, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		g.t.Fatal(err)
	}
	g.connect()
}

// connect replaces the connection.
func (g *guest) connect() {
	g.t.Helper()
	ours, theirs := net.Pipe()
	go g.server.Serve(g.t.Context(), theirs) // ends with the connection
	g.conn = ours
	g.root = g.mount()
}

// kill ends the server as a signal would: it does nothing any more.
func (g *guest) kill() {
	g.conn.Close()
	g.server.mu.Lock()
	last := g.server.current
	g.server.mu.Unlock()
	if last != nil {
		<-last.over
	}
	if g.server.table.journal.close() == nil {
		g.server.tree.root.Close()
	}
}

// restart is a kill and the next server.
func (g *guest) restart() {
	g.t.Helper()
	g.kill()
	g.start()
}

// send sends a call with the next number, or with a former one.
func (g *guest) send(xid, prog, proc uint32, args ...io.WriterTo) {
	g.t.Helper()
	var cred, b bytes.Buffer
	(&rpcv2.AuthsysParms{Machinename: "guest", Uid: g.uid, Gid: g.uid}).WriteTo(&cred)
	msg := rpcv2.RpcMsg{Xid: xid, Body: &rpcv2.RpcMsgBody_CALL{Cbody: rpcv2.CallBody{
		Rpcvers: 2, Prog: prog, Vers: 3, Proc: proc, Cred: rpcv2.OpaqueAuth{Flavor: rpcv2.AUTH_SYS, Body: cred.Bytes()},
	}}}
	b.Write(make([]byte, 4))
	msg.WriteTo(&b)
	for _, a := range args {
		a.WriteTo(&b)
	}
	binary.BigEndian.PutUint32(b.Bytes(), uint32(b.Len()-4)|lastFragment)
	if _, err := g.conn.Write(b.Bytes()); err != nil {
		g.t.Fatalf("sending a call: %v", err)
	}
}

// receive reads an answer up to its results.
func (g *guest) receive() (xid uint32, results io.Reader, stat rpcv2.AcceptStat) {
	g.t.Helper()
	record, err := readRecord(g.conn)
	if err != nil {
		g.t.Fatalf("reading an answer: %v", err)
	}
	r := bytes.NewReader(record)
	var msg rpcv2.RpcMsg
	if _, err := msg.ReadFrom(r); err != nil {
		g.t.Fatalf("reading an answer: %v", err)
	}
	body, ok := msg.Body.(*rpcv2.RpcMsgBody_REPLY)
	if !ok {
		g.t.Fatalf("answer %+v", msg)
	}
	reply, ok := body.Rbody.(*rpcv2.ReplyBody_MSG_ACCEPTED)
	if !ok {
		g.t.Fatalf("refused: %+v", body.Rbody)
	}
	return msg.Xid, r, reply.Areply.ReplyData.GetStat()
}

// call makes a call and returns its results.
func (g *guest) call(proc uint32, args ...io.WriterTo) io.Reader {
	g.t.Helper()
	g.xid++
	g.send(g.xid, nfs3.NFS_PROGRAM_PROGRAM_NUMBER, proc, args...)
	xid, r, stat := g.receive()
	if xid != g.xid || stat != rpcv2.SUCCESS {
		g.t.Fatalf("answer to %d with %v, expected %d", xid, stat, g.xid)
	}
	return r
}

// repeat makes the last call once more.
func (g *guest) repeat(proc uint32, args ...io.WriterTo) io.Reader {
	g.t.Helper()
	g.xid--
	return g.call(proc, args...)
}

type text []byte

func (t text) WriteTo(w io.Writer) (int64, error) {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(t)))
	b = append(b, t...)
	n, err := w.Write(append(b, make([]byte, -len(t)&3)...))
	return int64(n), err
}

func (g *guest) mount() []byte {
	g.t.Helper()
	g.xid++
	g.send(g.xid, mount.MOUNT_PROGRAM_PROGRAM_NUMBER, 1, text("/"))
	_, r, _ := g.receive()
	res, _, err := mount.ReadMountres3(r)
	if err != nil || res.GetFhsStatus() != mount.MNT3_OK {
		g.t.Fatalf("mount: %+v, %v", res, err)
	}
	return res.(*mount.Mountres3_MNT3_OK).Mountinfo.Fhandle
}

func where(dir []byte, name string) nfs3.Diropargs3 {
	return nfs3.Diropargs3{Dir: nfs3.NfsFh3{Data: dir}, Name: []byte(name)}
}

// status reads the status that every result begins with.
func status(r io.Reader) nfs3.Nfsstat3 {
	var n uint32
	if binary.Read(r, binary.BigEndian, &n) != nil {
		return -1
	}
	return nfs3.Nfsstat3(n)
}

// plain are attributes that change nothing but the mode.
func plain(mode uint32) nfs3.Sattr3 {
	return nfs3.Sattr3{
		Mode: &nfs3.SetMode3_TRUE{Mode: mode}, Uid: &nfs3.SetUid3_default{}, Gid: &nfs3.SetGid3_default{},
		Size: &nfs3.SetSize3_default{}, Atime: &nfs3.SetAtime_default{}, Mtime: &nfs3.SetMtime_default{},
	}
}

func (g *guest) lookup(dir []byte, name string) ([]byte, nfs3.Nfsstat3) {
	g.t.Helper()
	res, _, err := nfs3.ReadLookup3res(g.call(3, &nfs3.Lookup3args{What: where(dir, name)}))
	if err != nil {
		g.t.Fatal(err)
	}
	if ok, is := res.(*nfs3.Lookup3res_NFS3_OK); is {
		return ok.Resok.Object.Data, nfs3.NFS3_OK
	}
	return nil, res.GetStatus()
}

func (g *guest) read(file []byte) (string, nfs3.Nfsstat3) {
	g.t.Helper()
	res, _, err := nfs3.ReadRead3res(g.call(6, &nfs3.Read3args{File: nfs3.NfsFh3{Data: file}, Count: 4096}))
	if err != nil {
		g.t.Fatal(err)
	}
	if ok, is := res.(*nfs3.Read3res_NFS3_OK); is {
		return string(ok.Resok.Data), nfs3.NFS3_OK
	}
	return "", res.GetStatus()
}

func (g *guest) write(file []byte, data string) nfs3.Nfsstat3 {
	g.t.Helper()
	return status(g.call(7, &nfs3.Write3args{
		File: nfs3.NfsFh3{Data: file}, Count: uint32(len(data)), Stable: nfs3.FILE_SYNC, Data: []byte(data),
	}))
}

func (g *guest) createArgs(dir []byte, name string) *nfs3.Create3args {
	return &nfs3.Create3args{Where: where(dir, name), How: &nfs3.Createhow3_GUARDED{ObjAttributes: plain(0o644)}}
}

// want fails the test unless a status is the expected one.
func (g *guest) want(what string, got, expected nfs3.Nfsstat3) {
	g.t.Helper()
	if got != expected {
		g.t.Errorf("%s: %s, expected %s", what, nfs3.Nfsstat3_name[got], nfs3.Nfsstat3_name[expected])
	}
}

// file writes a file on the host.
func (g *guest) file(path, content string) {
	g.t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		g.t.Fatal(err)
	}
}
