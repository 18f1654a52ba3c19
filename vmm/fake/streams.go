package fake

import (
	"context"
	"io"
	"net"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/kept"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stream serves one connection to PortStream until it ends.
func (g *guest) stream(c net.Conn) {
	pre, err := proto.ReadPrelude(c)
	if err != nil {
		return
	}
	if pre.Kind == proto.Archive || g.copies.Has(pre.Process) {
		g.copies.Serve(halfClosed{c}, pre)
		return
	}
	p := g.process(pre.Process)
	if p == nil {
		if pre.Kept {
			kept.Refuse(c)
		}
		return
	}
	if pre.Kind == proto.Status {
		left := p.hold(c)
		select {
		case <-p.done:
			proto.WriteStatus(c, p.status)
		case <-left:
		case <-g.ctx.Done():
		}
		return
	}
	if pre.Kept {
		if s := p.keep(pre.Kind); s != nil {
			s.Serve(c.(kept.Conn), pre.From)
		} else {
			kept.Refuse(c)
		}
		return
	}
	if out := p.outputs[pre.Kind]; out != nil {
		p.converse(c, out)
		return
	}
	f := p.take(pre.Kind)
	if f == nil {
		return
	}
	defer f.Close()
	if pre.Kind == proto.Stdin {
		io.Copy(f, c)
		return
	}
	io.Copy(c, f)
}

// Wait answers when a process has ended.
func (g *guest) Wait(ctx context.Context, r *proto.WaitRequest) (*proto.ExitStatus, error) {
	p := g.process(r.GetId())
	if p == nil {
		return nil, noProcess(r.GetId())
	}
	p.waited()
	select {
	case <-p.done:
		s := p.status
		return &proto.ExitStatus{Code: uint32(s.Code), Signal: uint32(s.Signal), Message: s.Message}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-g.ctx.Done():
		return nil, status.Error(codes.Unavailable, "machine has ended")
	}
}

// Signal signals a process; one that has ended is not an error.
func (g *guest) Signal(_ context.Context, r *proto.SignalRequest) (*proto.Empty, error) {
	p := g.process(r.GetId())
	if p == nil {
		return nil, noProcess(r.GetId())
	}
	p.signal(int(r.GetSignal()))
	return &proto.Empty{}, nil
}

func noProcess(id string) error { return status.Errorf(codes.NotFound, "no process %q", id) }

func (g *guest) process(id string) *process {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.processes[id]
}

// live returns the processes that have not ended.
func (g *guest) live() []*process {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ps []*process
	for _, p := range g.processes {
		select {
		case <-p.done:
		default:
			ps = append(ps, p)
		}
	}
	return ps
}
