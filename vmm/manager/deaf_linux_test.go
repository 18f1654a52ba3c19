package manager_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// deafEnv makes this test program a worker that never answers, and has a
// child as a worker has a monitor.
const deafEnv = "AEGIS_TEST_DEAF_WORKER"

func beDeaf() error {
	monitor := exec.Command("sleep", "1000")
	if err := monitor.Start(); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, os.Getpid(), monitor.Process.Pid)
	if os.Getenv(deafEnv) == answersOnce {
		const listenerFD = 4
		l, err := net.FileListener(os.NewFile(listenerFD, "listener"))
		if err != nil {
			return err
		}
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprint(c, `{"info":{"seq":1,"state":"running"}}`)
	}
	return monitor.Wait()
}

// answersOnce is a deafEnv of a worker that answers its first peer only.
const answersOnce = "answers once"

// launchDeaf leaves the directory of a machine whose worker does not answer,
// and tells the numbers of the worker and its monitor.
func launchDeaf(t *testing.T, c manager.Config, id string) (pids [2]int) {
	t.Helper()
	run := leave(t, c.Dir, id)
	dir := filepath.Dir(run)
	listener, err := worker.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	null := func() *os.File {
		f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	said, log, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	if os.Getenv(deafEnv) == "" {
		t.Setenv(deafEnv, "1")
	}
	files := worker.Files{Listener: listener, RunDir: null(), Console: null()}
	p, err := c.Launcher.Launch(t.Context(), worker.Plan{ID: id, RunDir: run}, files, log)
	log.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill() })
	line, err := bufio.NewReader(said).ReadString('\n')
	if _, scan := fmt.Sscan(line, &pids[0], &pids[1]); scan != nil {
		t.Fatalf("the worker said %q (%v)", line, err)
	}
	monitor, err := os.FindProcess(pids[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { monitor.Kill() })
	return pids
}

func deafConfig(t *testing.T) manager.Config {
	return manager.Config{
		Dir: t.TempDir(), Guest: managertest.Guest(t), Driver: &fake.Driver{},
		Launcher: manager.Children{Binary: "/proc/self/exe"}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// openSoon opens a manager that does not wait long for answers.
func openSoon(t *testing.T, c manager.Config) *manager.Manager {
	t.Helper()
	c.Patience = manager.Patience{Adopt: time.Minute, Silence: 100 * time.Millisecond}
	m, err := manager.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestAWorkerThatDoesNotAnswerIsEndedWithItsMonitor(t *testing.T) {
	c := deafConfig(t)
	pids := launchDeaf(t, c, "deaf")
	m := openSoon(t, c)
	info, err := m.Get(t.Context(), "deaf")
	if err != nil || info.State != vmm.StateEnded || info.Exit.Reason != vmm.ReasonWorkerLost {
		t.Errorf("machine %+v, exit %+v (%v)", info, info.Exit, err)
	}
	for _, pid := range pids {
		if lives(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
	if err := m.Remove(t.Context(), "deaf"); err != nil {
		t.Error(err)
	}
}

// A number that a process has said once may be another's by now.
func TestAWorkerMustAnswerTwice(t *testing.T) {
	t.Setenv(deafEnv, answersOnce)
	c := deafConfig(t)
	pids := launchDeaf(t, c, "once")
	m := openSoon(t, c)
	info, err := m.Get(t.Context(), "once")
	if err != nil || info.State != vmm.StateEnded || info.Exit.Reason != vmm.ReasonWorkerLost {
		t.Errorf("machine %+v, exit %+v (%v)", info, info.Exit, err)
	}
	for _, pid := range pids {
		if lives(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
}

func TestAnUnfinishedStartIsEndedThoughItsWorkerDoesNotAnswer(t *testing.T) {
	c := deafConfig(t)
	pids := launchDeaf(t, c, "deaf")
	dir := filepath.Join(c.Dir, "deaf")
	if err := os.WriteFile(filepath.Join(dir, "starting"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	openSoon(t, c)
	for _, pid := range pids {
		if lives(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left (%v)", err)
	}
}

// A host that lost its power leaves such a note.
func TestANoteThatSaysNothingIsOfAnotherBoot(t *testing.T) {
	c := deafConfig(t)
	for id, file := range map[string]string{"begun": "starting", "done": "log"} {
		dir := filepath.Dir(leave(t, c.Dir, id))
		for name, content := range map[string]string{file: "", "worker.pid": "\x00\x00\x00"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	m := openSoon(t, c)
	all, err := m.List(t.Context())
	if err != nil || len(all) != 1 || all[0].ID != "done" || all[0].State != vmm.StateEnded {
		t.Errorf("machines %+v (%v)", all, err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "begun")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left (%v)", err)
	}
}

func TestAnUnfinishedStartThatCannotBeClearedAwayHoldsUpNobody(t *testing.T) {
	c := deafConfig(t)
	dir := filepath.Dir(leave(t, c.Dir, "begun"))
	if err := os.WriteFile(filepath.Join(dir, "starting"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := stubborn{c.Launcher.(manager.Children), new(atomic.Bool)}
	c.Launcher = l
	m := openSoon(t, c)
	changes, err := m.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i := <-changes; i.ID != "begun" || i.State != vmm.StateStarting {
		t.Errorf("machine %+v", i)
	}
	if _, err := m.Start(t.Context(), managertest.Spec("begun")); api.CodeOf(err) != api.Exists {
		t.Errorf("its name is free: %v", err)
	}
	l.allowed.Store(true)
	if i := <-changes; i.ID != "begun" || i.State != vmm.StateEnded {
		t.Errorf("machine %+v", i)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left (%v)", err)
	}
}

func TestANoteOfAnotherProcessEndsNobody(t *testing.T) {
	c := deafConfig(t)
	pids := launchDeaf(t, c, "deaf")
	note := filepath.Join(c.Dir, "deaf", "worker.pid")
	raw, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	_, boot, _ := strings.Cut(string(raw), `"boot":`)
	earlier := fmt.Sprintf(`{"pid":%d,"start":1,"boot":`, pids[0]) // had the number
	if err := os.WriteFile(note, []byte(earlier+boot), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Launcher.Discard(t.Context(), "deaf", filepath.Dir(note)); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		if !lives(pid) {
			t.Errorf("process %d was ended", pid)
		}
	}
}

// stubborn cannot discard until it is allowed to.
type stubborn struct {
	manager.Children
	allowed *atomic.Bool
}

func (l stubborn) Discard(ctx context.Context, id, dir string) error {
	if !l.allowed.Load() {
		return errors.New("not yet")
	}
	return l.Children.Discard(ctx, id, dir)
}

func TestAMachineHasNotEndedBeforeNothingIsLeftOfIt(t *testing.T) {
	c := deafConfig(t)
	pids := launchDeaf(t, c, "deaf")
	l := stubborn{c.Launcher.(manager.Children), new(atomic.Bool)}
	c.Launcher = l
	m := openSoon(t, c)
	info, err := m.Get(t.Context(), "deaf")
	if err != nil || info.State == vmm.StateEnded {
		t.Errorf("machine %+v (%v)", info, err)
	}
	if err := m.Remove(t.Context(), "deaf"); api.CodeOf(err) != api.BadState {
		t.Errorf("remove: %v, BadState expected", err)
	}
	changes, err := m.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.allowed.Store(true)
	for i := range changes {
		if i.State == vmm.StateEnded {
			break
		}
	}
	for _, pid := range pids {
		if lives(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
}
