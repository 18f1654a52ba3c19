package vmmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
)

// atOnce bounds how long a driver may take to notice that a machine ended.
const atOnce = time.Second

// exit waits for the end of a machine.
func (s *suite) exit(m vmm.Machine, p vmm.Plan) vmm.Exit {
	s.Helper()
	select {
	case <-m.Done():
	case <-s.ctx.Done():
		s.Fatalf("machine did not end within %v\nconsole: %s", s.Patience, console(p))
	}
	e := m.Exit()
	if e.Time.IsZero() {
		s.Errorf("exit without a time: %+v", e)
	}
	return e
}

func (s *suite) ends(m vmm.Machine, p vmm.Plan, want vmm.Reason) vmm.Exit {
	s.Helper()
	e := s.exit(m, p)
	if e.Reason != want {
		s.Fatalf("machine ended as %+v, want %s\nconsole: %s", e, want, console(p))
	}
	return e
}

func testStop(s *suite) {
	g := s.boot()
	p := g.run("cat")
	if err := g.machine.Stop(s.ctx); err != nil {
		s.Fatalf("stopping: %v", err)
	}
	select {
	case <-g.machine.Done():
	default:
		s.Fatal("Stop returned before the machine had ended")
	}
	s.ends(g.machine, g.plan, vmm.ReasonStopped)
	if n, err := io.Copy(io.Discard, deadline(s, p.stdout)); n != 0 {
		s.Errorf("stream of a stopped machine gave %d bytes, %v", n, err)
	}
	if _, err := proto.ReadStatus(deadline(s, p.status)); err == nil {
		s.Error("stopped machine gave a process status")
	}
}

func testEnded(s *suite) {
	g := s.boot()
	g.machine.Stop(s.ctx)
	for name, call := range map[string]func() error{
		"Connect":  func() error { _, err := g.machine.Connect(s.ctx, proto.PortControl); return err },
		"Pause":    func() error { return g.machine.Pause(s.ctx) },
		"Resume":   func() error { return g.machine.Resume(s.ctx) },
		"Snapshot": func() error { return g.machine.Snapshot(s.ctx, s.files()) },
		"Stop":     func() error { return g.machine.Stop(s.ctx) },
	} {
		err := call()
		if !errors.Is(err, vmm.ErrEnded) && !errors.Is(err, vmm.ErrUnsupported) {
			s.Errorf("%s of an ended machine: %v", name, err)
		}
	}
}

// testPoweroff tries again where the answer came and was not told: ttrpc 1.2.10
// picks at random between an answer and the end of its connection.
func testPoweroff(s *suite) {
	const tries = 3
	var err error
	for range tries {
		if err = poweroff(s); !errors.Is(err, ttrpc.ErrClosed) {
			break
		}
	}
	if err != nil {
		s.Errorf("who waited for the program: %v", err)
	}
}

// poweroff returns what somebody heard who waited for a program meanwhile.
func poweroff(s *suite) error {
	g := s.boot()
	sleep := g.run("sleep")
	told := make(chan error, 1)
	select {
	case <-g.asked: // what was asked before
	default:
	}
	go func() {
		end, err := g.control.Wait(s.ctx, &proto.WaitRequest{Id: sleep.id})
		if err == nil && end.GetSignal() != uint32(syscall.SIGTERM) {
			err = fmt.Errorf("it ended with %+v", end)
		}
		told <- err
	}()
	<-g.asked
	g.control.Hello(s.ctx, &proto.HelloRequest{Version: proto.Version}) // behind the wait
	g.control.Poweroff(s.ctx, &proto.PoweroffRequest{GraceMs: 5000})    // the answer may be lost
	err := <-told
	s.ends(g.machine, g.plan, vmm.ReasonPoweroff)
	io.Copy(io.Discard, deadline(s, sleep.stdout))
	return err
}

func testReboot(s *suite) {
	g := s.boot()
	g.launch("reboot")
	s.ends(g.machine, g.plan, vmm.ReasonPoweroff)
}

func testPanic(s *suite) {
	g := s.boot()
	g.launch("panic")
	s.panicked(g.machine, g.plan)
}

// testPanicAtBoot allows a panic without words: a distribution kernel has no
// console driver built in.
func testPanicAtBoot(s *suite) {
	p := s.Plan(s.T)
	s.PanicAtBoot(s.T, &p)
	m := s.start(p)
	if e := s.ends(m, p, vmm.ReasonPanic); console(p) == "" {
		s.Logf("a panic without words: %s", e.Detail)
	} else {
		s.panicked(m, p)
	}
	select {
	case <-m.Ready():
		s.Error("a guest that panicked at boot is ready")
	default:
	}
}

func (s *suite) panicked(m vmm.Machine, p vmm.Plan) {
	s.Helper()
	e := s.ends(m, p, vmm.ReasonPanic)
	if !strings.Contains(e.Detail, "Kernel panic") {
		s.Errorf("detail %q does not have the panic's words", e.Detail)
	}
	if c := console(p); !strings.Contains(c, "Kernel panic") {
		s.Errorf("console does not have the panic: %q", c)
	}
}

func testKilledAtBoot(s *suite) {
	p := s.Plan(s.T)
	s.NeverReady(s.T, &p) // so that it is not ready by the time it is killed
	s.killed(s.start(p), p)
}

func testKilledRunning(s *suite) {
	g := s.boot()
	p := g.run("cat")
	s.killed(g.machine, g.plan)
	if _, err := proto.ReadStatus(deadline(s, p.status)); err == nil {
		s.Error("killed machine gave a process status")
	}
}

func (s *suite) killed(m vmm.Machine, p vmm.Plan) {
	s.Helper()
	s.Kill(m)
	select {
	case <-m.Done():
	case <-time.After(atOnce):
		s.Errorf("the monitor's death was not noticed within %v", atOnce)
	}
	if e := s.ends(m, p, vmm.ReasonCrashed); e.Detail == "" {
		s.Error("crash without a detail")
	}
}

func testNeverReady(s *suite) {
	p := s.Plan(s.T)
	s.NeverReady(s.T, &p)
	m := s.start(p)
	if c, err := m.Connect(s.ctx, proto.PortControl); err == nil {
		c.Close()
		s.Error("connect before ready worked")
	}
	select {
	case <-m.Ready():
		s.Fatal("a guest without a harness is ready")
	case <-m.Done():
		s.Fatalf("machine ended: %+v", m.Exit())
	case <-time.After(quiet):
	}
	if err := m.Stop(s.ctx); err != nil {
		s.Fatalf("stopping: %v", err)
	}
	s.ends(m, p, vmm.ReasonStopped)
}

func testStartCancelled(s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	m, err := s.Driver.Start(ctx, s.Plan(s.T))
	if err == nil { // the context governs the start only, and it was over at once
		m.Stop(s.ctx)
		<-m.Done()
	}
}
