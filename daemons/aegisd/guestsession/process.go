package guestsession

import (
	"context"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// Process is what to start.
type Process struct {
	// ID names it, up to proto.MaxID bytes.
	ID   string
	Argv []string
	// Env is the whole environment, KEY=VALUE.
	Env       []string
	Cwd, User string
	// Streams connects stdout and stderr to streams, Stdin stdin as well;
	// what is not connected is /dev/null.
	Streams, Stdin bool
	// Terminal makes a terminal all three of them.
	Terminal *Terminal
	Lifetime proto.Lifetime
	// Kept keeps the outputs of a detached process until OpenOutput has taken
	// them. A guest of an older release does not do it.
	Kept bool
	// Timeout ends it, with code 124; 0 means never.
	Timeout time.Duration
}

// Terminal is what a new terminal is like.
type Terminal struct {
	Rows, Cols uint16
	Term       string
}

// minor1001 tells whether the contract's version 1000 knew nothing of this.
func (p Process) minor1001() bool {
	return p.Terminal != nil || p.Lifetime != proto.Lifetime_LIFETIME_FREE || p.Timeout != 0
}

// networkSince is the contract with which a guest can be told of a network.
const networkSince = 1005

// Identify tells the guest who it is.
func (s *Session) Identify(ctx context.Context, id *proto.Identity) error {
	if id.GetNetwork() != nil && s.version < networkSince {
		return fmt.Errorf("telling the guest its network: %w", ErrOld)
	}
	return s.call(ctx, "telling the guest its identity", callTimeout, func(ctx context.Context) error {
		_, err := s.guest.SetIdentity(ctx, id)
		return err
	})
}

// SetTime tells the guest the time.
func (s *Session) SetTime(ctx context.Context, t time.Time) error {
	return s.call(ctx, "telling the guest the time", callTimeout, func(ctx context.Context) error {
		_, err := s.guest.SetTime(ctx, &proto.Time{UnixNano: t.UnixNano()})
		return err
	})
}

// Activity is how much programs have done since the guest's boot.
type Activity struct {
	CPU                     time.Duration
	NetworkBytes, DiskBytes uint64
}

// activitySince is the contract with which a guest can tell its activity.
const activitySince = 1006

// Activity asks how much programs have done so far.
func (s *Session) Activity(ctx context.Context) (a Activity, err error) {
	if s.version < activitySince {
		return a, fmt.Errorf("asking for the guest's activity: %w", ErrOld)
	}
	err = s.call(ctx, "asking for the guest's activity", callTimeout, func(ctx context.Context) error {
		r, err := s.guest.Activity(ctx, &proto.Empty{})
		a = Activity{time.Duration(r.GetCpuNanos() & math.MaxInt64), r.GetNetworkBytes(), r.GetDiskBytes()}
		return err
	})
	return a, err
}

// Start starts a process. A program that cannot be run is no error: the
// process ends at once with status 126 or 127.
func (s *Session) Start(ctx context.Context, p Process) error {
	stream := map[bool]proto.Stdio{true: proto.Stdio_STDIO_STREAM}
	req := &proto.StartRequest{
		Id: p.ID, Argv: p.Argv, Env: p.Env, Cwd: p.Cwd, User: p.User,
		Stdin: stream[p.Stdin], Stdout: stream[p.Streams], Stderr: stream[p.Streams],
		Lifetime: p.Lifetime, TimeoutMs: uint64(p.Timeout.Milliseconds()), Kept: p.Kept,
	}
	if t := p.Terminal; t != nil {
		req.Terminal = &proto.Tty{Rows: uint32(t.Rows), Cols: uint32(t.Cols), Term: t.Term}
	}
	if p.minor1001() && s.version < 1001 {
		return fmt.Errorf("starting the program: %w", ErrOld)
	}
	return s.call(ctx, "starting the program", callTimeout, func(ctx context.Context) error {
		_, err := s.guest.Start(ctx, req)
		return err
	})
}

// Wait returns when the process has ended; its other exits are the end of
// ctx and of the session.
func (s *Session) Wait(ctx context.Context, id string) (proto.ProcessStatus, error) {
	r, err := s.guest.Wait(ctx, &proto.WaitRequest{Id: id})
	if err != nil {
		return proto.ProcessStatus{}, explain("waiting for the program", ctx, err)
	}
	return statusOf(r), nil
}

// Signal sends a signal to the group of the process.
func (s *Session) Signal(ctx context.Context, id string, signal int) error {
	return s.call(ctx, "signalling the program", callTimeout, func(ctx context.Context) error {
		_, err := s.guest.Signal(ctx, &proto.SignalRequest{Id: id, Signal: uint32(signal)})
		return err
	})
}

// Poweroff asks the guest to leave in order. Its processes have grace to end;
// the answer may be lost with the machine, so an error means little.
func (s *Session) Poweroff(ctx context.Context, grace time.Duration) error {
	req := &proto.PoweroffRequest{GraceMs: uint32(grace.Milliseconds())}
	return s.call(ctx, "powering the guest off", grace+callTimeout, func(ctx context.Context) error {
		_, err := s.guest.Poweroff(ctx, req)
		return err
	})
}

// Streams dials the streams of a started process: stdout, stderr, status and
// where asked stdin. Session stays nil.
func Streams(ctx context.Context, dial Dial, id string, stdin bool) (*api.Streams, error) {
	streams := &api.Streams{}
	places := map[proto.Kind]**os.File{proto.Stdout: &streams.Stdout, proto.Stderr: &streams.Stderr, proto.Status: &streams.Status}
	if stdin {
		places[proto.Stdin] = &streams.Stdin
	}
	return dialAll(ctx, dial, id, streams, places)
}

// TerminalStreams dials the terminal and the status of a started process.
func TerminalStreams(ctx context.Context, dial Dial, id string) (*api.Streams, error) {
	streams := &api.Streams{}
	return dialAll(ctx, dial, id, streams, map[proto.Kind]**os.File{proto.Terminal: &streams.Terminal, proto.Status: &streams.Status})
}

func dialAll(ctx context.Context, dial Dial, id string, streams *api.Streams, places map[proto.Kind]**os.File) (*api.Streams, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for kind, place := range places {
		group.Go(func() (err error) {
			*place, err = dialStream(ctx, dial, proto.Prelude{Kind: kind, Process: id})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		streams.Close()
		return nil, err
	}
	return streams, nil
}

// dialStream dials one stream. The prelude is a few bytes into the empty
// buffer of a new socket, so writing it does not block.
func dialStream(ctx context.Context, dial Dial, p proto.Prelude) (*os.File, error) {
	f, err := dial(ctx, proto.PortStream)
	if err != nil {
		return nil, fmt.Errorf("connecting %s: %w", p.Kind, err)
	}
	if err := proto.WritePrelude(f, p); err != nil {
		f.Close()
		return nil, fmt.Errorf("connecting %s: %w", p.Kind, err)
	}
	return f, nil
}
