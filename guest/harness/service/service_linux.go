package service

import (
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/guest/harness/process"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/archive"
	"github.com/xfeldman/aegisvm/guest/proto/forward"
)

// Machine is what the service does to the machine itself.
type Machine interface {
	// Identify makes the machine somebody's; it may be called again.
	Identify(*proto.Identity) error
	// SetTime sets the clock.
	SetTime(time.Time) error
	// Activity tells how much programs have done so far.
	Activity() (*proto.ActivityResponse, error)
	// Poweroff asks for the end of the machine, which comes after the call.
	Poweroff(grace time.Duration)
}

// Service serves the contract.
type Service struct {
	version   string
	bootID    string
	machine   Machine
	processes *process.Table
	copies    *archive.Server
	log       func(string)
	rpc       *ttrpc.Server
	calls     proto.Calls
	named     atomic.Bool
	naming    sync.Mutex
	workspace Workspace
	forwards  forward.Server
}

// New makes the service of a guest. version is for people, bootID names this
// boot; log gets one line about what a host did wrong.
func New(version, bootID string, m Machine, t *process.Table, log func(string)) (*Service, error) {
	s := &Service{
		version: version, bootID: bootID,
		machine: m, processes: t, copies: archive.NewServer("/"), log: log,
	}
	var err error
	if s.rpc, err = ttrpc.NewServer(ttrpc.WithChainUnaryServerInterceptor(s.recovered, proto.HelloFirst)); err != nil {
		return nil, err
	}
	proto.RegisterGuestService(s.rpc, s)
	return s, nil
}

// WithListens has connections to programs that do not listen yet wait for what
// watch tells.
func (s *Service) WithListens(watch func(port uint16) (woken <-chan struct{}, stop func(), err error)) {
	s.forwards.Watch = watch
}

// Close ends all control connections.
func (s *Service) Close() error { return s.rpc.Close() }

// Answer waits until what the host asked is answered: one that waits for the
// end of a program hears it before the machine goes.
func (s *Service) Answer(ctx context.Context) error { return s.calls.Await(ctx) }

// Serve serves a connection to a port and takes possession of it. It returns
// before the connection has ended.
func (s *Service) Serve(c process.Conn, port uint32) {
	switch port {
	case proto.PortControl:
		proto.ServeControl(context.Background(), s.rpc, c, &s.calls)
	case proto.PortStream:
		go s.stream(c) // ends with the connection
	case proto.PortForward:
		go s.forward(c) // ends with the connection
	case proto.PortWorkspace:
		s.offer(c)
	default:
		c.Close()
	}
}

// stream serves one stream of a process or a copy.
func (s *Service) stream(c process.Conn) {
	pre, err := proto.ReadPrelude(c)
	if err != nil {
		c.Close()
		s.log(err.Error())
		return
	}
	if pre.Kind == proto.Archive || s.copies.Has(pre.Process) {
		err = s.copies.Serve(c, pre)
	} else {
		err = s.processes.Serve(c, pre)
	}
	if err != nil {
		s.log(pre.Kind.String() + ": " + err.Error())
	}
}

// forward connects the host with a program.
func (s *Service) forward(c process.Conn) {
	if err := s.forwards.Serve(context.Background(), c); err != nil {
		s.log(err.Error())
	}
}

// recovered turns a panic into an error of the call.
func (s *Service) recovered(ctx context.Context, in ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, call ttrpc.Method) (out any, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.log(string(debug.Stack()))
			out, err = nil, status.Errorf(codes.Internal, "%s: the harness panicked: %v", info.FullMethod, r)
		}
	}()
	return call(ctx, in)
}

// Hello checks the caller's version.
func (s *Service) Hello(_ context.Context, r *proto.HelloRequest) (*proto.HelloResponse, error) {
	if proto.Major(r.GetVersion()) != proto.Major(proto.Version) {
		return nil, status.Errorf(codes.FailedPrecondition,
			"the host speaks contract version %d, the guest %d: install a host and a guest of the same release", r.GetVersion(), proto.Version)
	}
	return &proto.HelloResponse{Version: proto.Version, Harness: s.version, BootId: s.bootID}, nil
}

// SetIdentity makes the machine somebody's.
func (s *Service) SetIdentity(_ context.Context, r *proto.Identity) (*proto.Empty, error) {
	s.naming.Lock()
	defer s.naming.Unlock()
	if err := checkIdentity(r); err != nil {
		return nil, err
	}
	if err := s.machine.Identify(r); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	s.named.Store(true)
	return &proto.Empty{}, nil
}

// SetTime sets the clock.
func (s *Service) SetTime(_ context.Context, r *proto.Time) (*proto.Empty, error) {
	if r.GetUnixNano() <= 0 {
		return nil, status.Errorf(codes.InvalidArgument, "%d ns since 1970, more than 0 expected", r.GetUnixNano())
	}
	if err := s.machine.SetTime(time.Unix(0, r.GetUnixNano())); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &proto.Empty{}, nil
}

// Activity tells how much programs have done so far.
func (s *Service) Activity(context.Context, *proto.Empty) (*proto.ActivityResponse, error) {
	r, err := s.machine.Activity()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return r, nil
}

const (
	minEntropy   = 32
	maxEntropy   = 4096
	maxHostname  = 64
	machineIDLen = 32
)

func checkIdentity(r *proto.Identity) error {
	if n := len(r.GetEntropy()); n < minEntropy || n > maxEntropy {
		return status.Errorf(codes.InvalidArgument, "%d bytes of entropy, %d to %d expected", n, minEntropy, maxEntropy)
	}
	if !hostname(r.GetHostname()) {
		return status.Errorf(codes.InvalidArgument, "hostname %q: 1 to %d letters, digits, dots and dashes expected", r.GetHostname(), maxHostname)
	}
	id, err := hex.DecodeString(r.GetMachineId())
	if r.GetMachineId() != "" && (err != nil || len(id) != machineIDLen/2 || hex.EncodeToString(id) != r.GetMachineId()) {
		return status.Errorf(codes.InvalidArgument, "machine id %q: %d lower-case hex digits expected", r.GetMachineId(), machineIDLen)
	}
	return checkNetwork(r.GetNetwork())
}

func checkNetwork(n *proto.Network) error {
	if n == nil {
		return nil
	}
	for _, a := range append([][]byte{n.GetAddress(), n.GetGateway()}, n.GetResolvers()...) {
		if addr, ok := netip.AddrFromSlice(a); !ok || !addr.Is4() || addr.IsUnspecified() {
			return status.Errorf(codes.InvalidArgument, "network: %x is no address of IPv4", a)
		}
	}
	return nil
}

func hostname(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= maxHostname
}

// Start starts a process.
func (s *Service) Start(_ context.Context, r *proto.StartRequest) (*proto.StartResponse, error) {
	if !s.named.Load() {
		return nil, status.Error(codes.FailedPrecondition, "no process starts before SetIdentity")
	}
	spec, err := specOf(r)
	if err != nil {
		return nil, err
	}
	pid, err := s.processes.Start(spec)
	if err != nil {
		return nil, explain(err)
	}
	return &proto.StartResponse{Pid: uint32(pid)}, nil
}

// Wait answers when a process has ended.
func (s *Service) Wait(ctx context.Context, r *proto.WaitRequest) (*proto.ExitStatus, error) {
	end, err := s.processes.Wait(ctx, r.GetId())
	if err != nil {
		return nil, explain(err)
	}
	return &proto.ExitStatus{Code: uint32(end.Code), Signal: uint32(end.Signal), Message: end.Message}, nil
}

const maxSignal = 64

// Signal signals a process group; a process that has ended is no error.
func (s *Service) Signal(_ context.Context, r *proto.SignalRequest) (*proto.Empty, error) {
	if r.GetSignal() == 0 || r.GetSignal() > maxSignal {
		return nil, status.Errorf(codes.InvalidArgument, "signal %d, 1 to %d expected", r.GetSignal(), maxSignal)
	}
	if err := s.processes.Signal(r.GetId(), syscall.Signal(r.GetSignal())); err != nil {
		return nil, explain(err)
	}
	return &proto.Empty{}, nil
}

// Poweroff ends the machine.
func (s *Service) Poweroff(_ context.Context, r *proto.PoweroffRequest) (*proto.Empty, error) {
	s.machine.Poweroff(time.Duration(r.GetGraceMs()) * time.Millisecond)
	return &proto.Empty{}, nil
}

// explain gives an error of the table the code that the host knows it by.
func explain(err error) error {
	code := codes.Internal
	switch {
	case errors.Is(err, process.ErrNotFound):
		code = codes.NotFound
	case errors.Is(err, process.ErrExists):
		code = codes.AlreadyExists
	case errors.Is(err, process.ErrInvalid):
		code = codes.InvalidArgument
	case errors.Is(err, process.ErrMany):
		code = codes.ResourceExhausted
	case errors.Is(err, process.ErrNoTTY):
		code = codes.FailedPrecondition
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = codes.Canceled
	}
	return status.Error(code, err.Error())
}
