package fake

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/kept"
	"github.com/xfeldman/aegisvm/vmm/fake/program"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// process is one program that runs or has run.
type process struct {
	pid     uint32
	signals chan int
	done    chan struct{} // closed after status is set
	waited  func()        // closes awaited
	awaited chan struct{} // closed when the host has begun to wait
	cancel  context.CancelFunc

	mu       sync.Mutex // guards the fields below
	catch    bool
	killed   int
	timedOut bool
	clients  int // who hold the status
	status   proto.ProcessStatus
	// host holds our ends of the pipes that the host has not dialled yet,
	// inner the ends that the program uses.
	host  map[proto.Kind]*os.File
	inner []io.Closer
	// tty and outputs are there for a process with a terminal, or a detached
	// one; started is what it was started as.
	tty     *tty
	outputs map[proto.Kind]*output
	request *proto.StartRequest
	begun   time.Time
	kept    map[proto.Kind]*kept.Source
}

// Start starts a program of the machine.
func (g *guest) Start(_ context.Context, r *proto.StartRequest) (*proto.StartResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch id := r.GetId(); {
	case g.ended:
		return nil, status.Error(codes.Unavailable, "machine has ended")
	case !g.named:
		return nil, status.Error(codes.FailedPrecondition, "no process starts before SetIdentity")
	case id == "" || len(id) > proto.MaxID:
		return nil, status.Errorf(codes.InvalidArgument, "process id of %d bytes, 1 to %d expected", len(id), proto.MaxID)
	case g.processes[id] != nil:
		return nil, status.Errorf(codes.AlreadyExists, "process %q exists", id)
	case len(r.GetArgv()) == 0:
		return nil, status.Error(codes.InvalidArgument, "argv is empty")
	}
	g.lastPid++
	p := &process{
		pid: g.lastPid, signals: make(chan int, 16), done: make(chan struct{}),
		host: map[proto.Kind]*os.File{}, outputs: map[proto.Kind]*output{}, request: r, begun: time.Now(),
		kept: map[proto.Kind]*kept.Source{}, awaited: make(chan struct{}),
	}
	p.waited = sync.OnceFunc(func() { close(p.awaited) })
	proc, err := p.connect(r)
	if err != nil {
		p.unplug()
		return nil, status.Errorf(codes.Internal, "%v", err)
	}
	ctx, cancel := context.WithCancel(g.ctx)
	p.cancel = cancel
	g.bind(p, proc)
	g.processes[r.GetId()] = p
	go p.run(ctx, g.programs[r.GetArgv()[0]], proc)
	p.limit(r)
	return &proto.StartResponse{Pid: p.pid}, nil
}

// plumb makes the pipes of a process.
func (p *process) plumb(r *proto.StartRequest) (*program.Proc, error) {
	proc := &program.Proc{Argv: r.GetArgv(), Env: r.GetEnv(), Stdin: eof{}, Stdout: io.Discard, Stderr: io.Discard}
	pipe := func(k proto.Kind, s proto.Stdio) (*os.File, error) {
		if s != proto.Stdio_STDIO_STREAM {
			return nil, nil
		}
		in, out, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("making the pipe of %s: %w", k, err)
		}
		if k == proto.Stdin {
			in, out = out, in
		}
		p.host[k], p.inner = in, append(p.inner, out)
		return out, nil
	}
	stdin, err := pipe(proto.Stdin, r.GetStdin())
	if err != nil {
		return nil, err
	}
	stdout, err := pipe(proto.Stdout, r.GetStdout())
	if err != nil {
		return nil, err
	}
	stderr, err := pipe(proto.Stderr, r.GetStderr())
	if err != nil {
		return nil, err
	}
	if stdin != nil {
		proc.Stdin = stdin
	}
	if stdout != nil {
		proc.Stdout = stdout
	}
	if stderr != nil {
		proc.Stderr = stderr
	}
	return proc, nil
}

// bind gives a program the powers over its process and machine.
func (g *guest) bind(p *process, proc *program.Proc) {
	proc.Signals = p.signals
	proc.Catch = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.catch = true
	}
	proc.Kill = p.signal
	proc.Size = p.size
	proc.Sysrq = func(c byte) error { return g.machine.Load().sysrq(c) }
	proc.Disk = func(role string, write bool) (program.Disk, error) {
		return g.machine.Load().disk(role, write)
	}
}

// run runs the program and sets its status.
func (p *process) run(ctx context.Context, main program.Program, proc *program.Proc) {
	defer p.cancel()
	s := proto.ProcessStatus{Code: 127, Message: fmt.Sprintf("%s: not found", proc.Argv[0])}
	switch {
	case main != nil:
		s = proto.ProcessStatus{Code: main(ctx, proc)}
	case proc.Argv[0] == "/":
		s = proto.ProcessStatus{Code: 126, Message: "/: permission denied"}
	}
	p.mu.Lock()
	switch {
	case p.timedOut:
		s = proto.ProcessStatus{Code: 124, Message: fmt.Sprintf("timed out after %d ms", p.request.GetTimeoutMs())}
	case p.killed != 0:
		s = proto.ProcessStatus{Code: 128 + p.killed, Signal: p.killed}
	}
	p.status = s
	for _, f := range p.inner {
		f.Close()
	}
	p.mu.Unlock()
	close(p.done)
}

// signal delivers a signal: to the program if it catches it, else it ends.
func (p *process) signal(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.catch && n != int(syscall.SIGKILL) {
		select {
		case p.signals <- n:
		default: // as in a kernel, signals that nobody takes merge
		}
		return
	}
	if p.killed == 0 {
		p.killed = n
	}
	p.cancel()
	for _, f := range p.inner { // wakes a program that reads or writes
		f.Close()
	}
}

// unplug closes the pipes, when the machine goes.
func (p *process) unplug() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.inner {
		f.Close()
	}
	for _, f := range p.host {
		f.Close()
	}
	for _, s := range p.kept {
		s.Close()
	}
}

// keep makes a stream a kept one; nil where it cannot be.
func (p *process) keep(k proto.Kind) *kept.Source {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.host[k]; f != nil {
		p.kept[k] = kept.NewSource(f)
		delete(p.host, k)
	}
	return p.kept[k]
}

// take returns our end of a stream, once.
func (p *process) take(k proto.Kind) *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.host[k]
	delete(p.host, k)
	return f
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
