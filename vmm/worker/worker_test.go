package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// running is a worker of a fake machine in this process.
type running struct {
	worker.Client
	runDir string
	stop   context.CancelFunc // as SIGTERM does
	over   chan error
}

// start runs a worker in dir.
func start(t *testing.T, dir string, d vmm.Driver, change func(*worker.Config)) *running {
	t.Helper()
	r := &running{Client: worker.Client{Dir: dir}, runDir: filepath.Join(dir, "run"), over: make(chan error, 1)}
	if err := os.MkdirAll(r.runDir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := worker.Config{
		Plan: worker.Plan{
			ID: "one", Driver: "fake", Accel: "none", Kernel: "/kernel", Initramfs: "/initramfs", MemoryMiB: 64, VCPUs: 1,
			ReadyTimeout: 10 * time.Second, RunDir: r.runDir,
		},
		Driver: d, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	var err error
	if c.Files.Listener, err = worker.Listen(dir); err != nil {
		t.Fatal(err)
	}
	if c.Files.RunDir, err = os.Open(r.runDir); err != nil {
		t.Fatal(err)
	}
	if c.Files.Console, err = os.OpenFile(filepath.Join(dir, "console.log"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&c)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.over <- worker.Run(ctx, c); close(r.over) }()
	t.Cleanup(func() { stop(); <-r.over })
	return r
}

// until follows the worker until its machine is in a state.
func (r *running) until(t *testing.T, s vmm.State) worker.Report {
	t.Helper()
	reports, err := r.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for report := range reports {
		if report.State == s {
			return report
		}
	}
	t.Fatalf("the worker went before its machine was %s", s)
	return worker.Report{}
}

// end waits for the worker's end and reads its record.
func (r *running) end(t *testing.T) vmm.Exit {
	t.Helper()
	if err := <-r.over; err != nil {
		t.Fatal(err)
	}
	e, err := worker.ReadExit(filepath.Join(r.runDir, worker.ExitName))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// torn is a machine whose pauses stop it, but whose answers come too late.
type torn struct {
	vmm.Driver
	pausing chan struct{}
	resumed chan struct{}
}

type tornMachine struct {
	vmm.Machine
	torn
}

func (d torn) Start(ctx context.Context, p vmm.Plan) (vmm.Machine, error) {
	m, err := d.Driver.Start(ctx, p)
	return tornMachine{m, d}, err
}

func (m tornMachine) Pause(ctx context.Context) error {
	err := m.Machine.Pause(ctx)
	m.pausing <- struct{}{}
	<-ctx.Done()
	return errors.Join(err, ctx.Err())
}

func (m tornMachine) Resume(ctx context.Context) error {
	defer close(m.resumed)
	return m.Machine.Resume(ctx)
}

func TestAPauseThatIsGivenUpIsUndone(t *testing.T) {
	d := torn{&fake.Driver{}, make(chan struct{}), make(chan struct{})}
	r := start(t, t.TempDir(), d, nil)
	r.until(t, vmm.StateRunning)
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() { given <- r.Pause(ctx) }()
	<-d.pausing
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("pause: %v", err)
	}
	<-d.resumed
	if report, err := r.Info(t.Context()); err != nil || report.State != vmm.StateRunning {
		t.Errorf("the machine is %s (%v)", report.State, err)
	}
}

func TestAWorkerTellsOfItsMachineFromStartToEnd(t *testing.T) {
	r := start(t, t.TempDir(), &fake.Driver{}, nil)
	reports, err := r.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var seen []vmm.State
	for report := range reports {
		if report.WorkerPid != os.Getpid() {
			t.Errorf("the kernel says that process %d sent the report, %d did", report.WorkerPid, os.Getpid())
		}
		if n := len(seen); n == 0 || seen[n-1] != report.State {
			seen = append(seen, report.State)
		}
		switch report.State {
		case vmm.StateRunning:
			go r.Pause(t.Context())
		case vmm.StatePaused:
			go r.Stop(t.Context())
		}
	}
	want := []vmm.State{vmm.StateStarting, vmm.StateRunning, vmm.StatePaused, vmm.StateEnded}
	if seen[0] == vmm.StateRunning {
		want = want[1:] // the machine was quicker than the watch
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
	if e := r.end(t); e.Reason != vmm.ReasonStopped {
		t.Errorf("exit %+v", e)
	}
	if _, err := r.Info(t.Context()); !errors.Is(err, worker.ErrGone) {
		t.Errorf("error %v of a worker that has gone, ErrGone expected", err)
	}
}

func TestAWatchOutlivesTheTimeForRequests(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir, &fake.Driver{}, func(c *worker.Config) { c.RequestTimeout = 20 * time.Millisecond })
	reports, err := r.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for report := range reports {
		if report.State == vmm.StateRunning {
			break
		}
	}
	// A peer that asks for nothing is sent away when the time is over.
	mute, err := net.Dial("unixpacket", filepath.Join(dir, worker.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	if _, err := mute.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("a peer that asks for nothing: %v", err)
	}
	if err := r.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if report, ok := <-reports; !ok || report.State != vmm.StatePaused {
		t.Errorf("the watch told %+v (%t) of a pause", report, ok)
	}
}

func TestALackOfDescriptorsDoesNotMeanThatAWorkerIsGone(t *testing.T) {
	r := start(t, t.TempDir(), &fake.Driver{}, nil)
	r.until(t, vmm.StateRunning)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := r.Info(t.Context())
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err == nil || errors.Is(err, worker.ErrGone) {
		t.Errorf("without descriptors: %v", err)
	}
	r.stop()
	r.end(t)
	if _, err := r.Info(t.Context()); !errors.Is(err, worker.ErrGone) {
		t.Errorf("after its end: %v, ErrGone expected", err)
	}
}

func TestASocketMayBeAtTheEndOfALongPath(t *testing.T) {
	dir := t.TempDir()
	for len(dir) < 200 {
		dir = filepath.Join(dir, strings.Repeat("d", 50))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := start(t, dir, &fake.Driver{}, nil)
	r.until(t, vmm.StateRunning)
	if i, err := r.Info(t.Context()); err != nil || i.State != vmm.StateRunning {
		t.Errorf("info %+v (%v)", i, err)
	}
}

func TestAMachineThatCannotBeStartedIsOnRecord(t *testing.T) {
	d := &fake.Driver{}
	d.Behave(fake.Behaviour{FailStart: errors.New("no such\nluck\x1b[31m")})
	e := start(t, t.TempDir(), d, nil).end(t)
	if e.Reason != vmm.ReasonCrashed || e.Detail != `not started: starting fake machine "one": no such luck[31m` {
		t.Errorf("exit %+v", e)
	}
}

func TestAGuestThatIsNeverReadyIsStoppedAndItsConsoleQuoted(t *testing.T) {
	d := &fake.Driver{}
	d.Behave(fake.Behaviour{NeverReady: true})
	e := start(t, t.TempDir(), d, func(c *worker.Config) {
		c.Plan.ReadyTimeout = 30 * time.Millisecond
		if _, err := c.Files.Console.WriteString("booting\n\nstuck\tat the \x1b[1mlast\x1b[0m step"); err != nil {
			t.Fatal(err)
		}
	}).end(t)
	if e.Reason != vmm.ReasonNeverReady || !strings.Contains(e.Detail, "30ms") || !strings.HasSuffix(e.Detail, "booting | stuck at the [1mlast[0m step") {
		t.Errorf("exit %+v", e)
	}
}

func TestAShutdownAsksTheGuestFirst(t *testing.T) {
	d := &fake.Driver{}
	asked := false
	r := start(t, t.TempDir(), d, func(c *worker.Config) {
		c.Shutdown = func(context.Context, vmm.Machine) error {
			asked = true
			d.Machine("one").Crash("as a guest that leaves")
			return nil
		}
	})
	r.until(t, vmm.StateRunning)
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := r.end(t); !asked || e.Detail != "as a guest that leaves" {
		t.Errorf("asked %t, exit %+v", asked, e)
	}
}

// leave asks a fake guest to leave, as a worker's Shutdown does.
func leave(ctx context.Context, m vmm.Machine) error {
	c, err := m.Connect(ctx, proto.PortControl)
	if err != nil {
		return err
	}
	defer c.Close()
	client := ttrpc.NewClient(c)
	defer client.Close()
	guest := proto.NewGuestClient(client)
	if _, err := guest.Hello(ctx, &proto.HelloRequest{Version: proto.Version}); err != nil {
		return err
	}
	_, err = guest.Poweroff(ctx, &proto.PoweroffRequest{GraceMs: 1000})
	return err
}

func TestWhoWantedAGuestToLeaveIsOnRecord(t *testing.T) {
	d := &fake.Driver{}
	r := start(t, t.TempDir(), d, func(c *worker.Config) { c.Shutdown = leave })
	r.until(t, vmm.StateRunning)
	r.stop()
	if e := r.end(t); e.Reason != vmm.ReasonShutdown {
		t.Errorf("asked by the host: exit %+v", e)
	}
	r = start(t, t.TempDir(), d, nil)
	r.until(t, vmm.StateRunning)
	if err := leave(t.Context(), d.Machine("one")); err != nil {
		t.Fatal(err)
	}
	if e := r.end(t); e.Reason != vmm.ReasonPoweroff {
		t.Errorf("by itself: exit %+v", e)
	}
}

// mute is a driver whose monitor never answers its greeting.
type mute struct{ vmm.Driver }

func (mute) Start(ctx context.Context, _ vmm.Plan) (vmm.Machine, error) {
	<-ctx.Done()
	return nil, errors.New("reading the monitor's greeting: closed")
}

func TestAMonitorThatNeverAnswersIsAGuestThatIsNeverReady(t *testing.T) {
	r := start(t, t.TempDir(), mute{&fake.Driver{}}, func(c *worker.Config) { c.Plan.ReadyTimeout = 20 * time.Millisecond })
	e := r.end(t)
	if e.Reason != vmm.ReasonNeverReady || !strings.HasPrefix(e.Detail, "the guest was not ready within 20ms: its monitor was still starting: reading") {
		t.Errorf("exit %+v", e)
	}
	r = start(t, t.TempDir(), mute{&fake.Driver{}}, nil)
	r.stop()
	if e := r.end(t); e.Reason != vmm.ReasonCrashed {
		t.Errorf("a start that is given up: exit %+v", e)
	}
}

// unpausable starts machines as a driver does that has no pauses.
type unpausable struct{ vmm.Driver }

type unpausableMachine struct{ vmm.Machine }

func (d unpausable) Start(ctx context.Context, p vmm.Plan) (vmm.Machine, error) {
	m, err := d.Driver.Start(ctx, p)
	return unpausableMachine{m}, err
}

func (unpausableMachine) Resume(context.Context) error { return vmm.ErrUnsupported }

func TestAShutdownNeedsNoPauses(t *testing.T) {
	d := &fake.Driver{}
	r := start(t, t.TempDir(), unpausable{d}, func(c *worker.Config) {
		c.Shutdown = func(context.Context, vmm.Machine) error {
			d.Machine("one").Crash("as a guest that leaves")
			return nil
		}
	})
	r.until(t, vmm.StateRunning)
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := r.end(t); e.Detail != "as a guest that leaves" {
		t.Errorf("exit %+v", e)
	}
}

func TestAPausedGuestIsWokenToLeave(t *testing.T) {
	d := torn{&fake.Driver{}, make(chan struct{}, 1), make(chan struct{})}
	r := start(t, t.TempDir(), woken{d}, func(c *worker.Config) {
		c.Shutdown = func(ctx context.Context, m vmm.Machine) error { return m.Stop(ctx) }
	})
	r.until(t, vmm.StateRunning)
	if err := r.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.stop()
	<-d.resumed
	r.end(t)
}

// woken is torn, but pauses at once.
type woken struct{ torn }

type wokenMachine struct{ tornMachine }

func (d woken) Start(ctx context.Context, p vmm.Plan) (vmm.Machine, error) {
	m, err := d.Driver.Start(ctx, p)
	return wokenMachine{tornMachine{m, d.torn}}, err
}

func (m wokenMachine) Pause(ctx context.Context) error { return m.Machine.Pause(ctx) }

func TestAGuestThatDoesNotLeaveHasItsPlugPulled(t *testing.T) {
	for what, shutdown := range map[string]func(context.Context, vmm.Machine) error{
		"it refuses":       func(context.Context, vmm.Machine) error { return errors.New("no") },
		"it only promises": func(context.Context, vmm.Machine) error { return nil },
		"nobody can ask":   nil,
	} {
		r := start(t, t.TempDir(), &fake.Driver{}, func(c *worker.Config) { c.Shutdown, c.Grace = shutdown, 20*time.Millisecond })
		r.until(t, vmm.StateRunning)
		r.stop()
		if e := r.end(t); e.Reason != vmm.ReasonStopped {
			t.Errorf("%s: exit %+v", what, e)
		}
	}
}

func TestRequestsThatCannotBe(t *testing.T) {
	d := &fake.Driver{}
	boot := make(chan struct{})
	d.Behave(fake.Behaviour{Boot: boot})
	r := start(t, t.TempDir(), d, nil)
	r.until(t, vmm.StateStarting)
	close(boot)
	r.until(t, vmm.StateRunning)
	if _, err := r.Connect(t.Context(), 7); err == nil || !strings.Contains(err.Error(), "port 7") {
		t.Errorf("connecting to a port without a listener: %v", err)
	}
	err := r.Snapshot(t.Context(), vmm.Snapshot{State: os.Stdin, Memory: os.Stdin})
	if api.CodeOf(err) != api.BadState {
		t.Errorf("a snapshot of a driver that has none: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Pause(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a request without time: %v", err)
	}
	if f, err := r.Connect(t.Context(), proto.PortControl); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
}

func TestAnExitRecordIsReadWithDistrust(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "exit.json")
	secret := filepath.Join(dir, "secret")
	good, _ := json.Marshal(vmm.Exit{Reason: vmm.ReasonPanic, Detail: "x"})
	if err := os.WriteFile(secret, good, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, make := range map[string]func() error{
		"a symbolic link":   func() error { return os.Symlink(secret, path) },
		"a directory":       func() error { return os.Mkdir(path, 0o755) },
		"an unknown reason": func() error { return os.WriteFile(path, []byte(`{"reason":"bored"}`), 0o600) },
		"no JSON":           func() error { return os.WriteFile(path, []byte("poweroff"), 0o600) },
		"a huge record": func() error {
			return os.WriteFile(path, []byte(`{"reason":"panic","detail":"`+strings.Repeat("x", 1<<20)+`"}`), 0o600)
		},
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if e, err := worker.ReadExit(path); err == nil {
			t.Errorf("%s was taken: %+v", what, e)
		}
		os.RemoveAll(path)
	}
	if _, err := worker.ReadExit(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no record: %v", err)
	}
	if e, err := worker.ReadExit(secret); err != nil || e.Reason != vmm.ReasonPanic {
		t.Errorf("a good record: %+v (%v)", e, err)
	}
}
