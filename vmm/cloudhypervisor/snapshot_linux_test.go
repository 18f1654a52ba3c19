package cloudhypervisor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/vmm"
	"golang.org/x/sys/unix"
)

// fakePlan is a machine of 64 MiB with one disk.
func fakePlan(t *testing.T) vmm.Plan {
	t.Helper()
	files := t.TempDir()
	file := func(name string) *os.File {
		f, err := os.Create(filepath.Join(files, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	return vmm.Plan{
		ID: "fake", Kernel: file("kernel").Name(), Initramfs: file("initramfs").Name(), MemoryMiB: 64, VCPUs: 1,
		Dir: t.TempDir(), MemoryDir: t.TempDir(), Disks: []vmm.Disk{{Role: vmm.RoleOwn, File: file("own")}},
	}
}

// startFake starts a machine whose monitor is this program.
func startFake(t *testing.T, p vmm.Plan) *machine {
	t.Helper()
	m, err := (&Driver{Binary: os.Args[0]}).Start(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Stop(context.Background())
		for _, dir := range []string{p.Dir, p.MemoryDir} {
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("%s is left of the machine", left)
			}
		}
	})
	return m.(*machine)
}

func files(t *testing.T) vmm.Snapshot {
	t.Helper()
	p := fakePlan(t)
	state, err := os.Create(filepath.Join(p.Dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Create(filepath.Join(p.Dir, "memory"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { state.Close(); memory.Close() })
	return vmm.Snapshot{State: state, Memory: memory}
}

func do(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// counted is the byte of a memory.
func counted(t *testing.T, memory *os.File) byte {
	t.Helper()
	b := make([]byte, 1)
	if _, err := memory.ReadAt(b, memoryAt); err != nil {
		t.Fatal(err)
	}
	return b[0]
}

func TestAMachineGoesOnInAnotherProcess(t *testing.T) {
	p := fakePlan(t)
	m := startFake(t, p)
	do(t, "pause", m.Pause(t.Context()))
	do(t, "pause again", m.Pause(t.Context()))
	do(t, "resume", m.Resume(t.Context()))
	do(t, "resume again", m.Resume(t.Context()))
	if err := m.Snapshot(t.Context(), files(t)); !errors.Is(err, errRuns) {
		t.Errorf("snapshot of a machine that runs: %v", err)
	}
	do(t, "pause", m.Pause(t.Context()))
	first := files(t)
	for range 2 { // the second takes the place of the first
		do(t, "snapshot", m.Snapshot(t.Context(), first))
	}
	do(t, "stop", m.Stop(t.Context()))
	if got := counted(t, first.Memory); got != 2 {
		t.Errorf("the memory counts %d, want 2", got)
	}
	fi, err := first.Memory.Stat()
	do(t, "stat", err)
	if took := fi.Sys().(*syscall.Stat_t).Blocks * 512; fi.Size() != 64<<20 || took > 1<<20 {
		t.Errorf("memory of %d bytes takes %d", fi.Size(), took)
	}
	next := fakePlan(t)
	next.Restore = &first
	r := startFake(t, next)
	select {
	case <-r.Ready():
	default:
		t.Error("a restored machine is not ready")
	}
	if want := (stream{firstPort + 1, 1024}); !r.muxer.stale[want] {
		t.Errorf("the guest's connections are %v, want %v", r.muxer.stale, want)
	}
	do(t, "resume", r.Resume(t.Context()))
	do(t, "pause", r.Pause(t.Context()))
	second := files(t)
	do(t, "snapshot", r.Snapshot(t.Context(), second))
	if first, second := counted(t, first.Memory), counted(t, second.Memory); first != 2 || second != 3 {
		t.Errorf("the memories count %d and %d, want 2 and 3", first, second)
	}
}

func TestARestoreThatFailsSaysWhy(t *testing.T) {
	for want, spoil := range map[string]func(p *vmm.Plan, s vmm.Snapshot){
		"reading the snapshot": func(_ *vmm.Plan, s vmm.Snapshot) { s.State.Truncate(10) },
		"the plan 134217728":   func(p *vmm.Plan, _ vmm.Snapshot) { p.MemoryMiB = 128 },
		`the plan has ["own" "kit"]`: func(p *vmm.Plan, s vmm.Snapshot) {
			p.Disks = append(p.Disks, vmm.Disk{Role: vmm.RoleKit, File: s.State})
		},
		"the state is of another version": func(_ *vmm.Plan, s vmm.Snapshot) { replace(s.State, "a fake", "a toy!") },
	} {
		t.Run(want, func(t *testing.T) {
			m := startFake(t, fakePlan(t))
			do(t, "pause", m.Pause(t.Context()))
			s := files(t)
			do(t, "snapshot", m.Snapshot(t.Context(), s))
			p := fakePlan(t)
			p.Restore = &s
			spoil(&p, s)
			_, err := (&Driver{Binary: os.Args[0]}).Start(t.Context(), p)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v", err)
			}
			if left, _ := os.ReadDir(p.Dir); len(left) > 0 {
				t.Errorf("%s is left of the machine", left)
			}
		})
	}
}

func replace(f *os.File, old, with string) {
	b, err := os.ReadFile(f.Name())
	if err == nil {
		err = os.WriteFile(f.Name(), []byte(strings.Replace(string(b), old, with, 1)), 0o600)
	}
	if err != nil {
		panic(err)
	}
}

// TestWhatWasGivenUpIsOverBeforeTheNext gives up a pause that is under way: the
// resume must come after it.
func TestWhatWasGivenUpIsOverBeforeTheNext(t *testing.T) {
	p := fakePlan(t)
	m := startFake(t, p)
	gate := filepath.Join(p.Dir, gateName)
	do(t, "making the gate", unix.Mkfifo(gate, 0o600))
	t.Cleanup(func() { os.Remove(gate) })
	ctx, giveUp := context.WithCancel(t.Context())
	paused := make(chan error, 1)
	go func() { paused <- m.Pause(ctx) }()
	key, err := os.OpenFile(gate, os.O_WRONLY, 0) // the pause is under way, and others wait at the gate
	do(t, "opening the gate", err)
	giveUp()
	if err := <-paused; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("a pause that is given up: %v", err)
	}
	resumed := make(chan error, 1)
	go func() { resumed <- m.Resume(t.Context()) }()
	do(t, "removing the gate", os.Remove(gate))
	key.Close()
	do(t, "resume", <-resumed)
	if err := m.Snapshot(t.Context(), files(t)); !errors.Is(err, errRuns) {
		t.Errorf("after pause and resume: %v", err)
	}
	if got := counted(t, m.wires.memory); got != 2 {
		t.Errorf("it was resumed %d times, want once", got-1)
	}
}

func TestARefusalIsToldInTheMonitorsWords(t *testing.T) {
	m := startFake(t, fakePlan(t))
	do(t, "pause", m.control.put(t.Context(), "vm.pause", nil)) // behind the machine's back
	err := m.Pause(t.Context())
	if err == nil || !strings.Contains(err.Error(), "InvalidStateTransition") {
		t.Errorf("error %v", err)
	}
	do(t, "stop", m.Stop(t.Context()))
	for what, err := range map[string]error{
		"pause": m.Pause(t.Context()), "resume": m.Resume(t.Context()), "snapshot": m.Snapshot(t.Context(), files(t)),
	} {
		if !errors.Is(err, vmm.ErrEnded) {
			t.Errorf("%s of an ended machine: %v", what, err)
		}
	}
}

func TestAMonitorThatDiesInAnActionHasEnded(t *testing.T) {
	p := fakePlan(t)
	m := startFake(t, p)
	gate := filepath.Join(p.Dir, gateName)
	do(t, "making the gate", unix.Mkfifo(gate, 0o600))
	t.Cleanup(func() { os.Remove(gate) })
	paused := make(chan error, 1)
	go func() { paused <- m.Pause(t.Context()) }()
	fd, err := unix.Open(gate, unix.O_RDWR, 0)
	do(t, "opening the gate", err)
	defer unix.Close(fd)
	do(t, "kill", syscall.Kill(m.Pid(), syscall.SIGKILL))
	if err := <-paused; !errors.Is(err, vmm.ErrEnded) {
		t.Errorf("pause: %v", err)
	}
	if e := m.Exit(); e.Reason != vmm.ReasonCrashed {
		t.Errorf("exit %+v", e)
	}
}
