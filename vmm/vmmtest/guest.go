package vmmtest

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/containerd/ttrpc"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
)

// guest is a machine with a control connection.
type guest struct {
	s       *suite
	machine vmm.Machine
	control proto.GuestService
	plan    vmm.Plan
	asked   chan struct{} // told of each request of the control connection that was written
}

// asking tells of what is written to a connection.
type asking struct {
	vmm.Conn
	asked chan<- struct{}
}

func (a asking) Write(b []byte) (int, error) {
	n, err := a.Conn.Write(b)
	select {
	case a.asked <- struct{}{}:
	default:
	}
	return n, err
}

// start starts a machine that is gone when the test has ended.
func (s *suite) start(p vmm.Plan) vmm.Machine {
	s.Helper()
	m, err := s.Driver.Start(s.ctx, p)
	if err != nil {
		s.Fatalf("starting: %v", err)
	}
	s.Cleanup(func() {
		m.Stop(s.ctx)
		<-m.Done()
	})
	return m
}

// boot starts a machine and takes it to the point where processes start.
func (s *suite) boot() *guest {
	s.Helper()
	g := s.raw(s.Plan(s.T))
	g.identify()
	return g
}

// raw starts a machine and says hello.
func (s *suite) raw(p vmm.Plan) *guest {
	s.Helper()
	g := &guest{s: s, machine: s.start(p), plan: p}
	g.attach()
	return g
}

// attach waits for the guest and dials its control port anew.
func (g *guest) attach() {
	g.s.Helper()
	g.s.ready(g.machine, g.plan)
	c := g.dial(proto.PortControl)
	g.asked = make(chan struct{}, 1)
	client := ttrpc.NewClient(asking{c, g.asked})
	g.s.Cleanup(func() { client.Close() })
	g.control = proto.NewGuestClient(client)
	r, err := g.control.Hello(g.s.ctx, &proto.HelloRequest{Version: proto.Version})
	if err != nil {
		g.s.Fatalf("hello: %v", err)
	}
	if proto.Major(r.GetVersion()) != proto.Major(proto.Version) {
		g.s.Fatalf("guest has contract version %d, host %d", r.GetVersion(), proto.Version)
	}
}

func (s *suite) ready(m vmm.Machine, p vmm.Plan) {
	s.Helper()
	select {
	case <-m.Ready():
	case <-m.Done():
		s.Fatalf("machine ended before it was ready: %+v\nconsole: %s", m.Exit(), console(p))
	case <-s.ctx.Done():
		s.Fatalf("machine not ready within %v\nconsole: %s", s.Patience, console(p))
	}
}

func (g *guest) dial(port uint32) vmm.Conn {
	g.s.Helper()
	c, err := g.machine.Connect(g.s.ctx, port)
	if err != nil {
		g.s.Fatalf("connecting to port %d: %v", port, err)
	}
	g.s.Cleanup(func() { c.Close() })
	return c
}

func (g *guest) identify() {
	g.s.Helper()
	entropy := make([]byte, 32)
	rand.Read(entropy)
	_, err := g.control.SetIdentity(g.s.ctx, &proto.Identity{
		Hostname: "conformance", Entropy: entropy, UnixNano: 1_800_000_000_000_000_000,
		InstanceId: "conformance", MachineId: strings.Repeat("0123456789abcdef", 2),
	})
	if err != nil {
		g.s.Fatalf("set identity: %v", err)
	}
}

// process is one program in the guest with all its streams dialled.
type process struct {
	g                             *guest
	id                            string
	stdin, stdout, stderr, status vmm.Conn
	lines                         *bufio.Reader
}

var processes atomic.Int64

func (g *guest) run(argv ...string) *process {
	g.s.Helper()
	p := g.start(request(argv...))
	p.open()
	return p
}

// request asks for a program with all its streams.
func request(argv ...string) *proto.StartRequest {
	return &proto.StartRequest{
		Argv: argv, Env: []string{"PATH=/bin", "GREETING=hello world"}, Cwd: "/",
		Stdin: proto.Stdio_STDIO_STREAM, Stdout: proto.Stdio_STDIO_STREAM, Stderr: proto.Stdio_STDIO_STREAM,
	}
}

// start starts a program and dials nothing.
func (g *guest) start(r *proto.StartRequest) *process {
	g.s.Helper()
	p := &process{g: g, id: fmt.Sprintf("p%d", processes.Add(1))}
	r.Id = p.id
	if _, err := g.control.Start(g.s.ctx, r); err != nil {
		g.s.Fatalf("starting %q: %v", r.GetArgv(), err)
	}
	return p
}

// launch starts a program that ends the machine: even the answer may be lost.
func (g *guest) launch(argv ...string) {
	g.control.Start(g.s.ctx, &proto.StartRequest{
		Id: fmt.Sprintf("p%d", processes.Add(1)), Argv: argv, Env: []string{"PATH=/bin"}, Cwd: "/",
	})
}

// open dials the streams of a process.
func (p *process) open() {
	p.g.s.Helper()
	p.stdin, p.stdout = p.stream(proto.Stdin), p.stream(proto.Stdout)
	p.stderr, p.status = p.stream(proto.Stderr), p.stream(proto.Status)
	p.lines = bufio.NewReader(p.stdout)
}

func (p *process) stream(k proto.Kind) vmm.Conn {
	p.g.s.Helper()
	c := p.g.dial(proto.PortStream)
	if err := proto.WritePrelude(c, proto.Prelude{Kind: k, Process: p.id}); err != nil {
		p.g.s.Fatalf("dialling %s: %v", k, err)
	}
	return c
}

// ended reads the status stream.
func (p *process) ended() proto.ProcessStatus {
	p.g.s.Helper()
	st, err := proto.ReadStatus(deadline(p.g.s, p.status))
	if err != nil {
		p.g.s.Fatalf("status of %s: %v", p.id, err)
	}
	return st
}

// ask writes a line and returns the answer's.
func (p *process) ask(line string) string {
	p.g.s.Helper()
	p.say(line)
	return p.answer()
}

func (p *process) say(line string) {
	p.g.s.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.g.s.Fatalf("writing %q: %v", line, err)
	}
}

func (p *process) answer() string {
	p.g.s.Helper()
	deadline(p.g.s, p.stdout)
	l, err := p.lines.ReadString('\n')
	if err != nil {
		p.g.s.Fatalf("reading an answer: %v", err)
	}
	return strings.TrimSuffix(l, "\n")
}

// deadline ends reads of c with the test's context.
func deadline(s *suite, c vmm.Conn) vmm.Conn {
	if d, ok := s.ctx.Deadline(); ok {
		c.SetReadDeadline(d)
	}
	return c
}

func console(p vmm.Plan) string {
	b := make([]byte, 64<<10)
	n, _ := p.Console.ReadAt(b, 0)
	return string(b[:n])
}
