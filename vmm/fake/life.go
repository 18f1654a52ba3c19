package fake

import (
	"cmp"
	"context"
	"io"
	"net"
	"slices"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// killGrace is what a process has after the signal that asks it to end.
const killGrace = 5 * time.Second

// ask asks a process to end and sees to it that it does.
func (p *process) ask(signal int) {
	p.signal(signal)
	time.AfterFunc(killGrace, func() { p.signal(9) }) // no harm to one that has ended
}

// limit begins the timeout of a process.
func (p *process) limit(r *proto.StartRequest) {
	if r.GetTimeoutMs() == 0 {
		return
	}
	timer := time.AfterFunc(time.Duration(r.GetTimeoutMs())*time.Millisecond, func() {
		p.mu.Lock()
		p.timedOut = true
		p.mu.Unlock()
		p.ask(15)
	})
	go func() { // ends with the process
		<-p.done
		timer.Stop()
	}()
}

// hold notes who holds the status stream; with the last one goes a process
// whose lifetime says so. What it returns is closed when this one has gone.
func (p *process) hold(c net.Conn) <-chan struct{} {
	if p.request.GetLifetime() != proto.Lifetime_LIFETIME_CLIENT {
		return nil
	}
	p.mu.Lock()
	p.clients++
	p.mu.Unlock()
	left := make(chan struct{})
	go func() { // ends with c
		defer close(left)
		io.Copy(io.Discard, c)
		p.mu.Lock()
		p.clients--
		last := p.clients == 0
		p.mu.Unlock()
		if last {
			p.ask(1)
		}
	}()
	return left
}

// List tells the processes.
func (g *guest) List(context.Context, *proto.Empty) (*proto.ListResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := &proto.ListResponse{}
	for id, p := range g.processes {
		info := &proto.ProcessInfo{
			Id: id, Argv: p.request.GetArgv(), StartedUnixNano: p.begun.UnixNano(), Terminal: p.tty != nil,
			Stdin: p.request.GetStdin() == proto.Stdio_STDIO_STREAM, Lifetime: p.request.GetLifetime(),
		}
		for _, o := range p.outputs {
			info.Attached = info.Attached || o.dialled()
		}
		select {
		case <-p.done:
			s := p.status
			info.Exit = &proto.ExitStatus{Code: uint32(s.Code), Signal: uint32(s.Signal), Message: s.Message}
		default:
		}
		all.Processes = append(all.Processes, info)
	}
	slices.SortFunc(all.Processes, func(a, b *proto.ProcessInfo) int {
		return cmp.Or(cmp.Compare(a.GetStartedUnixNano(), b.GetStartedUnixNano()), cmp.Compare(a.GetId(), b.GetId()))
	})
	return all, nil
}
