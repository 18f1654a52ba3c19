package vmmtest

import (
	"bufio"
	"io"
	"strings"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// console starts a program on a terminal of 24 rows and 80 columns. Its
// terminal takes the place of stdin and stdout.
func (g *guest) console(argv ...string) *process {
	g.s.Helper()
	r := request(argv...)
	r.Terminal = &proto.Tty{Rows: 24, Cols: 80, Term: "vt100"}
	p := g.start(r)
	p.stdout, p.status = p.stream(proto.Terminal), p.stream(proto.Status)
	p.stdin, p.lines = p.stdout, bufio.NewReader(p.stdout)
	return p
}

// shows wants a line of a terminal.
func (p *process) shows(line string) {
	p.g.s.Helper()
	if got := strings.TrimSuffix(p.answer(), "\r"); got != line {
		p.g.s.Fatalf("the terminal shows %q, want %q", got, line)
	}
}

func (p *process) types(text string) {
	p.g.s.Helper()
	if _, err := io.WriteString(p.stdin, text); err != nil {
		p.g.s.Fatalf("typing %q: %v", text, err)
	}
}

func testTerminal(s *suite) {
	g := s.boot()
	p := g.console("size")
	p.shows("24 80")
	if _, err := g.control.Resize(s.ctx, &proto.ResizeRequest{Id: p.id, Rows: 60, Cols: 200}); err != nil {
		s.Fatalf("resizing: %v", err)
	}
	p.shows("60 200")
	p.types("\x03")
	p.shows("^Csignal 2")
	p.types("hello\r")
	p.shows("hello")
	if _, err := g.control.Signal(s.ctx, &proto.SignalRequest{Id: p.id, Signal: 15}); err != nil {
		s.Fatalf("signal: %v", err)
	}
	if st := p.ended(); st.Code != 0 {
		s.Errorf("size ended with %+v", st)
	}
	cat := g.console("cat")
	cat.types("one\r")
	cat.shows("one")
	cat.shows("one")
	cat.types("\x04")
	if rest, err := io.ReadAll(cat.lines); len(rest) > 0 || err != nil {
		s.Errorf("after the end: %q, %v", rest, err)
	}
	if st := cat.ended(); st.Code != 0 {
		s.Errorf("cat ended with %+v", st)
	}
}

func testLifetimes(s *suite) {
	g := s.boot()
	r := request("cat")
	r.Lifetime = proto.Lifetime_LIFETIME_CLIENT
	bound := g.start(r)
	bound.open()
	bound.ask("here")
	bound.status.Close()
	end, err := g.control.Wait(s.ctx, &proto.WaitRequest{Id: bound.id})
	if err != nil || end.GetSignal() != 1 {
		s.Errorf("without its client: %v, %v", end, err)
	}
	r = request("cat")
	r.Lifetime, r.Terminal = proto.Lifetime_LIFETIME_DETACHED, &proto.Tty{}
	free := g.start(r)
	for range 3 {
		free.stdout = free.stream(proto.Terminal)
		free.stdin, free.lines = free.stdout, bufio.NewReader(free.stdout)
		free.types("word\r")
		free.shows("word")
		free.shows("word")
		free.stdout.Close()
		g.awaitLeft(free.id)
	}
	if _, err := g.control.Signal(s.ctx, &proto.SignalRequest{Id: free.id, Signal: 9}); err != nil {
		s.Fatalf("signal: %v", err)
	}
	free.status = free.stream(proto.Status)
	if st := free.ended(); st.Signal != 9 {
		s.Errorf("the detached one ended with %+v", st)
	}
}

// awaitLeft returns when the guest knows that nobody holds a process's output.
func (g *guest) awaitLeft(id string) {
	g.s.Helper()
	for g.s.ctx.Err() == nil {
		r, err := g.control.List(g.s.ctx, &proto.Empty{})
		if err != nil {
			g.s.Fatalf("list: %v", err)
		}
		for _, p := range r.GetProcesses() {
			if p.GetId() == id && !p.GetAttached() {
				return
			}
		}
	}
	g.s.Fatalf("process %s is still attached", id)
}
