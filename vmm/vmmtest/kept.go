package vmmtest

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/kept"
	"github.com/xfeldman/aegisvm/vmm"
)

// keep dials an output as one that is kept until it was acknowledged.
func (g *guest) keep(id string, k proto.Kind, from uint64) (*kept.Sink, vmm.Conn, error) {
	g.s.Helper()
	c := g.dial(proto.PortStream)
	if err := proto.WritePrelude(c, proto.Prelude{Kind: k, Process: id, Kept: true, From: from}); err != nil {
		g.s.Fatalf("dialling a kept %s: %v", k, err)
	}
	s, err := kept.NewSink(c, from)
	return s, c, err
}

// testKept plays a host that dies again and again, and whose connections are
// closed, or left open with nobody to read them.
func testKept(s *suite) {
	const lines = 50_000
	g := s.boot()
	id := fmt.Sprintf("p%d", processes.Add(1))
	_, err := g.control.Start(s.ctx, &proto.StartRequest{
		Id: id, Argv: []string{"lines", fmt.Sprint(lines)}, Env: []string{"PATH=/bin"}, Cwd: "/",
		Stdout: proto.Stdio_STDIO_STREAM, Stderr: proto.Stdio_STDIO_STREAM,
	})
	if err != nil {
		s.Fatalf("starting: %v", err)
	}
	var got []byte
	buf := make([]byte, 64<<10)
	for life := 0; ; life++ {
		if life > 20 {
			s.Fatalf("after %d bytes nobody says that that was all", len(got))
		}
		sink, c, err := g.keep(id, proto.Stdout, uint64(len(got)))
		if errors.Is(err, kept.ErrRefused) {
			break // that was all
		}
		if err != nil || sink.Start != uint64(len(got)) {
			s.Fatalf("after %d bytes: %+v, %v", len(got), sink, err)
		}
		deadline(s, c)
		for i := 0; err == nil && (life > 4 || i < 3); i++ {
			var n int
			n, err = sink.Read(buf)
			got = append(got, buf[:n]...)
			if i%2 == 0 && err == nil {
				err = sink.Stored(uint64(len(got)))
			}
		}
		if errors.Is(err, io.EOF) {
			sink.Stored(uint64(len(got)))
		}
		if life%2 == 0 {
			c.Close()
		}
	}
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if string(got) != want.String() {
		s.Errorf("%d bytes came of %d, or others", len(got), want.Len())
	}
	if _, _, err := g.keep("nobody", proto.Stdout, 0); !errors.Is(err, kept.ErrRefused) {
		s.Errorf("an output of nobody: %v", err)
	}
}
