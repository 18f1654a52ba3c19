package manager

import (
	"cmp"
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

const (
	defaultReady = 60 * time.Second
	// workerGrace is what a worker may take beyond the guest's time, for its
	// jail before and its report after, on a busy host.
	workerGrace = 20 * time.Second
)

// Start starts a machine and waits until its guest is ready.
func (m *Manager) Start(ctx context.Context, s vmm.Spec) (vmm.Info, error) {
	if err := m.begin(); err != nil {
		return vmm.Info{}, err
	}
	defer m.tasks.Done()
	if s.ReadyTimeout == 0 {
		s.ReadyTimeout = defaultReady
	}
	support, err := m.admit(ctx, s)
	if err != nil {
		return vmm.Info{}, err
	}
	from, err := m.origin(s, support)
	if err != nil {
		return vmm.Info{}, err
	}
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	x, r, err := m.reserve(s, support, from, abort)
	if err != nil {
		return vmm.Info{}, err
	}
	defer close(x.settled)
	info, err := x.start(ctx, s, r)
	if err != nil {
		return vmm.Info{}, err
	}
	m.config.Log.Info("machine runs", "machine", x.id, "pid", info.Pid, "took", time.Since(r.Started).Round(time.Millisecond))
	return info, nil
}

// reserve takes the id and makes the machine's directory, so that whoever
// comes after a crash of ours finds what to clear away.
func (m *Manager) reserve(s vmm.Spec, support vmm.Support, from origin, abort context.CancelCauseFunc) (*machine, record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.machines[s.ID] != nil {
		return nil, record{}, api.Errorf(api.Exists, "machine %q is there already", s.ID)
	}
	r := record{
		ID: s.ID, Driver: m.config.Driver.Name(), Accel: cmp.Or(m.config.Options.Accel, support.Accel),
		MemoryMiB: s.MemoryMiB, VCPUs: s.VCPUs, Started: time.Now().UTC(),
		Version: support.Version, Guest: from.guest.digest,
	}
	if m.config.Stacks != nil {
		r.Stack = s.Network
	}
	for _, d := range s.Disks {
		r.Disks = append(r.Disks, d.Role)
	}
	var err error
	if r.UID, err = m.freeUID(); err != nil {
		return nil, record{}, err
	}
	x := m.newMachine(r)
	x.from = from
	x.abort, x.clockKHz = abort, cmp.Or(m.config.Options.ClockKHz, support.ClockKHz)
	if err := os.Mkdir(x.dir, 0o711); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil, record{}, api.Errorf(api.Exists, "machine %q has left its directory %s", s.ID, x.dir)
		}
		return nil, record{}, api.Errorf(api.Internal, "making the directory of machine %q: %w", s.ID, err)
	}
	m.machines[s.ID] = x
	m.hub.publish(x.info)
	return x, r, nil
}

// freeUID is the first user of the range that no machine has; the caller
// holds mu.
func (m *Manager) freeUID() (uint32, error) {
	if m.config.UIDBase == 0 {
		return 0, nil
	}
	taken := make(map[uint32]bool)
	for _, x := range m.machines {
		taken[x.uid] = true
	}
	for n := range m.config.UIDs {
		if uid := m.config.UIDBase + n; !taken[uid] {
			return uid, nil
		}
	}
	return 0, api.Errorf(api.LimitExceeded, "%d machines are there and every user has one: remove some", len(taken))
}

// start does all that may fail, and undoes it when it did.
func (x *machine) start(ctx context.Context, s vmm.Spec, r record) (vmm.Info, error) {
	err := x.launch(ctx, s, r)
	if err != nil {
		err = asAPI(ctx, fmt.Errorf("starting machine %q: %w", x.id, err))
		if x.process == nil {
			x.notStarted(err)
			return vmm.Info{}, errors.Join(err, x.manager.forget(x))
		}
		return vmm.Info{}, x.undo(err)
	}
	info, err := x.awaitReady(ctx, s.ReadyTimeout+workerGrace)
	if err != nil {
		return vmm.Info{}, x.undo(err)
	}
	if err := os.Remove(filepath.Join(x.dir, startingName)); err != nil {
		return vmm.Info{}, x.undo(api.Errorf(api.Internal, "starting machine %q: %w", x.id, err))
	}
	return info, nil
}

// notStarted tells those who have heard of the machine that it never was.
func (x *machine) notStarted(why error) {
	exit := vmm.Exit{Reason: vmm.ReasonCrashed, Detail: why.Error(), Time: time.Now()}
	x.update(func(i *vmm.Info) { i.State, i.Exit = vmm.StateEnded, &exit })
	close(x.gone)
}

// launch brings the worker up and follows it.
func (x *machine) launch(ctx context.Context, s vmm.Spec, r record) error {
	files, err := x.lay(ctx, s, r)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(x.dir, logName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		files.Close()
		return err
	}
	defer log.Close()
	plan, err := x.plan(ctx, s)
	if err != nil {
		files.Close()
		return err
	}
	// Launch has the files from here on.
	if x.process, err = x.manager.config.Launcher.Launch(ctx, plan, files, log); err != nil {
		return err
	}
	reports, err := x.client.Watch(x.manager.ctx)
	if err != nil {
		// It died at once; finish finds out why.
		closed := make(chan worker.Report)
		close(closed)
		reports = closed
	}
	x.manager.tasks.Add(1)
	go func() {
		defer x.manager.tasks.Done()
		x.follow(reports)
	}()
	if x.stack != "" {
		x.manager.tasks.Go(x.serveStack)
	}
	return nil
}

// lay makes the machine's files. They are copies or new, so that the caller
// may close its own as soon as Start returns.
func (x *machine) lay(ctx context.Context, s vmm.Spec, r record) (files worker.Files, err error) {
	defer func() {
		if err != nil {
			files.Close()
		}
	}()
	if err = os.WriteFile(filepath.Join(x.dir, startingName), nil, 0o600); err != nil {
		return files, err
	}
	if err = writeRecord(x.dir, r); err != nil {
		return files, err
	}
	if files.Console, err = os.OpenFile(filepath.Join(x.dir, consoleName), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return files, err
	}
	if files.RunDir, err = x.makeRunDir(r.UID); err != nil {
		return files, err
	}
	if files.Listener, err = worker.Listen(x.dir); err != nil {
		return files, err
	}
	for _, d := range s.Disks {
		f, err := dup(d.File)
		if err != nil {
			return files, fmt.Errorf("taking disk %q: %w", d.Role, err)
		}
		files.Disks = append(files.Disks, f)
	}
	if s.Network != "" && r.Stack == "" {
		if files.Tap, err = x.manager.config.Taps.OpenTap(ctx, s.Network); err != nil {
			return files, fmt.Errorf("opening its tap: %w", err)
		}
	}
	if s.Restore != "" {
		files.State, files.Memory, err = x.manager.openSnapshot(s.Restore)
	}
	return files, err
}

// makeRunDir makes the only directory that the worker may write.
func (x *machine) makeRunDir(uid uint32) (*os.File, error) {
	path := filepath.Join(x.dir, runName)
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, err
	}
	if uid != 0 {
		if err := os.Chown(path, int(uid), int(uid)); err != nil {
			return nil, err
		}
	}
	return os.Open(path)
}

func (x *machine) plan(ctx context.Context, s vmm.Spec) (worker.Plan, error) {
	c := x.manager.config
	p := worker.Plan{
		ID: x.id, Driver: c.Driver.Name(), Binary: c.Options.Binary, Accel: x.current().Accel, ClockKHz: x.clockKHz,
		Kernel: x.from.guest.kernel, Initramfs: x.from.guest.initramfs, MemoryMiB: s.MemoryMiB, VCPUs: s.VCPUs,
		Network: s.Network != "" && x.stack == "", Restore: s.Restore != "", ReadyTimeout: s.ReadyTimeout, RunDir: filepath.Join(x.dir, runName),
		Jail: &worker.Jail{UID: x.uid, GID: x.uid, Strict: x.manager.strict},
	}
	for _, d := range s.Disks {
		p.Disks = append(p.Disks, worker.Disk{Role: d.Role, ReadOnly: d.ReadOnly})
	}
	if x.stack == "" {
		return p, nil
	}
	guest, gateway, err := c.Stacks.Link(ctx, x.stack)
	if err != nil {
		return p, fmt.Errorf("asking for its addresses: %w", err)
	}
	p.Link = &worker.Link{Guest: guest, Gateway: gateway}
	return p, nil
}

// guestFiles chooses the guest's kernel and initramfs: ours if it is there,
// else the distribution's.
func guestFiles(dir string) (kernel, initramfs string, err error) {
	for _, flavour := range []string{"lean", "distro"} {
		k, i := filepath.Join(dir, flavour, "kernel"), filepath.Join(dir, flavour, "initramfs.cpio")
		if exists(k) && exists(i) {
			return k, i, nil
		}
	}
	return "", "", api.Errorf(api.Unavailable, "no guest kernel with its initramfs in %s/lean or %s/distro: run make build, or install the package aegisvm", dir, dir)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// awaitReady waits for the guest's word, the machine's end or the caller's.
func (x *machine) awaitReady(ctx context.Context, limit time.Duration) (vmm.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(x.manager.ctx, cancel)()
	info, err := x.until(ctx, func(i vmm.Info) bool { return i.State != vmm.StateStarting })
	switch {
	case err != nil:
		return info, api.Errorf(api.Unavailable, "starting machine %q: waiting for its guest: %w", x.id, context.Cause(ctx))
	case info.State == vmm.StateEnded:
		return info, api.Errorf(api.Internal, "machine %q did not start: %s%s", x.id, exitWords(info.Exit), x.consoleWords(info.Exit))
	}
	return info, nil
}

// undo ends a worker whose start failed and removes all traces. It does not
// stop half-way because the caller has gone.
func (x *machine) undo(why error) error {
	_ = x.process.Kill()
	if err := wait(context.Background(), x.process); err != nil {
		return errors.Join(why, err)
	}
	select {
	case <-x.gone:
	case <-x.manager.ctx.Done(): // nobody follows any more; the worker is dead
	}
	if err := x.manager.forget(x); err != nil {
		return errors.Join(why, err)
	}
	return why
}
