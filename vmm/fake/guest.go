package fake

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/archive"
	"github.com/xfeldman/aegisvm/guest/proto/forward"
	"github.com/xfeldman/aegisvm/guest/proto/kept"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake/program"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// guest is what the harness is in a real machine.
type guest struct {
	machine  atomic.Pointer[Machine] // another one after a restore
	programs map[string]program.Program
	bootID   string
	ctx      context.Context
	cancel   context.CancelFunc
	control  *ttrpc.Server
	calls    proto.Calls
	copies   *archive.Server
	files    string // the folder that is its root

	mu        sync.Mutex // guards the fields below
	ended     bool
	named     bool
	identity  *proto.Identity
	times     []int64
	asked     int    // for its activity,
	worked    uint64 // which is this
	sent      uint64
	processes map[string]*process
	conns     map[net.Conn]struct{}
	lastPid   uint32
	mounted   string // where the workspace is
}

func newGuest(m *Machine, files string, programs map[string]program.Program) *guest {
	id := make([]byte, 16)
	rand.Read(id)
	g := &guest{
		programs: programs, bootID: hex.EncodeToString(id),
		processes: map[string]*process{}, conns: map[net.Conn]struct{}{}, lastPid: 1,
	}
	g.machine.Store(m)
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.files, g.copies = files, archive.NewServer(files)
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(proto.HelloFirst))
	if err != nil {
		panic(err) // with one interceptor it cannot fail
	}
	g.control = server
	proto.RegisterGuestService(server, g)
	proto.RegisterWorkspaceService(server, g)
	return g
}

// accept serves one connection; false when the guest has ended.
func (g *guest) accept(port uint32, c net.Conn) bool {
	g.mu.Lock()
	ended := g.ended
	if !ended {
		g.conns[c] = struct{}{}
	}
	g.mu.Unlock()
	switch {
	case ended:
		c.Close()
		return false
	case port == proto.PortStream:
		go func() { // ends with the connection
			g.stream(c)
			g.forget(c)
		}()
		return true
	case port == proto.PortForward:
		go func() { // ends with the connection
			forward.Server{}.Serve(g.ctx, halfClosed{c})
			g.forget(c)
		}()
		return true
	}
	if port != proto.PortWorkspace { // of those nobody reads
		proto.ServeControl(g.ctx, g.control, c, &g.calls)
	}
	return true
}

func (g *guest) forget(c net.Conn) {
	c.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// close ends every process and connection.
func (g *guest) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return
	}
	g.ended = true
	g.cancel()
	for c := range g.conns {
		c.Close()
	}
	for _, p := range g.processes {
		p.unplug()
	}
	g.control.Close()
	os.RemoveAll(g.files)
}

// freeze ends every connection and leaves the processes to the next machine.
func (g *guest) freeze() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		c.Close()
	}
	clear(g.conns)
}

// Hello checks the caller's version.
func (g *guest) Hello(_ context.Context, r *proto.HelloRequest) (*proto.HelloResponse, error) {
	if proto.Major(r.GetVersion()) != proto.Major(proto.Version) {
		return nil, status.Errorf(codes.FailedPrecondition,
			"host speaks contract version %d, guest %d", r.GetVersion(), proto.Version)
	}
	return &proto.HelloResponse{Version: proto.Version, Harness: "fake", BootId: g.bootID}, nil
}

// SetIdentity remembers who the guest is.
func (g *guest) SetIdentity(_ context.Context, r *proto.Identity) (*proto.Empty, error) {
	if len(r.GetEntropy()) < 32 {
		return nil, status.Errorf(codes.InvalidArgument, "%d bytes of entropy, at least 32 expected", len(r.GetEntropy()))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.identity, g.named = r, true
	return &proto.Empty{}, nil
}

// Poweroff ends the processes, then the machine.
func (g *guest) Poweroff(_ context.Context, r *proto.PoweroffRequest) (*proto.Empty, error) {
	go func() { // ends within the grace
		grace := time.NewTimer(time.Duration(r.GetGraceMs()) * time.Millisecond)
		defer grace.Stop()
		for _, p := range g.live() {
			p.signal(15)
		}
		for _, p := range g.live() {
			select {
			case <-p.done:
			case <-grace.C:
				grace.Reset(0)
				p.signal(9)
			case <-g.ctx.Done():
			}
		}
		g.settle()
		g.machine.Load().end(vmm.ReasonPoweroff, "")
	}()
	return &proto.Empty{}, nil
}

// settle gives the host a moment to store what was said last.
func (g *guest) settle() {
	settled := make(chan struct{})
	go func() { // ends with the machine at the latest
		defer close(settled)
		for _, s := range g.keptStreams() {
			s.Settled()
		}
	}()
	select {
	case <-settled:
	case <-time.After(2 * time.Second):
	case <-g.ctx.Done():
	}
	ctx, cancel := context.WithTimeout(g.ctx, 2*time.Second)
	defer cancel()
	g.calls.Await(ctx) // who waits for a program is told
}

func (g *guest) keptStreams() (all []*kept.Source) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.processes {
		p.mu.Lock()
		all = slices.AppendSeq(all, maps.Values(p.kept))
		p.mu.Unlock()
	}
	return all
}

// Identity is what SetIdentity was called with last, nil before.
func (m *Machine) Identity() *proto.Identity {
	m.guest.mu.Lock()
	defer m.guest.mu.Unlock()
	return m.guest.identity
}
