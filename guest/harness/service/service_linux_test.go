package service

import (
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/guest/harness/process"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/link"
)

// machine records what the service does to it.
type machine struct {
	named []string
	times []time.Time
	off   chan time.Duration
}

func (m *machine) Identify(id *proto.Identity) error {
	if id.GetHostname() == "panic" {
		panic("as asked")
	}
	m.named = append(m.named, id.GetHostname())
	return nil
}

func (m *machine) SetTime(t time.Time) error {
	m.times = append(m.times, t)
	return nil
}

func (m *machine) Activity() (*proto.ActivityResponse, error) {
	return &proto.ActivityResponse{CpuNanos: 7}, nil
}

func (m *machine) Poweroff(grace time.Duration) { m.off <- grace }

// guest is a service at the end of a link.
type guest struct {
	*testing.T
	machine *machine
	port    net.Conn // the host's end
	logged  chan string
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	g := &guest{T: t, machine: &machine{off: make(chan time.Duration, 1)}, logged: make(chan string, 100)}
	reaper := process.NewReaper()
	s, err := New("test", "the-boot", g.machine, process.NewTable(reaper), func(l string) { g.logged <- l })
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := pair(t)
	g.port = ours
	server := link.Serve(theirs)
	accepted := make(chan struct{})
	go func() { // ends with the server
		defer close(accepted)
		for {
			c, port, err := server.Accept()
			if err != nil {
				return
			}
			s.Serve(c, port)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		<-accepted
		s.Close()
		reaper.Stop()
	})
	return g
}

func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) net.Conn {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	return conn(fds[0]), conn(fds[1])
}

// host is one that has attached.
type host struct {
	*guest
	session *link.Session
	control proto.GuestService
}

// keep is a pipe whose end outlives the session on it, as a serial port does.
type keep struct{ net.Conn }

func (k keep) Close() error { return k.SetReadDeadline(time.Unix(1, 0)) }

func (g *guest) attach() *host {
	g.Helper()
	g.port.SetReadDeadline(time.Time{})
	session, err := link.Attach(keep{g.port})
	if err != nil {
		g.Fatal(err)
	}
	h := &host{guest: g, session: session}
	g.Cleanup(func() { session.Close() })
	h.control = h.connect()
	if _, err := h.control.Hello(g.Context(), &proto.HelloRequest{Version: proto.Version}); err != nil {
		g.Fatal(err)
	}
	return h
}

// connect opens a control connection.
func (h *host) connect() proto.GuestService {
	h.Helper()
	client := ttrpc.NewClient(h.dial(proto.PortControl))
	h.Cleanup(func() { client.Close() })
	return proto.NewGuestClient(client)
}

func (h *host) dial(port uint32) *link.Conn {
	h.Helper()
	c, err := h.session.Dial(h.Context(), port)
	if err != nil {
		h.Fatal(err)
	}
	return c
}

func (h *host) stream(k proto.Kind, id string) *link.Conn {
	h.Helper()
	c := h.dial(proto.PortStream)
	if err := proto.WritePrelude(c, proto.Prelude{Kind: k, Process: id}); err != nil {
		h.Fatal(err)
	}
	return c
}

func identity() *proto.Identity {
	return &proto.Identity{Hostname: "me", Entropy: make([]byte, 32), MachineId: strings.Repeat("0a", 16)}
}

func (h *host) identify() {
	h.Helper()
	if _, err := h.control.SetIdentity(h.Context(), identity()); err != nil {
		h.Fatal(err)
	}
}

func (h *host) start(id string, argv ...string) {
	h.Helper()
	_, err := h.control.Start(h.Context(), &proto.StartRequest{
		Id: id, Argv: argv, Env: []string{"PATH=/usr/bin:/bin"}, Cwd: "/",
		Stdin: proto.Stdio_STDIO_STREAM, Stdout: proto.Stdio_STDIO_STREAM, Stderr: proto.Stdio_STDIO_STREAM,
	})
	if err != nil {
		h.Fatal(err)
	}
}

func wants(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: %v, want code %v", what, err, want)
	}
}

func TestSidesOfOtherVersionsDoNotTalk(t *testing.T) {
	h := newGuest(t).attach()
	r, err := h.control.Hello(t.Context(), &proto.HelloRequest{Version: proto.Version})
	if err != nil || r.GetVersion() != proto.Version || r.GetBootId() != "the-boot" || r.GetHarness() != "test" {
		t.Errorf("hello: %v, %v", r, err)
	}
	_, err = h.control.Hello(t.Context(), &proto.HelloRequest{Version: proto.Version + 1000})
	wants(t, "another major version", err, codes.FailedPrecondition)
	_, err = h.control.Hello(t.Context(), &proto.HelloRequest{Version: proto.Version + 1})
	wants(t, "another minor version", err, codes.OK)
}

func TestEveryConnectionBeginsWithHello(t *testing.T) {
	h := newGuest(t).attach() // has said it, on a connection of its own
	for name, call := range map[string]func(proto.GuestService) error{
		"identity": func(g proto.GuestService) error { _, err := g.SetIdentity(t.Context(), identity()); return err },
		"start": func(g proto.GuestService) error {
			_, err := g.Start(t.Context(), &proto.StartRequest{Id: "p", Argv: []string{"true"}})
			return err
		},
		"wait": func(g proto.GuestService) error {
			_, err := g.Wait(t.Context(), &proto.WaitRequest{Id: "p"})
			return err
		},
		"signal": func(g proto.GuestService) error {
			_, err := g.Signal(t.Context(), &proto.SignalRequest{Id: "p", Signal: 9})
			return err
		},
		"poweroff": func(g proto.GuestService) error {
			_, err := g.Poweroff(t.Context(), &proto.PoweroffRequest{})
			return err
		},
	} {
		fresh := h.connect()
		wants(t, name+" before hello", call(fresh), codes.FailedPrecondition)
		fresh.Hello(t.Context(), &proto.HelloRequest{Version: proto.Version + 1000})
		wants(t, name+" after a hello of another version", call(fresh), codes.FailedPrecondition)
	}
	if len(h.machine.named) > 0 || len(h.machine.off) > 0 {
		t.Errorf("the machine was named %v, and %d calls were to power it off", h.machine.named, len(h.machine.off))
	}
	h.identify()
}

func TestNothingStartsBeforeAnIdentity(t *testing.T) {
	h := newGuest(t).attach()
	_, err := h.control.Start(t.Context(), &proto.StartRequest{Id: "p", Argv: []string{"true"}})
	wants(t, "start before the identity", err, codes.FailedPrecondition)
	for name, change := range map[string]func(*proto.Identity){
		"little entropy":         func(id *proto.Identity) { id.Entropy = id.Entropy[1:] },
		"much entropy":           func(id *proto.Identity) { id.Entropy = make([]byte, 5000) },
		"no hostname":            func(id *proto.Identity) { id.Hostname = "" },
		"a hostname with line":   func(id *proto.Identity) { id.Hostname = "a\nb" },
		"a long hostname":        func(id *proto.Identity) { id.Hostname = strings.Repeat("a", 65) },
		"a network that is none": func(id *proto.Identity) { id.Network = &proto.Network{Address: []byte{10, 0}} },
		"an odd machine id":      func(id *proto.Identity) { id.MachineId = "12345" },
		"a shouted machine id":   func(id *proto.Identity) { id.MachineId = strings.ToUpper(id.MachineId) },
	} {
		id := identity()
		change(id)
		_, err := h.control.SetIdentity(t.Context(), id)
		wants(t, name, err, codes.InvalidArgument)
	}
	id := identity()
	id.Hostname = "panic"
	_, err = h.control.SetIdentity(t.Context(), id)
	wants(t, "a panic", err, codes.Internal)
	h.identify()
	h.identify() // as after a restore
	if len(h.machine.named) != 2 {
		t.Errorf("the machine was named %v", h.machine.named)
	}
	h.start("p", "true")
}

func TestAProcessIsStartedFedSignalledAndWaitedFor(t *testing.T) {
	h := newGuest(t).attach()
	h.identify()
	h.start("p", "cat")
	in, out, st := h.stream(proto.Stdin, "p"), h.stream(proto.Stdout, "p"), h.stream(proto.Status, "p")
	io.WriteString(in, "hello")
	if b := make([]byte, 5); true {
		if _, err := io.ReadFull(out, b); err != nil || string(b) != "hello" {
			t.Fatalf("cat said %q, %v", b, err)
		}
	}
	if _, err := h.control.Signal(t.Context(), &proto.SignalRequest{Id: "p", Signal: 15}); err != nil {
		t.Fatal(err)
	}
	end, err := h.control.Wait(t.Context(), &proto.WaitRequest{Id: "p"})
	if err != nil || end.GetCode() != 143 || end.GetSignal() != 15 {
		t.Errorf("wait: %v, %v", end, err)
	}
	if s, err := proto.ReadStatus(st); err != nil || s.Code != 143 {
		t.Errorf("status %+v, %v", s, err)
	}
	if rest, err := io.ReadAll(out); len(rest) > 0 || err != nil {
		t.Errorf("then came %q, %v", rest, err)
	}
}

func TestCallsThatNameNothingAreRefused(t *testing.T) {
	h := newGuest(t).attach()
	h.identify()
	h.start("p", "cat")
	_, err := h.control.Wait(t.Context(), &proto.WaitRequest{Id: "q"})
	wants(t, "waiting for nobody", err, codes.NotFound)
	_, err = h.control.Signal(t.Context(), &proto.SignalRequest{Id: "q", Signal: 9})
	wants(t, "signalling nobody", err, codes.NotFound)
	_, err = h.control.Signal(t.Context(), &proto.SignalRequest{Id: "p", Signal: 65})
	wants(t, "no signal", err, codes.InvalidArgument)
	_, err = h.control.Start(t.Context(), &proto.StartRequest{Id: "p", Argv: []string{"true"}})
	wants(t, "an id twice", err, codes.AlreadyExists)
	_, err = h.control.Start(t.Context(), &proto.StartRequest{Id: "q"})
	wants(t, "no argv", err, codes.InvalidArgument)
	h.control.Signal(t.Context(), &proto.SignalRequest{Id: "p", Signal: 9})
}

func TestGarbageEndsItsConnectionOnly(t *testing.T) {
	h := newGuest(t).attach()
	h.identify()
	for name, c := range map[string]*link.Conn{
		"a prelude for nobody":   h.stream(proto.Stdout, "nobody"),
		"a port without service": h.dial(4000),
		"no prelude":             h.garbage(proto.PortStream, "GET / HTTP/1.1\r\n\r\n"),
		"a huge control message": h.garbage(proto.PortControl, strings.Repeat("\xff", 64)),
	} {
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.control.Hello(t.Context(), &proto.HelloRequest{Version: proto.Version}); err != nil {
		t.Errorf("the other connection: %v", err)
	}
}

func (h *host) garbage(port uint32, bytes string) *link.Conn {
	c := h.dial(port)
	io.WriteString(c, bytes)
	c.CloseWrite()
	return c
}

func TestAnotherHostTakesTheStreamsOver(t *testing.T) {
	g := newGuest(t)
	h := g.attach()
	h.identify()
	h.start("p", "sh", "-c", "while read l; do echo got $l; done; echo end")
	for i := range 20 {
		in, out := h.stream(proto.Stdin, "p"), h.stream(proto.Stdout, "p")
		io.WriteString(in, "line\n")
		b := make([]byte, len("got line\n"))
		if _, err := io.ReadFull(out, b); err != nil || string(b) != "got line\n" {
			t.Fatalf("host %d heard %q, %v", i, b, err)
		}
		h.session.Close()
		h = g.attach()
	}
	in, out, st := h.stream(proto.Stdin, "p"), h.stream(proto.Stdout, "p"), h.stream(proto.Status, "p")
	in.CloseWrite()
	if b, err := io.ReadAll(out); string(b) != "end\n" || err != nil {
		t.Errorf("the last host heard %q, %v", b, err)
	}
	if s, err := proto.ReadStatus(st); err != nil || s.Code != 0 {
		t.Errorf("status %+v, %v", s, err)
	}
}

func TestPoweroffReachesTheMachine(t *testing.T) {
	h := newGuest(t).attach()
	if _, err := h.control.Poweroff(t.Context(), &proto.PoweroffRequest{GraceMs: 1500}); err != nil {
		t.Fatal(err)
	}
	if got := <-h.machine.off; got != 1500*time.Millisecond {
		t.Errorf("grace %v", got)
	}
}

func TestTheTimeIsSetToWhatTheHostSays(t *testing.T) {
	g := newGuest(t)
	c := g.attach().control
	if _, err := c.SetTime(t.Context(), &proto.Time{UnixNano: 5}); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []int64{0, -1} {
		if _, err := c.SetTime(t.Context(), &proto.Time{UnixNano: wrong}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("time %d: %v", wrong, err)
		}
	}
	if got := g.machine.times; len(got) != 1 || !got[0].Equal(time.Unix(0, 5)) {
		t.Errorf("the clock was set to %v", got)
	}
}
