package vmmtest

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
)

// quiet is how long a paused guest is given to answer wrongly.
const quiet = 300 * time.Millisecond

func (g *guest) pause() {
	g.s.Helper()
	g.turned("pause", g.machine.Pause(g.s.ctx))
}

func (g *guest) resume() {
	g.s.Helper()
	g.turned("resume", g.machine.Resume(g.s.ctx))
}

// turned skips the test of a driver that cannot.
func (g *guest) turned(what string, err error) {
	g.s.Helper()
	switch {
	case errors.Is(err, vmm.ErrUnsupported):
		g.s.Skipf("SKIPPED: driver %s cannot %s: %v", g.s.support.Driver, what, err)
	case err != nil:
		g.s.Fatalf("%s: %v", what, err)
	}
}

// sleepsUntilResumed asks a paused guest for its second count, which it gives
// when it goes on.
func (p *process) sleepsUntilResumed() {
	g, s := p.g, p.g.s
	s.Helper()
	p.say("n")
	p.stdout.SetReadDeadline(time.Now().Add(quiet))
	if b, err := p.lines.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		s.Fatalf("a paused guest answered %q, %v", b, err)
	}
	g.resume()
	if got := p.answer(); got != "2" {
		s.Fatalf("answer after the resume: %q", got)
	}
}

func testPause(s *suite) {
	g := s.boot()
	p := g.run("count")
	if got := p.ask("n"); got != "1" {
		s.Fatalf("first answer %q", got)
	}
	g.pause()
	p.sleepsUntilResumed()
	if got := p.ask("n"); got != "3" {
		s.Fatalf("second answer after the resume: %q", got)
	}
}

// testConnectPaused allows both that Connect waits and that what was dialled
// does: no byte may come from a paused guest.
func testConnectPaused(s *suite) {
	g := s.boot()
	p := g.run("count")
	g.pause()
	q := &process{g: g, id: p.id}
	answered := make(chan error, 1)
	go func() {
		c, err := g.machine.Connect(s.ctx, proto.PortStream)
		if err != nil {
			answered <- err
			return
		}
		q.status = c
		if err := proto.WritePrelude(c, proto.Prelude{Kind: proto.Status, Process: p.id}); err != nil {
			answered <- err
			return
		}
		_, err = proto.ReadStatus(c)
		answered <- err
	}()
	p.stdin.CloseWrite() // ends the program once the guest runs
	select {
	case err := <-answered:
		s.Fatalf("a paused guest served a new connection: %v", err)
	case <-time.After(quiet):
	}
	short, cancel := context.WithTimeout(s.ctx, quiet)
	defer cancel()
	if c, err := g.machine.Connect(short, proto.PortControl); err == nil {
		defer c.Close()
	} else if !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("connect with a context that ends: %v", err)
	}
	g.resume()
	select {
	case err := <-answered:
		if err != nil {
			s.Errorf("connection made during the pause: %v", err)
		}
		q.status.Close()
	case <-s.ctx.Done():
		s.Fatal("connection made during the pause was not served after the resume")
	}
}

func testPauseTwice(s *suite) {
	g := s.boot()
	p := g.run("count")
	g.resume()
	g.pause()
	g.pause()
	g.resume()
	g.resume()
	if got := p.ask("n"); got != "1" {
		s.Fatalf("answer %q", got)
	}
}

// testPauseGivenUp does not say whether the guest is paused by a call whose
// context has ended, but the resume must know.
func testPauseGivenUp(s *suite) {
	g := s.boot()
	p := g.run("count")
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	for range 20 { // with each, the command may have been sent or not
		if err := g.machine.Pause(ended); err != nil && !errors.Is(err, context.Canceled) {
			g.turned("pause", err)
		}
	}
	g.resume()
	if got := p.ask("n"); got != "1" {
		s.Fatalf("answer %q", got)
	}
	g.pause()
	for range 20 {
		if err := g.machine.Resume(ended); err != nil && !errors.Is(err, context.Canceled) {
			g.turned("resume", err)
		}
	}
	g.pause()
	p.sleepsUntilResumed()
}

func testNoListener(s *suite) {
	g := s.boot()
	c, err := g.machine.Connect(s.ctx, 4000)
	if err != nil {
		return
	}
	defer c.Close()
	if n, err := deadline(s, c).Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		s.Fatalf("a port where nobody listens gave %d bytes, %v", n, err)
	}
}
