package vmmtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
)

// files makes an empty snapshot.
func (s *suite) files() vmm.Snapshot {
	s.Helper()
	dir := s.TempDir()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() { f.Close() })
		return f
	}
	return vmm.Snapshot{State: open("state"), Memory: open("memory")}
}

// counted boots a machine with a counter that has answered once and whose
// memory holds As.
func (s *suite) counted() (*guest, *process) {
	s.Helper()
	g := s.boot()
	p := g.run("count", fmt.Sprint(16<<20))
	if got := p.ask("fill A"); got != "filled A" {
		s.Fatalf("counter said %q", got)
	}
	return g, p
}

// snapshot pauses a machine and snapshots it. Output that the guest does not
// know to be delivered yet is sent again to the host that attaches next, so
// the guest is given the time to learn it: its answers leave in order.
func (g *guest) snapshot() vmm.Snapshot {
	g.s.Helper()
	for range 2 {
		if _, err := g.control.Hello(g.s.ctx, &proto.HelloRequest{Version: proto.Version}); err != nil {
			g.s.Fatalf("hello before the snapshot: %v", err)
		}
	}
	g.pause()
	f := g.s.files()
	if err := g.machine.Snapshot(g.s.ctx, f); err != nil {
		g.s.Fatalf("snapshotting: %v", err)
	}
	return f
}

func (g *guest) stop() {
	g.s.Helper()
	if err := g.machine.Stop(g.s.ctx); err != nil {
		g.s.Fatalf("stopping: %v", err)
	}
}

// restore starts another machine from a snapshot of g, with g's disks.
func (g *guest) restore(f vmm.Snapshot) *guest {
	g.s.Helper()
	return g.restoreOn(f, g.plan.Disks)
}

// restoreOn gives it other disks.
func (g *guest) restoreOn(f vmm.Snapshot, disks []vmm.Disk) *guest {
	g.s.Helper()
	p := g.s.Plan(g.s.T)
	p.Disks, p.Restore = disks, &f
	return g.s.woken(p)
}

// twins makes a copy of the writable disks: a monitor may refuse one that
// another has.
func (s *suite) twins(disks []vmm.Disk) (own []vmm.Disk) {
	s.Helper()
	for _, d := range disks {
		if !d.ReadOnly {
			to := filepath.Join(s.TempDir(), string(d.Role))
			from := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), d.File.Fd())
			if out, err := exec.Command("cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
				s.Fatalf("copying disk %s: %v: %s", d.Role, err, out)
			}
			d.File = open(s.T, to, os.O_RDWR)
		}
		own = append(own, d)
	}
	return own
}

// woken starts a machine from a snapshot and lets it go on.
func (s *suite) woken(p vmm.Plan) *guest {
	s.Helper()
	g := &guest{s: s, machine: s.start(p), plan: p}
	g.resume()
	g.attach()
	return g
}

// again is process p in another machine: the host attaches anew.
func (p *process) again(g *guest) *process {
	g.s.Helper()
	if g.s.StreamsEnd {
		g.s.Skip("SKIPPED from here on: a restored guest of this driver has seen the end of the program's input")
	}
	q := &process{g: g, id: p.id}
	q.open()
	return q
}

// says compares what the counter answers.
func (p *process) says(line, want string) {
	p.g.s.Helper()
	if got := p.ask(line); got != want {
		p.g.s.Errorf("counter said %q to %q, want %q", got, line, want)
	}
}

// testSnapshotDetached is of programs as a host leaves them that sleep: nobody
// is connected to them.
func testSnapshotDetached(s *suite) {
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
	cat := g.start(&proto.StartRequest{ // it waits for input that nobody gives
		Argv: []string{"cat"}, Env: []string{"PATH=/bin"}, Cwd: "/", Stdin: proto.Stdio_STDIO_STREAM,
		Lifetime: proto.Lifetime_LIFETIME_DETACHED,
	})
	for range 2 { // a machine that was restored is as good as one that booted
		f := g.snapshot()
		g.stop()
		g = g.restore(f)
	}
	g.identify()
	if _, err := g.control.CopyOut(s.ctx, &proto.CopyOutRequest{Id: "out", Path: "/tmp/d"}); err != nil {
		s.Fatalf("copy out: %v", err)
	}
	b, err := io.ReadAll(deadline(s, g.bytesOf("out")))
	if err != nil {
		s.Fatalf("copying out: %v", err)
	}
	s.unpacked(b)
	if _, err := g.control.Signal(s.ctx, &proto.SignalRequest{Id: cat.id, Signal: uint32(syscall.SIGKILL)}); err != nil {
		s.Fatalf("signal: %v", err)
	}
	if end, err := g.control.Wait(s.ctx, &proto.WaitRequest{Id: cat.id}); err != nil || end.GetSignal() != uint32(syscall.SIGKILL) {
		s.Errorf("the process of before ended with %+v, %v", end, err)
	}
	if st := g.run("exit", "7").ended(); st.Code != 7 {
		s.Errorf("a process in the restored guest ended with %+v", st)
	}
}

func testSnapshot(s *suite) {
	g, p := s.counted()
	f := g.snapshot()
	g.stop()
	r := g.restore(f)
	q := p.again(r)
	q.says("check", "1 kinds A")
	q.says("n", "3")
	r.identify()
	if st := r.run("exit", "7").ended(); st.Code != 7 {
		s.Errorf("a process in the restored guest ended with %+v", st)
	}
}

func testRestoreTwice(s *suite) {
	g, p := s.counted()
	f := g.snapshot()
	g.stop()
	a, b := g.restore(f), g.restoreOn(f, s.twins(g.plan.Disks))
	pa, pb := p.again(a), p.again(b)
	pa.says("fill X", "filled X")
	pb.says("check", "1 kinds A")
	pb.says("fill Y", "filled Y")
	pa.says("check", "1 kinds X")
	a.stop()
	b.stop()
	p.again(g.restore(f)).says("check", "1 kinds A")
}

func testRestoreDisks(s *suite) {
	plan := s.Plan(s.T)
	s.blank(&plan, vmm.RoleKit, "before", false)
	g := s.raw(plan)
	g.identify()
	f := g.snapshot()
	g.stop()
	next := s.Plan(s.T)
	next.Disks, next.Restore = plan.Disks[:len(plan.Disks)-1:len(plan.Disks)-1], &f
	s.blank(&next, vmm.RoleKit, "after", false)
	r := s.woken(next)
	want := fmt.Sprint(1<<20, " ", label("after"))
	if got := r.run("disk", "kit").answer(); got != want {
		s.Errorf("kit disk of the restored machine reads %q, want %q", got, want)
	}
}

func testSnapshotResume(s *suite) {
	g, p := s.counted()
	g.snapshot()
	g.resume()
	p.says("n", "2")
	p.says("check", "1 kinds A")
}

func testSnapshotGivenUp(s *suite) {
	g, p := s.counted()
	g.pause()
	for _, patience := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		if err := g.machine.Snapshot(ctx, s.files()); err == nil && patience == 0 {
			s.Error("a snapshot was taken for nobody")
		}
		cancel()
	}
	g.resume()
	p.says("n", "2")
	f := g.snapshot()
	g.stop()
	p.again(g.restore(f)).says("n", "3")
}

func testSnapshotOfRestored(s *suite) {
	g, p := s.counted()
	first := g.snapshot()
	g.stop()
	r := g.restore(first)
	q := p.again(r)
	q.says("fill B", "filled B")
	second := r.snapshot()
	r.stop()
	p.again(g.restore(second)).says("check", "1 kinds B")
	p.again(g.restore(first)).says("check", "1 kinds A")
}

func testSnapshotRunning(s *suite) {
	g := s.boot()
	if err := g.machine.Snapshot(s.ctx, s.files()); err == nil {
		s.Error("a running machine was snapshotted")
	}
	if st := g.run("true").ended(); st.Code != 0 {
		s.Errorf("after the refusal a process ended with %+v", st)
	}
}

func testBrokenSnapshot(s *suite) {
	g, _ := s.counted()
	f := g.snapshot()
	g.stop()
	if err := f.State.Truncate(100); err != nil {
		s.Fatal(err)
	}
	p := s.Plan(s.T)
	p.Disks, p.Restore = g.plan.Disks, &f
	m, err := s.Driver.Start(s.ctx, p)
	if err != nil {
		return
	}
	s.ends(m, p, vmm.ReasonCrashed)
}
