package vmmtest

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm/fake/program"
)

func testHello(s *suite) {
	g := s.raw(s.Plan(s.T))
	r, err := g.control.Hello(s.ctx, &proto.HelloRequest{Version: proto.Version})
	if err != nil || r.GetBootId() == "" {
		s.Fatalf("hello: boot id %q, error %v", r.GetBootId(), err)
	}
	if _, err := g.control.Hello(s.ctx, &proto.HelloRequest{Version: 99_000}); err == nil {
		s.Fatal("the guest took a host of another major version")
	}
}

func testIdentity(s *suite) {
	g := s.raw(s.Plan(s.T))
	_, err := g.control.Start(s.ctx, &proto.StartRequest{Id: "early", Argv: []string{"true"}, Env: []string{"PATH=/bin"}, Cwd: "/"})
	if err == nil {
		s.Fatal("a process started before SetIdentity")
	}
	g.identify()
	if st := g.run("true").ended(); st.Code != 0 {
		s.Fatalf("status %+v after SetIdentity", st)
	}
	g.identify() // as after a restore
}

func testExitCodes(s *suite) {
	g := s.boot()
	for _, c := range []struct {
		argv []string
		want proto.ProcessStatus
	}{
		{[]string{"true"}, proto.ProcessStatus{}},
		{[]string{"false"}, proto.ProcessStatus{Code: 1}},
		{[]string{"exit", "42"}, proto.ProcessStatus{Code: 42}},
		{[]string{"exit", "255"}, proto.ProcessStatus{Code: 255}},
		{[]string{"kill", "9"}, proto.ProcessStatus{Code: 137, Signal: 9}},
		{[]string{"kill", "15"}, proto.ProcessStatus{Code: 143, Signal: 15}},
		{[]string{"no-such-program"}, proto.ProcessStatus{Code: 127}},
		{[]string{"/"}, proto.ProcessStatus{Code: 126}},
	} {
		got := g.run(c.argv...).ended()
		message := got.Message
		got.Message = ""
		if got != c.want {
			s.Errorf("%q: status %+v (%s), want %+v", c.argv, got, message, c.want)
		}
		if (message != "") != (c.want.Code == 126 || c.want.Code == 127) {
			s.Errorf("%q: message %q", c.argv, message)
		}
	}
}

func testEnvironment(s *suite) {
	g := s.boot()
	if got := g.run("echo", "a  b", "", "ü\tc").answer(); got != "a  b  ü\tc" {
		s.Errorf("argv came out as %q", got)
	}
	out, _ := io.ReadAll(deadline(s, g.run("env").stdout))
	if !strings.Contains(string(out), "GREETING=hello world\n") {
		s.Errorf("environment came out as %q", out)
	}
}

func testSignal(s *suite) {
	g := s.boot()
	p := g.run("trap")
	if got := p.answer(); got != "ready" {
		s.Fatalf("trap said %q", got)
	}
	for _, n := range []uint32{2, 15} {
		if _, err := g.control.Signal(s.ctx, &proto.SignalRequest{Id: p.id, Signal: n}); err != nil {
			s.Fatalf("signal %d: %v", n, err)
		}
		if got, want := p.answer(), fmt.Sprintf("signal %d", n); got != want {
			s.Fatalf("trap said %q, want %q", got, want)
		}
	}
	if st := p.ended(); st.Code != 0 {
		s.Errorf("trap ended with %+v", st)
	}
}

func testHalfClose(s *suite) {
	p := s.boot().run("cat")
	if got := p.ask("one"); got != "one" {
		s.Fatalf("cat said %q", got)
	}
	p.say("two")
	if err := p.stdin.CloseWrite(); err != nil {
		s.Fatalf("half-closing stdin: %v", err)
	}
	rest, err := io.ReadAll(io.MultiReader(p.lines, deadline(s, p.stdout)))
	if string(rest) != "two\n" || err != nil {
		s.Fatalf("after the half-close: %q, %v", rest, err)
	}
	if st := p.ended(); st.Code != 0 {
		s.Errorf("cat ended with %+v", st)
	}
}

func testManyBytes(s *suite) { bytesArrive(s, 20<<20) }

// testLongLine reads as a line what has no newline in 10 MiB.
func testLongLine(s *suite) { bytesArrive(s, 10<<20) }

func bytesArrive(s *suite, n int) {
	p := s.boot().run("bytes", fmt.Sprint(n))
	out, err := io.ReadAll(deadline(s, p.stdout))
	if err != nil || len(out) != n {
		s.Fatalf("%d bytes of %d arrived, error %v", len(out), n, err)
	}
	for i, b := range out {
		if b != program.Pattern(i) {
			s.Fatalf("byte %d is %q, want %q", i, b, program.Pattern(i))
		}
	}
	if e, err := io.ReadAll(deadline(s, p.stderr)); string(e) != "done\n" || err != nil {
		s.Errorf("stderr %q, %v", e, err)
	}
	if st := p.ended(); st.Code != 0 {
		s.Errorf("status %+v", st)
	}
}

func testManyLines(s *suite) {
	const n = 20_000
	p := s.boot().run("lines", fmt.Sprint(n))
	out, err := io.ReadAll(deadline(s, p.stdout))
	if err != nil {
		s.Fatalf("reading: %v", err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != n {
		s.Fatalf("%d lines of %d arrived", len(lines), n)
	}
	for i, l := range lines {
		if l != fmt.Sprintf("line %d", i) {
			s.Fatalf("line %d is %q", i, l)
		}
	}
}

func testBackPressure(s *suite) {
	g := s.boot()
	slow := g.run("yes")
	if _, err := io.ReadFull(deadline(s, slow.stdout), make([]byte, 1<<20)); err != nil {
		s.Fatalf("reading from yes: %v", err)
	}
	// Nobody reads any more; another process must be served all the same.
	if got := g.run("cat").ask("still here"); got != "still here" {
		s.Fatalf("cat said %q", got)
	}
	if _, err := g.control.Signal(s.ctx, &proto.SignalRequest{Id: slow.id, Signal: 9}); err != nil {
		s.Fatalf("signal: %v", err)
	}
	if st := slow.ended(); st.Signal != 9 {
		s.Errorf("yes ended with %+v", st)
	}
}

func testManyStreams(s *suite) {
	g := s.boot()
	const n = 8
	ps := make([]*process, n)
	for i := range ps {
		ps[i] = g.run("cat")
	}
	var wg sync.WaitGroup
	for i, p := range ps {
		want := strings.Repeat(fmt.Sprintf("process %d;", i), 20_000)
		wg.Go(func() {
			io.WriteString(p.stdin, want)
			p.stdin.CloseWrite()
		})
		wg.Go(func() {
			if got, err := io.ReadAll(deadline(s, p.stdout)); string(got) != want || err != nil {
				s.Errorf("process %d: %d bytes of %d, %v", i, len(got), len(want), err)
			}
		})
	}
	wg.Wait()
}
