package guestsession

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// Info is what the guest says of a process.
type Info struct {
	ID              string
	Argv            []string
	Started         time.Time
	Terminal, Stdin bool
	Lifetime        proto.Lifetime
	// Attached tells whether somebody has dialled its output.
	Attached bool
	// Exit is how it ended, nil while it runs.
	Exit *proto.ProcessStatus
}

// Bounds of what a guest can make us keep of a list.
const (
	maxProcesses = 1024
	maxArgv      = 32
)

// Resize sets the size of the terminal of a process.
func (s *Session) Resize(ctx context.Context, id string, rows, cols uint16) error {
	return s.call(ctx, "resizing the terminal", callTimeout, func(ctx context.Context) error {
		_, err := s.guest.Resize(ctx, &proto.ResizeRequest{Id: id, Rows: uint32(rows), Cols: uint32(cols)})
		if status.Code(err) == codes.FailedPrecondition {
			return ErrNoTerminal
		}
		return err
	})
}

// List tells the processes that the guest has.
func (s *Session) List(ctx context.Context) ([]Info, error) {
	var all []Info
	err := s.call(ctx, "listing the programs", callTimeout, func(ctx context.Context) error {
		r, err := s.guest.List(ctx, &proto.Empty{})
		if err != nil {
			return err
		}
		if n := len(r.GetProcesses()); n > maxProcesses {
			return fmt.Errorf("it has %d, at most %d expected", n, maxProcesses)
		}
		for _, p := range r.GetProcesses() {
			all = append(all, infoOf(p))
		}
		return nil
	})
	return all, err
}

// Find tells one process of the guest.
func (s *Session) Find(ctx context.Context, id string) (Info, error) {
	all, err := s.List(ctx)
	if err != nil {
		return Info{}, err
	}
	for _, p := range all {
		if p.ID == id {
			return p, nil
		}
	}
	return Info{}, fmt.Errorf("looking for the program: %w", ErrNoProcess)
}

func infoOf(p *proto.ProcessInfo) Info {
	i := Info{
		ID: clean(p.GetId()), Argv: []string{}, Started: time.Unix(0, p.GetStartedUnixNano()).UTC(), Terminal: p.GetTerminal(),
		Stdin: p.GetStdin(), Lifetime: p.GetLifetime(), Attached: p.GetAttached(),
	}
	for _, a := range p.GetArgv()[:min(len(p.GetArgv()), maxArgv)] {
		i.Argv = append(i.Argv, clean(a))
	}
	if e := p.GetExit(); e != nil {
		st := statusOf(e)
		i.Exit = &st
	}
	return i
}

// statusOf bounds what the guest says of an end.
func statusOf(e *proto.ExitStatus) proto.ProcessStatus {
	return proto.ProcessStatus{Code: int(e.GetCode() & 0xff), Signal: int(e.GetSignal() & 0x7f), Message: clean(e.GetMessage())}
}

// Refused tells whether the guest understood and would not, rather than being
// lost.
func Refused(err error) bool {
	return errors.Is(err, ErrNoProcess) || errors.Is(err, ErrNoTerminal) || errors.Is(err, ErrMany) || errors.Is(err, ErrOld)
}
