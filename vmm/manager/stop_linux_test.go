package manager_test

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// fakeEnv makes this test program a worker of a fake machine.
const fakeEnv = "AEGIS_TEST_FAKE_WORKER"

func beFake() error {
	p, f, err := worker.Inherit()
	if err != nil {
		return err
	}
	return worker.Run(context.Background(), worker.Config{Plan: p, Files: f, Driver: &fake.Driver{}, Log: slog.Default()})
}

func TestAWorkerThatHangsIsKilledByAStop(t *testing.T) {
	t.Setenv(fakeEnv, "1")
	c := deafConfig(t)
	c.Patience.Stop = 50 * time.Millisecond
	m, err := manager.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	info, err := m.Start(t.Context(), managertest.Spec("hung"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(info.WorkerPid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(t.Context(), "hung"); err != nil {
		t.Fatal(err)
	}
	if lives(info.WorkerPid) {
		t.Errorf("the worker is left as process %d", info.WorkerPid)
	}
	if err := m.Remove(t.Context(), "hung"); err != nil {
		t.Error(err)
	}
}

func TestAStopOfAHungWorkerMayBeGivenUp(t *testing.T) {
	t.Setenv(fakeEnv, "1")
	c := deafConfig(t)
	c.Patience.Stop = time.Minute
	m, err := manager.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	info, err := m.Start(t.Context(), managertest.Spec("hung"))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(info.WorkerPid, syscall.SIGKILL)
	if err := syscall.Kill(info.WorkerPid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := m.Stop(ctx, "hung"); api.CodeOf(err) != api.Unavailable {
		t.Errorf("error %v, Unavailable expected", err)
	}
	if i, err := m.Get(t.Context(), "hung"); err != nil || i.State == vmm.StateEnded {
		t.Errorf("machine %+v (%v)", i, err)
	}
}

// This test plays the worker: it takes the connection of the stop, never
// answers and waits for its end.
func TestAStopLeavesNoConnectionToAHungWorker(t *testing.T) {
	d, dir := &fake.Driver{}, t.TempDir()
	listener := unheard(t, dir, "hung")
	var conns []net.Conn
	die := sync.OnceFunc(func() {
		listener.Close()
		for _, c := range conns {
			c.Close()
		}
	})
	c := fakeConfig(t, d, dir)
	c.Launcher = discards{manager.InProcess{Driver: d}, func(string) { die() }}
	c.Patience = manager.Patience{Adopt: time.Millisecond, Silence: time.Hour, Stop: 50 * time.Millisecond}
	m, err := manager.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	watch, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conns = append(conns, watch)
	stopped := make(chan error, 1)
	go func() { stopped <- m.Stop(t.Context(), "hung") }()
	stop, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer stop.Close()
	for buf := make([]byte, 1<<10); err == nil; { // the request, then the end
		_, err = stop.Read(buf)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if i, err := m.Get(t.Context(), "hung"); err != nil || i.State != vmm.StateEnded {
		t.Errorf("machine %+v (%v)", i, err)
	}
}
