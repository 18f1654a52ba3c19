package process

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/kept"
)

// keep dials a stream of the process as one that is kept.
func (r *run) keep(k proto.Kind, from uint64) (*kept.Sink, net.Conn) {
	r.g.Helper()
	ours, theirs := socketpair(r.g.T)
	go r.g.Serve(theirs, proto.Prelude{Kind: k, Process: r.id, Kept: true, From: from}) // ends with the stream
	s, err := kept.NewSink(ours, from)
	if err != nil {
		r.g.Fatal(err)
	}
	return s, ours
}

func TestAKeptStreamSurvivesItsHost(t *testing.T) {
	g := newGuest(t)
	r := g.start(g.spec("sh", "-c", "echo one; read x; echo two; echo problem >&2"))
	stdin := r.dial(proto.Stdin)
	out, host := r.keep(proto.Stdout, 0)
	if _, err := io.ReadFull(out, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	host.Close() // nothing was acknowledged
	io.WriteString(stdin, "\n")
	out, _ = r.keep(proto.Stdout, 0)
	if got := all(t, out); got != "one\ntwo\n" {
		t.Errorf("output %q", got)
	}
	out.Stored(8)
	errs, _ := r.keep(proto.Stderr, 0)
	if got := all(t, errs); got != "problem\n" {
		t.Errorf("stderr %q", got)
	}
	errs.Stored(8)
	g.Drain(t.Context())
	if p, err := g.get(r.id); err != nil || !p.streams[proto.Stdout].finished() || !p.streams[proto.Stderr].finished() {
		t.Errorf("a stream is not finished, %v", err)
	}
}

func TestTheEndOfAKeptStreamIsTheProcesss(t *testing.T) {
	g := newGuest(t)
	r := g.start(g.spec("sh", "-c", "sleep 1000 & seq 100000"))
	out, _ := r.keep(proto.Stdout, 0)
	stored, lines := 0, 0
	buf := make([]byte, 5000)
	for {
		n, err := out.Read(buf)
		stored += n
		lines += strings.Count(string(buf[:n]), "\n")
		out.Stored(uint64(stored))
		if err != nil {
			break
		}
	}
	if lines != 100000 {
		t.Errorf("%d lines came", lines)
	}
	syscall.Kill(-r.pid, syscall.SIGKILL) // the one left behind
}

func TestAStreamIsKeptOrNot(t *testing.T) {
	g := newGuest(t)
	r := g.run("sh", "-c", "echo a; read x")
	io.ReadFull(r.stdout, make([]byte, 2)) // it is served by now
	_, c := socketpair(t)
	if err := g.Serve(c, proto.Prelude{Kind: proto.Stdout, Process: r.id, Kept: true}); !errors.Is(err, ErrTaken) {
		t.Errorf("keeping a stream that somebody has: %v", err)
	}
	r = g.start(g.spec("sh", "-c", "echo a; read x"))
	r.stdin = r.dial(proto.Stdin)
	r.keep(proto.Stdout, 0)
	_, c = socketpair(t)
	if err := g.Serve(c, proto.Prelude{Kind: proto.Stdout, Process: r.id}); !errors.Is(err, ErrTaken) {
		t.Errorf("taking a kept stream: %v", err)
	}
}

func TestAKeptStreamThatIsNotThereIsRefused(t *testing.T) {
	g := newGuest(t)
	ended := g.start(g.spec("/no/such"))
	for _, id := range []string{ended.id, "nobody"} {
		ours, theirs := socketpair(t)
		if err := g.Serve(theirs, proto.Prelude{Kind: proto.Stdout, Process: id, Kept: true}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
		if _, err := kept.NewSink(ours, 0); !errors.Is(err, kept.ErrRefused) {
			t.Errorf("%s: the host sees %v", id, err)
		}
	}
}
