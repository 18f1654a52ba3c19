package run

import (
	"context"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// fakeAegis keeps one instance, whose program is a function. What it does not
// override panics.
type fakeAegis struct {
	api.Aegis
	// program runs once attached; the streams are closed when it returns.
	program func(g *guest)
	// createErr and attachErr are what the calls answer.
	createErr, attachErr error
	// hold keeps Attach from answering until its caller gives up.
	hold bool
	// entered is told when Create or Attach is under way.
	entered chan string
	// creating, if set, is what Create waits for.
	creating chan struct{}
	// rejoining, if set, answers Rejoin; without it there is nothing to
	// rejoin.
	rejoining chan func() (*os.File, error)
	// asked, if set, is called when the record is asked for.
	asked func()

	mu        sync.Mutex // guards the fields below
	record    api.Instance
	spec      api.InstanceSpec
	deleted   int
	deleteErr error
	getErr    error
	signalErr error
	guest     *guest
	programs  sync.WaitGroup
}

// guest is the program's side of the streams.
type guest struct {
	stdin, stdout, stderr, status, session *os.File
	signals                                chan int
	fake                                   *fakeAegis
}

// exit ends the program as a guest does.
func (g *guest) exit(s proto.ProcessStatus) { proto.WriteStatus(g.status, s) }

// fail ends the machine: the streams go without a status, and the record says
// why once the session ends.
func (g *guest) fail(in api.Instance) {
	g.closeStreams()
	g.fake.set(func(f *fakeAegis) { f.record = in })
	g.session.Close()
}

// awaitClient waits until the client passes bytes: a signal that comes before
// is one that comes while the machine starts.
func (g *guest) awaitClient() { g.stdin.Read(make([]byte, 1)) }

func (g *guest) closeStreams() {
	for _, f := range []*os.File{g.stdin, g.stdout, g.stderr, g.status} {
		if f != nil {
			f.Close()
		}
	}
}

func (f *fakeAegis) set(change func(*fakeAegis)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeAegis) tell(what string) {
	if f.entered != nil {
		f.entered <- what
	}
}

func (f *fakeAegis) Create(ctx context.Context, _ api.Caller, spec api.InstanceSpec) (api.Instance, error) {
	f.tell("create")
	if f.creating != nil {
		select {
		case <-f.creating:
		case <-ctx.Done():
			return api.Instance{}, ctx.Err()
		}
	}
	if f.createErr != nil {
		return api.Instance{}, f.createErr
	}
	f.set(func(f *fakeAegis) { f.spec, f.record = spec, api.Instance{ID: "inst-1", Phase: api.PhaseStarting} })
	return api.Instance{ID: "inst-1"}, nil
}

func (f *fakeAegis) Attach(ctx context.Context, id string) (*api.Streams, error) {
	f.tell("attach")
	if f.hold {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if f.attachErr != nil {
		return nil, f.attachErr
	}
	s, g := &api.Streams{}, &guest{signals: make(chan int, 8), fake: f}
	if f.spec.Stdin {
		s.Stdin, g.stdin = socketpair()
	}
	s.Stdout, g.stdout = socketpair()
	s.Stderr, g.stderr = socketpair()
	s.Status, g.status = socketpair()
	s.Session, g.session = socketpair()
	f.set(func(f *fakeAegis) { f.guest, f.record.Phase = g, api.PhaseRunning })
	f.programs.Go(func() {
		f.program(g)
		g.closeStreams()
	})
	return s, nil
}

func (f *fakeAegis) Rejoin(ctx context.Context, _ string) (*os.File, error) {
	select {
	case answer := <-f.rejoining:
		return answer()
	case <-ctx.Done():
		return nil, api.Errorf(api.Unavailable, "given up")
	default:
	}
	if f.rejoining == nil {
		return nil, api.Errorf(api.BadState, "at rest")
	}
	return nil, api.Errorf(api.Unavailable, "aegisd is not running")
}

func (f *fakeAegis) Signal(_ context.Context, _ string, signal int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.signalErr != nil {
		return f.signalErr
	}
	f.guest.signals <- signal
	return nil
}

func (f *fakeAegis) Get(context.Context, string) (api.Instance, error) {
	if f.asked != nil {
		f.asked()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.record, f.getErr
}

// Delete ends the program as a machine's end does.
func (f *fakeAegis) Delete(context.Context, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deleted++
	if f.guest != nil {
		close(f.guest.signals)
		f.guest.closeStreams()
		f.guest.session.Close()
		f.guest = nil
	}
	return f.deleteErr
}

func (f *fakeAegis) Events(ctx context.Context) (<-chan api.Event, error) {
	return nil, api.Errorf(api.Unavailable, "no events here")
}

// socketpair makes two ends that the runtime polls, as those that aegisd
// hands out.
func socketpair() (a, b *os.File) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		panic(err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		unix.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "guest's")
}

// pipe makes a pipe that blocks, as those of a shell do. It is left to the
// garbage collector: as at the end of a process, a copy may still be using it.
func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	return os.NewFile(uintptr(fds[0]), "read end"), os.NewFile(uintptr(fds[1]), "write end")
}
