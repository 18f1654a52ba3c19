package vmmtest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
)

// copySize is more than every buffer on the way holds.
const copySize = 8 << 20

// content is a byte of a file that is copied: with a period that no power of two
// divides.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// copied is the archive of a folder "d" with a large file in it.
func (g *guest) copied() []byte {
	g.s.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750})
	if err == nil {
		err = w.WriteHeader(&tar.Header{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o640, Size: copySize})
	}
	if err == nil {
		_, err = w.Write(content(copySize))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		g.s.Fatal(err)
	}
	return b.Bytes()
}

// bytesOf dials the bytes of a copy.
func (g *guest) bytesOf(id string) vmm.Conn {
	g.s.Helper()
	return (&process{g: g, id: id}).stream(proto.Archive)
}

func (g *guest) verdict(id string) proto.End {
	g.s.Helper()
	p := &process{g: g, id: id}
	end, err := proto.ReadEnd(deadline(g.s, p.stream(proto.Status)))
	if err != nil {
		g.s.Fatalf("how copy %s went: %v", id, err)
	}
	return end
}

func (g *guest) copyIn(id, path string) vmm.Conn {
	g.s.Helper()
	if _, err := g.control.CopyIn(g.s.ctx, &proto.CopyInRequest{Id: id, Path: path}); err != nil {
		g.s.Fatalf("copy in: %v", err)
	}
	return g.bytesOf(id)
}

func testCopies(s *suite) {
	g := s.boot()
	in := g.copyIn("in", "/tmp")
	if _, err := in.Write(g.copied()); err != nil {
		s.Fatalf("copying in: %v", err)
	}
	if err := in.CloseWrite(); err != nil {
		s.Fatal(err)
	}
	if end := g.verdict("in"); end.Code != 0 {
		s.Fatalf("copying in: %+v", end)
	}
	if _, err := g.control.CopyOut(s.ctx, &proto.CopyOutRequest{Id: "out", Path: "/tmp/d"}); err != nil {
		s.Fatalf("copy out: %v", err)
	}
	b, err := io.ReadAll(deadline(s, g.bytesOf("out")))
	if err != nil {
		s.Fatalf("copying out: %v", err)
	}
	if end := g.verdict("out"); end.Code != 0 || end.Output == nil || end.Output.Stdout != int64(len(b)) {
		s.Errorf("copying out: %+v, and %d bytes came", end, len(b))
	}
	s.unpacked(b)
	left := g.copyIn("left", "/tmp/d")
	if _, err := left.Write(g.copied()[:copySize/2]); err != nil {
		s.Fatalf("copying in: %v", err)
	}
	if err := left.CloseWrite(); err != nil {
		s.Fatal(err)
	}
	if end := g.verdict("left"); end.Code != 1 || !strings.Contains(end.Message, "breaks off") {
		s.Errorf("a copy that is left: %+v", end)
	}
	unwanted := g.copyIn("unwanted", "/tmp")
	garbage := content(1 << 20)
	for err = nil; err == nil && s.ctx.Err() == nil; {
		_, err = unwanted.Write(garbage)
	}
	if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		s.Errorf("writing what the guest does not want: %v", err)
	}
	if end := g.verdict("unwanted"); end.Code != 1 || !strings.Contains(end.Message, "not a tar archive") {
		s.Errorf("a copy of garbage: %+v", end)
	}
}

// unpacked wants the archive to be that of copied.
func (s *suite) unpacked(b []byte) {
	s.Helper()
	r := tar.NewReader(bytes.NewReader(b))
	for _, want := range []string{"d/", "d/f"} {
		h, err := r.Next()
		if err != nil || h.Name != want {
			s.Fatalf("entry %+v, %v; want %s", h, err, want)
		}
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content(copySize)) {
		s.Errorf("other bytes came back: %d, %v", len(got), err)
	}
}
