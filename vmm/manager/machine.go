package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// machine is one machine as the manager sees it.
type machine struct {
	manager *Manager
	id, dir string
	uid     uint32
	stack   string // the network that the worker has
	client  worker.Client

	// info and changed are guarded by manager.mu; changed is closed and
	// replaced at each change of info.
	info    vmm.Info
	seq     uint64 // of the worker's last report in info
	changed chan struct{}

	// process is the worker; it is set before the machine is followed, or, if
	// an earlier manager has launched it, guarded by manager.mu.
	process Process
	gone    chan struct{} // closed when the worker is gone and info has the end

	// from is what a start begins with, guest the digest of what the machine
	// booted from, version the monitor's and disks the roles of its disks.
	from    origin
	guest   string
	version string
	disks   []vmm.Role

	// clockKHz is for the plan of a start. Like the accelerator it is of the
	// driver as it is then: what it was missing may have been installed since
	// the manager was opened.
	clockKHz int

	// abort ends a start that is under way; settled is closed when there is
	// none any more.
	abort   context.CancelCauseFunc
	settled chan struct{}
}

func (m *Manager) newMachine(r record) *machine {
	dir := filepath.Join(m.config.Dir, r.ID)
	return &machine{
		manager: m, id: r.ID, dir: dir, uid: r.UID, stack: r.Stack, client: worker.Client{Dir: dir},
		guest: r.Guest, version: r.Version, disks: r.Disks,
		info: vmm.Info{
			ID: r.ID, State: vmm.StateStarting, Driver: r.Driver, Accel: r.Accel,
			MemoryMiB: r.MemoryMiB, VCPUs: r.VCPUs, Started: r.Started,
		},
		changed: make(chan struct{}), gone: make(chan struct{}),
		abort: func(error) {}, settled: make(chan struct{}),
	}
}

func (x *machine) setProcess(p Process) {
	x.manager.mu.Lock()
	defer x.manager.mu.Unlock()
	x.process = p
}

func (x *machine) worker() Process {
	x.manager.mu.Lock()
	defer x.manager.mu.Unlock()
	return x.process
}

func (x *machine) current() vmm.Info {
	x.manager.mu.Lock()
	defer x.manager.mu.Unlock()
	return x.info
}

// update changes info and tells the watchers when its state changed. Nothing
// follows an end.
func (x *machine) update(change func(*vmm.Info)) {
	x.manager.mu.Lock()
	defer x.manager.mu.Unlock()
	if x.info.State == vmm.StateEnded {
		return
	}
	before := x.info.State
	change(&x.info)
	close(x.changed)
	x.changed = make(chan struct{})
	if x.info.State != before {
		x.manager.hub.publish(x.info)
	}
}

// until waits for a state of the machine.
func (x *machine) until(ctx context.Context, wanted func(vmm.Info) bool) (vmm.Info, error) {
	for {
		x.manager.mu.Lock()
		info, changed := x.info, x.changed
		x.manager.mu.Unlock()
		if wanted(info) {
			return info, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return info, ctx.Err()
		}
	}
}

// follow takes the worker's reports until it is gone and then says how the
// machine ended. It ends early with the manager.
func (x *machine) follow(reports <-chan worker.Report) {
	var monitor Process
	for r := range reports {
		if r.Pid != 0 && monitor == nil { // to wait for, should the worker die
			var err error
			if monitor, err = findProcess(r.Pid, nil); err != nil {
				x.manager.config.Log.Warn("following a monitor", "machine", x.id, "err", err)
			}
		}
		x.take(r)
	}
	if x.manager.ctx.Err() != nil { // the manager goes, the machine stays
		release(monitor)
		release(x.worker())
		return
	}
	x.finish(monitor)
}

// take puts a report into info, unless a later one came first by another way.
func (x *machine) take(r worker.Report) {
	x.update(func(i *vmm.Info) {
		if r.Seq >= x.seq {
			x.seq = r.Seq
			apply(i, r)
		}
	})
}

func apply(i *vmm.Info, r worker.Report) {
	i.State, i.Pid, i.WorkerPid = r.State, r.Pid, r.WorkerPid
	if r.State == vmm.StateEnded {
		i.Exit, i.Pid, i.WorkerPid = r.Exit, 0, 0
		if i.Exit == nil {
			i.Exit = &vmm.Exit{Reason: vmm.ReasonCrashed, Detail: "the worker did not say how the machine ended", Time: time.Now()}
		}
	}
}

// lostGrace bounds the waits for processes that the kernel is killing, and
// for the last bytes that a worker hands out.
const lostGrace = 10 * time.Second

// finish runs when the worker has closed the watch.
func (x *machine) finish(monitor Process) {
	ctx, cancel := context.WithTimeout(x.manager.ctx, lostGrace)
	defer cancel()
	process := x.worker()
	if x.current().State != vmm.StateEnded {
		_ = process.Kill() // it does not answer any more: make sure
	}
	if wait(ctx, process) != nil {
		_ = process.Kill()
		_ = wait(x.manager.ctx, process)
	}
	if monitor != nil {
		_ = wait(ctx, monitor) // the kernel kills it with its worker
		release(monitor)
	}
	exit := x.recorded()
	x.update(func(i *vmm.Info) { i.State, i.Exit, i.Pid, i.WorkerPid = vmm.StateEnded, &exit, 0, 0 })
	x.manager.config.Log.Info("machine ended", "machine", x.id, "reason", exit.Reason, "detail", exit.Detail)
	close(x.gone)
}

// recorded is the exit that the worker wrote, or that it did not.
func (x *machine) recorded() vmm.Exit {
	exit, err := worker.ReadExit(filepath.Join(x.dir, "run", worker.ExitName))
	switch {
	case err == nil:
		return exit
	case errors.Is(err, os.ErrNotExist):
		return vmm.Exit{Reason: vmm.ReasonWorkerLost, Detail: "the worker died and the machine with it" + x.workerWords(), Time: time.Now()}
	default:
		return vmm.Exit{Reason: vmm.ReasonWorkerLost, Detail: fmt.Sprintf("the worker left an exit record that cannot be read: %v", err), Time: time.Now()}
	}
}

// stop pulls the plug and waits for the worker's end. A start that is under
// way is undone by itself.
func (x *machine) stop(ctx context.Context) error {
	x.abort(errStopped)
	select {
	case <-x.settled:
	case <-ctx.Done():
		return asAPI(ctx, fmt.Errorf("stopping machine %q: %w", x.id, ctx.Err()))
	}
	if x.forgotten() {
		return nil
	}
	if x.current().State != vmm.StateEnded {
		if err := x.pullPlug(ctx); err != nil {
			return x.failed(ctx, "stopping", err)
		}
	}
	return x.waitGone(ctx)
}

// pullPlug asks the worker to, and kills one that cannot, does not answer or
// does not go: the kernel ends its monitor with it.
func (x *machine) pullPlug(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, x.manager.config.Patience.Stop)
	defer cancel()
	err := x.client.Stop(bounded)
	if err == nil || errors.Is(err, worker.ErrGone) {
		select {
		case <-x.gone:
			return nil
		case <-x.manager.ctx.Done():
			return nil
		case <-bounded.Done():
			err = bounded.Err()
		}
	}
	if ctx.Err() != nil {
		return err
	}
	// Such as BadState of a worker that has not started its monitor.
	x.manager.config.Log.Warn("a worker that does not stop its machine is killed", "machine", x.id, "err", err)
	return x.worker().Kill()
}

// errStopped is why a start ends that Stop was called for.
var errStopped = errors.New("it was stopped before its guest was ready")

// forgotten tells whether the manager has let go of the machine.
func (x *machine) forgotten() bool {
	x.manager.mu.Lock()
	defer x.manager.mu.Unlock()
	return x.manager.machines[x.id] != x
}

func (x *machine) waitGone(ctx context.Context) error {
	select {
	case <-x.gone:
		return nil
	case <-ctx.Done():
		return api.Errorf(api.Unavailable, "waiting for the worker of machine %q: %w", x.id, ctx.Err())
	case <-x.manager.ctx.Done():
		return api.Errorf(api.Unavailable, "waiting for the worker of machine %q: the machine manager is closing", x.id)
	}
}

// noted waits until a pause or resume that the worker has answered is in
// info, too, so that Get after Pause says paused.
func (x *machine) noted(ctx context.Context) {
	if r, err := x.client.Info(ctx); err == nil && r.State != vmm.StateEnded {
		x.take(r)
	}
}

// failed names the machine in an error of its worker.
func (x *machine) failed(ctx context.Context, doing string, err error) error {
	if errors.Is(err, worker.ErrGone) {
		return api.Errorf(api.BadState, "%s machine %q: %w: %w", doing, x.id, vmm.ErrEnded, err)
	}
	return asAPI(ctx, fmt.Errorf("%s machine %q: %w", doing, x.id, err))
}
