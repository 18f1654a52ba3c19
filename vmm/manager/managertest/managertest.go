// Package managertest is the contract of vmm.Manager as tests. Every
// implementation runs the whole of it, over machines of the fake driver:
// the manager itself and its client over the bus.
package managertest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake"
)

// World is what one test works with.
type World struct {
	vmm.Manager
	// Driver is the fake behind Manager, Dir has its machines.
	Driver *fake.Driver
	Dir    string
}

// Guest makes a guest directory as manager.Config.Guest expects it; fake
// machines do not read it.
func Guest(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	lean := filepath.Join(dir, "lean")
	if err := os.Mkdir(lean, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kernel", "initramfs.cpio"} {
		if err := os.WriteFile(filepath.Join(lean, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Spec is a spec that is accepted.
func Spec(id string) vmm.Spec { return vmm.Spec{ID: id, MemoryMiB: 128, VCPUs: 1} }

// Run runs the contract over worlds that open makes.
func Run(t *testing.T, open func(t *testing.T) World) {
	for name, test := range map[string]func(*testing.T, World){
		"a machine lives from start to remove":                        life,
		"a spec that cannot be is refused and leaves nothing":         refusals,
		"an id is used once":                                          ids,
		"calls for a machine that is not there are NotFound":          unknown,
		"a machine that dies at boot fails its start and is gone":     dieAtBoot,
		"a panic at boot is told in its words":                        panicAtBoot,
		"a guest that is never ready is given up in time":             neverReady,
		"a driver that cannot start says why":                         failStart,
		"a caller that gives up leaves nothing":                       giveUp,
		"a machine that crashes is kept for its reason":               crash,
		"pause and resume are told, and twice is once":                pause,
		"a watch has the current machines first and then each change": watch,
		"a slow watcher misses no end":                                slowWatch,
		"a stream carries bytes both ways and half-closes":            streams,
		"a dialer leads to its port until the machine ends":           dialled,
		"what a driver cannot do is BadState":                         unsupported,
		"a machine goes on from a snapshot":                           snapshots,
		"a snapshot that cannot be taken leaves nothing":              refusedSnapshots,
		"a machine that a snapshot does not fit is refused":           misfits,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code api.Code, words ...string) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Errorf("error %v with code %q, %s expected", err, api.CodeOf(err), code)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has more than one line", err)
	}
}

// nothing fails if anything of a machine is left.
func (w World) nothing(t *testing.T, id string) {
	t.Helper()
	_, err := w.Get(t.Context(), id)
	wantCode(t, err, api.NotFound)
	if _, err := os.Lstat(filepath.Join(w.Dir, id)); !os.IsNotExist(err) {
		t.Errorf("the directory of machine %s is left (%v)", id, err)
	}
}

func life(t *testing.T, w World) {
	ctx := t.Context()
	info, err := w.Start(ctx, Spec("one"))
	must(t, err)
	if info.State != vmm.StateRunning || info.Driver != "fake" || info.MemoryMiB != 128 || info.VCPUs != 1 || info.WorkerPid == 0 {
		t.Errorf("started machine: %+v", info)
	}
	if since := time.Since(info.Started); since < 0 || since > time.Minute {
		t.Errorf("started at %s", info.Started)
	}
	got, err := w.Get(ctx, "one")
	must(t, err)
	if diff := cmp.Diff(info, got); diff != "" {
		t.Error(diff)
	}
	all, err := w.List(ctx)
	must(t, err)
	if diff := cmp.Diff([]vmm.Info{info}, all); diff != "" {
		t.Error(diff)
	}
	wantCode(t, w.Remove(ctx, "one"), api.BadState, "one", "running")
	must(t, w.Stop(ctx, "one"))
	must(t, w.Stop(ctx, "one")) // twice is once
	got, err = w.Get(ctx, "one")
	must(t, err)
	if got.State != vmm.StateEnded || got.Exit == nil || got.Exit.Reason != vmm.ReasonStopped || got.WorkerPid != 0 {
		t.Errorf("stopped machine: %+v", got)
	}
	_, err = w.Connect(ctx, "one", proto.PortControl)
	wantCode(t, err, api.BadState, "one", "ended", "stopped")
	must(t, w.Remove(ctx, "one"))
	w.nothing(t, "one")
}

func refusals(t *testing.T, w World) {
	file, err := os.Open(os.DevNull)
	must(t, err)
	defer file.Close()
	plain, err := os.CreateTemp(t.TempDir(), "disk")
	must(t, err)
	defer plain.Close()
	reader, err := os.Open(plain.Name())
	must(t, err)
	defer reader.Close()
	writer, err := os.OpenFile(plain.Name(), os.O_WRONLY, 0)
	must(t, err)
	defer writer.Close()
	for what, change := range map[string]func(*vmm.Spec){
		"id":                 func(s *vmm.Spec) { s.ID = "Not/Good" },
		"-x":                 func(s *vmm.Spec) { s.ID = "-x" },
		"at least":           func(s *vmm.Spec) { s.MemoryMiB = 63 },
		"this host":          func(s *vmm.Spec) { s.MemoryMiB = 1 << 40 },
		"processors":         func(s *vmm.Spec) { s.VCPUs = 9 },
		"1 to 8":             func(s *vmm.Spec) { s.VCPUs = 0 },
		`"swap"`:             func(s *vmm.Spec) { s.Disks = []vmm.Disk{{Role: "swap", File: file}} },
		"two disks":          func(s *vmm.Spec) { s.Disks = []vmm.Disk{{Role: "own", File: file}, {Role: "own", File: file}} },
		"not a regular file": func(s *vmm.Spec) { s.Disks = []vmm.Disk{{Role: "own", File: file}} },
		"image\" of machine \"refused\" is not a": func(s *vmm.Spec) { s.Disks = []vmm.Disk{{Role: "image", ReadOnly: true, File: file}} },
		"open for reading and writing":            func(s *vmm.Spec) { s.Disks = []vmm.Disk{{Role: "own", File: reader}} },
		"for reading":                             func(s *vmm.Spec) { s.Disks = []vmm.Disk{{Role: "image", ReadOnly: true, File: writer}} },
		"timeout":                                 func(s *vmm.Spec) { s.ReadyTimeout = -time.Second },
	} {
		s := Spec("refused")
		change(&s)
		_, err := w.Start(t.Context(), s)
		code := api.InvalidArgument
		if what == "this host" {
			code = api.LimitExceeded
		}
		wantCode(t, err, code, what)
	}
	if entries, err := os.ReadDir(w.Dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
}

func ids(t *testing.T, w World) {
	_, err := w.Start(t.Context(), Spec("one"))
	must(t, err)
	_, err = w.Start(t.Context(), Spec("one"))
	wantCode(t, err, api.Exists, "one")
	must(t, w.Stop(t.Context(), "one"))
	_, err = w.Start(t.Context(), Spec("one"))
	wantCode(t, err, api.Exists, "one")
}

func unknown(t *testing.T, w World) {
	ctx := t.Context()
	_, get := w.Get(ctx, "no")
	_, connect := w.Connect(ctx, "no", proto.PortControl)
	for what, err := range map[string]error{
		"get": get, "connect": connect, "pause": w.Pause(ctx, "no"), "resume": w.Resume(ctx, "no"),
		"stop": w.Stop(ctx, "no"), "remove": w.Remove(ctx, "no"),
	} {
		if api.CodeOf(err) != api.NotFound || !strings.Contains(err.Error(), `"no"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func dieAtBoot(t *testing.T, w World) {
	w.Driver.Behave(fake.Behaviour{DieAtBoot: "killed by signal 11"})
	_, err := w.Start(t.Context(), Spec("one"))
	wantCode(t, err, api.Internal, "one", "crashed", "killed by signal 11")
	w.nothing(t, "one")
}

func panicAtBoot(t *testing.T, w World) {
	w.Driver.Behave(fake.Behaviour{PanicAtBoot: "no init found"})
	_, err := w.Start(t.Context(), Spec("one"))
	wantCode(t, err, api.Internal, "one", "panic", "no init found")
	w.nothing(t, "one")
}

func neverReady(t *testing.T, w World) {
	w.Driver.Behave(fake.Behaviour{NeverReady: true})
	s := Spec("one")
	s.ReadyTimeout = 20 * time.Millisecond
	_, err := w.Start(t.Context(), s)
	wantCode(t, err, api.Internal, "one", "never-ready", "20ms")
	w.nothing(t, "one")
}

func failStart(t *testing.T, w World) {
	w.Driver.Behave(fake.Behaviour{FailStart: os.ErrPermission})
	_, err := w.Start(t.Context(), Spec("one"))
	wantCode(t, err, api.Internal, "one", "permission denied")
	w.nothing(t, "one")
}

func giveUp(t *testing.T, w World) {
	w.Driver.Behave(fake.Behaviour{NeverReady: true})
	changes, err := w.Watch(t.Context())
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error)
	go func() {
		_, err := w.Start(ctx, Spec("one"))
		failed <- err
	}()
	if i := <-changes; i.State != vmm.StateStarting {
		t.Errorf("the first change is %s, starting expected", i.State)
	}
	cancel()
	wantCode(t, <-failed, api.Unavailable, context.Canceled.Error())
	w.nothing(t, "one")
	if i := <-changes; i.State != vmm.StateEnded {
		t.Errorf("the watch told %+v, an end expected", i)
	}
}

func crash(t *testing.T, w World) {
	changes, err := w.Watch(t.Context())
	must(t, err)
	_, err = w.Start(t.Context(), Spec("one"))
	must(t, err)
	w.Driver.Machine("one").Crash("killed by signal 9")
	for i := range changes {
		if i.State == vmm.StateEnded {
			break
		}
	}
	i, err := w.Get(t.Context(), "one")
	must(t, err)
	if i.Exit == nil || i.Exit.Reason != vmm.ReasonCrashed || i.Exit.Detail != "killed by signal 9" {
		t.Errorf("crashed machine: %+v, exit %+v", i, i.Exit)
	}
	must(t, w.Remove(t.Context(), "one"))
	w.nothing(t, "one")
}

func pause(t *testing.T, w World) {
	ctx := t.Context()
	_, err := w.Start(ctx, Spec("one"))
	must(t, err)
	for _, step := range []struct {
		do   func(context.Context, string) error
		want vmm.State
	}{
		{w.Pause, vmm.StatePaused},
		{w.Pause, vmm.StatePaused},
		{w.Resume, vmm.StateRunning},
		{w.Resume, vmm.StateRunning},
	} {
		must(t, step.do(ctx, "one"))
		i, err := w.Get(ctx, "one")
		must(t, err)
		if i.State != step.want {
			t.Errorf("state %s, %s expected", i.State, step.want)
		}
	}
}

func unsupported(t *testing.T, w World) {
	_, err := w.Start(t.Context(), Spec("one"))
	must(t, err)
	must(t, w.Pause(t.Context(), "one"))
	_, err = w.Snapshot(t.Context(), "one", "snap")
	wantCode(t, err, api.BadState, "one", "not supported")
	s, err := w.Support(t.Context())
	must(t, err)
	if s.Driver != "fake" || s.Snapshots {
		t.Errorf("support: %+v", s)
	}
}
