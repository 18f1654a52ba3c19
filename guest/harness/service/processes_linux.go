package service

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/guest/harness/process"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// specOf checks what a StartRequest asks for.
func specOf(r *proto.StartRequest) (process.Spec, error) {
	spec := process.Spec{
		ID: r.GetId(), Argv: r.GetArgv(), Env: r.GetEnv(), Cwd: r.GetCwd(), User: r.GetUser(),
		Stdin:    r.GetStdin() == proto.Stdio_STDIO_STREAM,
		Stdout:   r.GetStdout() == proto.Stdio_STDIO_STREAM,
		Stderr:   r.GetStderr() == proto.Stdio_STDIO_STREAM,
		Lifetime: r.GetLifetime(), Kept: r.GetKept(),
	}
	if _, known := proto.Lifetime_name[int32(spec.Lifetime)]; !known {
		return spec, status.Errorf(codes.InvalidArgument, "lifetime %d: 0 to %d expected", spec.Lifetime, len(proto.Lifetime_name)-1)
	}
	if spec.Kept && spec.Lifetime != proto.Lifetime_LIFETIME_DETACHED {
		return spec, status.Error(codes.InvalidArgument, "kept is for a process with the lifetime DETACHED")
	}
	if r.GetTimeoutMs() > math.MaxInt64/uint64(time.Millisecond) {
		return spec, status.Errorf(codes.InvalidArgument, "timeout of %d ms is longer than can be told", r.GetTimeoutMs())
	}
	spec.Timeout = time.Duration(r.GetTimeoutMs()) * time.Millisecond
	if t := r.GetTerminal(); t != nil {
		rows, cols, err := size(t.GetRows(), t.GetCols())
		if err != nil {
			return spec, err
		}
		spec.Terminal = &process.Terminal{Rows: rows, Cols: cols, Term: t.GetTerm()}
	}
	return spec, nil
}

// size checks the size of a terminal.
func size(rows, cols uint32) (r, c uint16, err error) {
	if rows > math.MaxUint16 || cols > math.MaxUint16 {
		return 0, 0, status.Errorf(codes.InvalidArgument, "terminal of %d rows and %d columns, at most %d of each expected", rows, cols, math.MaxUint16)
	}
	return uint16(rows), uint16(cols), nil
}

// Resize sets the size of a terminal; that of a process that has ended is no
// error.
func (s *Service) Resize(_ context.Context, r *proto.ResizeRequest) (*proto.Empty, error) {
	rows, cols, err := size(r.GetRows(), r.GetCols())
	if err != nil {
		return nil, err
	}
	if err := s.processes.Resize(r.GetId(), rows, cols); err != nil {
		return nil, explain(err)
	}
	return &proto.Empty{}, nil
}

// List tells the processes.
func (s *Service) List(context.Context, *proto.Empty) (*proto.ListResponse, error) {
	all := &proto.ListResponse{}
	for _, p := range s.processes.List() {
		info := &proto.ProcessInfo{
			Id: p.ID, Argv: p.Argv, StartedUnixNano: p.Started.UnixNano(), Terminal: p.Terminal, Stdin: p.Stdin,
			Lifetime: p.Lifetime, Attached: p.Attached,
		}
		if e := p.Exit; e != nil {
			info.Exit = &proto.ExitStatus{Code: uint32(e.Code), Signal: uint32(e.Signal), Message: e.Message}
		}
		all.Processes = append(all.Processes, info)
	}
	return all, nil
}
