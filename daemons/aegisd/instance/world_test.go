package instance_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/daemons/aegisd/instance"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
	"github.com/xfeldman/aegisvm/daemons/aegisd/secret"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake"
)

// world is everything below a Service, and outlives it as machines outlive
// aegisd.
type world struct {
	t        testing.TB
	path     string
	hostBoot string
	logSize  int64
	timings  instance.Timings
	clock    instance.Clock // nil for the host's
	log      *slog.Logger
	records  func(instance.Records) instance.Records
	machines *machines
	images   *images
	// workspaces is nil for a service that cannot serve any.
	workspaces *servers
	// late leads the ports of a service to it.
	late *lateWaker
	// networks is nil for a service that can give none.
	networks *networks
	fateMu   sync.Mutex    // guards fate
	fate     *fate         // of the service, nil for none
	linger   time.Duration // of the router's leases; 0 for its default

	*instance.Service
	store *store.Store
	stop  func()
}

// newWorld starts a service over fake machines.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, path: filepath.Join(t.TempDir(), "aegis.db"), hostBoot: "boot-1",
		machines: newMachines(t.TempDir()), images: newImages(t), log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
		timings: instance.Timings{StopGrace: 200 * time.Millisecond, AttachGrace: 30 * time.Second},
	}
	w.workspaces, w.networks = newServers(t, filepath.Dir(w.path)), newNetworks()
	w.start()
	t.Cleanup(func() {
		w.kill()
		w.machines.close()
	})
	return w
}

// impatient makes the service wait only a moment for clients.
func (w *world) impatient() {
	w.t.Helper()
	w.timings.AttachGrace = 50 * time.Millisecond
	w.restart()
}

func (w *world) start() {
	w.t.Helper()
	if err := w.tryStart(); err != nil {
		w.t.Fatalf("starting the service: %v", err)
	}
}

func (w *world) tryStart() error {
	ctx := w.t.Context()
	db, err := store.Open(ctx, w.path)
	if err != nil {
		return err
	}
	var records instance.Records = db
	if w.records != nil {
		records = w.records(db)
	}
	printed := logs.New(logs.Config{Dir: w.logs(), FileSize: w.logSize, Log: w.log})
	var shared instance.Workspaces
	if w.workspaces != nil {
		shared = w.workspaces
	}
	w.late = &lateWaker{ready: make(chan struct{})}
	ports, err := router.Open(router.Config{Dir: filepath.Join(filepath.Dir(w.path), "ports"), Waker: w.late, Log: w.log, Limits: router.Limits{Linger: w.linger}})
	if err != nil {
		db.Close()
		return err
	}
	var network netd.Network
	if w.networks != nil {
		network = w.networks
	}
	svc, err := instance.New(ctx, instance.Config{
		Workspaces: shared, Router: ports, Network: network, NoNetwork: "it has no rights",
		Logs:    printed,
		Records: records, Images: w.images, Machines: w.machines, HostBoot: w.hostBoot,
		Limits: instance.Limits{MemoryMiB: 16384, CPUs: 4, Instances: 20}, Timings: w.timings, Clock: w.clock,
		Log: w.log, Version: "test", Composition: "standalone", Kernel: "fake",
		Secrets: secret.New(ctx, secret.Config{Records: db, File: w.keyFile(), Log: w.log}),
	})
	if err != nil {
		ports.Close()
		db.Close()
		return err
	}
	w.Service, w.store = svc, db
	w.late.Waker = svc
	close(w.late.ready)
	w.stop = sync.OnceFunc(func() {
		svc.Close()
		ports.Close()
		printed.Close()
		db.Close()
	})
	return nil
}

// kill ends the service as kill -9 would: nothing is told to the machines.
func (w *world) kill() { w.stop() }

// restart is a crash and the start after it.
func (w *world) restart() {
	w.t.Helper()
	w.kill()
	w.start()
}

func (w *world) logs() string { return filepath.Join(filepath.Dir(w.path), "logs") }

// leftovers counts what should be gone when every instance is.
func (w *world) leftovers() string {
	all, err := w.List(w.t.Context())
	disks, _ := w.images.Disks(w.t.Context())
	infos, _ := w.machines.List(w.t.Context())
	rows, _ := w.store.All(w.t.Context())
	if w.networks != nil {
		if leases, _ := w.networks.List(w.t.Context()); len(leases) > 0 {
			return fmt.Sprintf("networks %v", leases)
		}
	}
	logged, _ := os.ReadDir(w.logs())
	if saved, _ := w.machines.Snapshots(w.t.Context()); len(saved) > 0 {
		return fmt.Sprintf("snapshots %v", saved)
	}
	if err != nil || len(all)+len(disks)+len(infos)+len(rows)+len(logged) > 0 {
		return fmt.Sprintf("instances %v disks %v machines %v rows %v logs %v %v", all, disks, infos, rows, logged, err)
	}
	return ""
}

// testWriter logs for a test, also after its end.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// await follows events until the instance is as wanted.
func (w *world) await(ref, what string, want func(api.Instance, error) bool) api.Instance {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	events, err := w.Events(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	for {
		in, err := w.Get(ctx, ref)
		if want(in, err) {
			return in
		}
		if _, more := <-events; !more {
			w.t.Fatalf("waiting for %s of %s: it is %+v, %v", what, ref, in, err)
		}
	}
}

func (w *world) awaitPhase(ref string, phase api.Phase) api.Instance {
	w.t.Helper()
	return w.await(ref, "phase "+string(phase), func(in api.Instance, _ error) bool { return in.Phase == phase })
}

func (w *world) awaitGone(ref string) {
	w.t.Helper()
	w.await(ref, "the end", func(_ api.Instance, err error) bool { return api.CodeOf(err) == api.NotFound })
	if left := w.leftovers(); left != "" {
		w.t.Errorf("left behind: %s", left)
	}
}

func (w *world) create(spec api.InstanceSpec) api.Instance {
	w.t.Helper()
	in, err := w.Create(w.t.Context(), api.Caller{UID: 1000}, spec)
	if err != nil {
		w.t.Fatalf("creating %v: %v", spec.Command, err)
	}
	return in
}

func run(command ...string) api.InstanceSpec {
	return api.InstanceSpec{Command: command, Attach: true, AutoRemove: true}
}

func (w *world) attach(ref string) *api.Streams {
	w.t.Helper()
	streams, err := w.Attach(w.t.Context(), ref)
	if err != nil {
		w.t.Fatalf("attaching to %s: %v", ref, err)
	}
	w.t.Cleanup(streams.Close)
	return streams
}

func readAll(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatalf("reading %s: %v", f.Name(), err)
	}
	return string(b)
}

// images is an image store in a folder.
type images struct {
	dir string

	mu      sync.Mutex // guards the fields below
	disks   map[string]bool
	config  image.Config
	prepare func(ctx context.Context) error
	full    error
	image.Library
	local *image.Local
}

func newImages(t testing.TB) *images {
	i := &images{dir: t.TempDir(), disks: map[string]bool{}, local: library(t)}
	i.Library = i.local
	if err := os.WriteFile(filepath.Join(i.dir, "image"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *images) set(f func(*images)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f(i)
}

func (i *images) Prepare(ctx context.Context, ref string, progress func(image.Progress)) (image.Image, error) {
	i.mu.Lock()
	prepare, config := i.prepare, i.config
	i.mu.Unlock()
	if progress != nil {
		progress(image.Progress{Stage: "building", Done: 1, Total: 2})
	}
	if prepare != nil {
		if err := prepare(ctx); err != nil {
			return image.Image{}, err
		}
	}
	if ref != "" && ref != "sha256:00" {
		return i.local.Prepare(ctx, ref, progress)
	}
	return image.Image{Digest: "sha256:00", Config: config}, nil
}

func (i *images) Open(ctx context.Context, digest string) (*os.File, error) {
	if f, err := i.local.Open(ctx, digest); err == nil {
		return f, nil
	}
	return os.Open(filepath.Join(i.dir, "image"))
}

func (i *images) CreateDisk(_ context.Context, id string, _ int64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.full != nil:
		return i.full
	case i.disks[id]:
		return api.Errorf(api.Exists, "disk %s is there", id)
	}
	i.disks[id] = true
	return os.WriteFile(filepath.Join(i.dir, id), make([]byte, 4096), 0o600)
}

func (i *images) OpenDisk(_ context.Context, id string) (*os.File, error) {
	return os.OpenFile(filepath.Join(i.dir, id), os.O_RDWR, 0)
}

func (i *images) DeleteDisk(_ context.Context, id string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.disks, id)
	os.Remove(filepath.Join(i.dir, id))
	return nil
}

func (i *images) Disks(context.Context) ([]string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []string
	for d := range i.disks {
		all = append(all, d)
	}
	return all, nil
}

// machines is a manager that hosts the fake driver.
type machines struct {
	driver fake.Driver

	mu       sync.Mutex // guards the fields below
	all      map[string]*hosted
	watchers map[chan vmm.Info]chan struct{}
	down     error         // what every call answers
	mute     error         // what every call for one machine answers
	refused  chan struct{} // gets one for each call that was answered so
	hold     chan struct{} // Stop waits until it is closed, if it is there
	broken   int           // so many streams break as soon as they are dialled
	controls []*os.File    // of the control connections that were made
	dir      string        // of snapshots
	saved    map[string]vmm.Saved
	version  string // of the monitor, where it is another than the driver's
	trouble  func(step string) error
	forgot   chan struct{} // gets one when a snapshot is removed, if there is room
}

type hosted struct {
	vmm.Machine
	info  vmm.Info
	asked bool // by the host's service manager to leave
}

func newMachines(dir string) *machines {
	m := &machines{dir: dir, forgot: make(chan struct{}, 1), saved: map[string]vmm.Saved{}, all: map[string]*hosted{}, watchers: map[chan vmm.Info]chan struct{}{}, refused: make(chan struct{}, 1)}
	m.driver.SetSaves(true)
	return m
}

func (m *machines) setDown(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
}

func (m *machines) setMute(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mute = err
}

func (m *machines) get(id string) (*hosted, error) {
	if err := m.strike("call"); err != nil && m.isDead(err) {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(m.down, m.mute); err != nil {
		select {
		case m.refused <- struct{}{}:
		default:
		}
		return nil, err
	}
	h := m.all[id]
	if h == nil {
		return nil, api.Errorf(api.NotFound, "no machine %q", id)
	}
	return h, nil
}

func (m *machines) Start(ctx context.Context, s vmm.Spec) (vmm.Info, error) {
	plan := vmm.Plan{ID: s.ID, MemoryMiB: s.MemoryMiB, VCPUs: s.VCPUs, Disks: s.Disks}
	state := vmm.StateRunning
	err := m.strike("start")
	if err == nil && s.Restore != "" {
		state = vmm.StatePaused
		plan.Restore, err = m.open(s.Restore)
	}
	if err != nil {
		return vmm.Info{}, err
	}
	if plan.Restore != nil {
		defer plan.Restore.State.Close()
	}
	machine, err := m.driver.Start(ctx, plan)
	if err != nil {
		if plan.Restore != nil {
			return vmm.Info{}, api.Errorf(api.Internal, "%w", err)
		}
		return vmm.Info{}, api.Errorf(api.Unavailable, "%w", err)
	}
	h := &hosted{Machine: machine, info: vmm.Info{ID: s.ID, State: vmm.StateStarting}}
	m.mu.Lock()
	m.all[s.ID] = h
	m.mu.Unlock()
	m.change(h, func(*vmm.Info) {})
	select {
	case <-machine.Ready():
	case <-machine.Done():
		m.forget(s.ID)
		return vmm.Info{}, api.Errorf(api.Unavailable, "machine ended at boot: %s: %s", machine.Exit().Reason, machine.Exit().Detail)
	case <-ctx.Done():
		machine.Stop(context.WithoutCancel(ctx))
		m.forget(s.ID)
		return vmm.Info{}, api.Errorf(api.Unavailable, "start given up: %w", ctx.Err())
	}
	m.change(h, func(i *vmm.Info) { i.State = state })
	go func() { // ends with the machine
		<-machine.Done()
		exit := machine.Exit()
		m.change(h, func(i *vmm.Info) {
			if h.asked && exit.Reason == vmm.ReasonPoweroff {
				exit.Reason = vmm.ReasonShutdown
			}
			i.State, i.Exit = vmm.StateEnded, &exit
		})
	}()
	return h.info, nil
}

func (m *machines) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, id)
}

func (m *machines) change(h *hosted, f func(*vmm.Info)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&h.info)
	for w := range m.watchers {
		w <- h.info // roomy
	}
}

func (m *machines) Get(_ context.Context, id string) (vmm.Info, error) {
	h, err := m.get(id)
	if err != nil {
		return vmm.Info{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return h.info, nil
}

func (m *machines) List(context.Context) ([]vmm.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return nil, m.down
	}
	var all []vmm.Info
	for _, h := range m.all {
		all = append(all, h.info)
	}
	return all, nil
}

func (m *machines) Connect(ctx context.Context, id string, port uint32) (*os.File, error) {
	h, err := m.get(id)
	if err != nil {
		return nil, err
	}
	if m.breaks(port) {
		return brokenStream()
	}
	conn, err := h.Machine.Connect(ctx, port)
	if err != nil {
		return nil, api.Errorf(api.Unavailable, "%w", err)
	}
	defer conn.Close()
	f, err := conn.(interface{ File() (*os.File, error) }).File()
	if err == nil && port == proto.PortControl {
		err = m.noteControl(f)
	}
	return f, err
}

func (m *machines) Pause(ctx context.Context, id string) error {
	return m.turn(id, vmm.StatePaused, func(h *hosted) error { return h.Machine.Pause(ctx) })
}

func (m *machines) Resume(ctx context.Context, id string) error {
	return m.turn(id, vmm.StateRunning, func(h *hosted) error { return h.Machine.Resume(ctx) })
}

func (m *machines) turn(id string, to vmm.State, f func(*hosted) error) error {
	h, err := m.get(id)
	if err == nil {
		err = f(h)
	}
	if err != nil {
		return err
	}
	m.change(h, func(i *vmm.Info) {
		if i.State != vmm.StateEnded {
			i.State = to
		}
	})
	return nil
}

func (m *machines) Stop(ctx context.Context, id string) error {
	h, err := m.get(id)
	if err != nil {
		return err
	}
	m.mu.Lock()
	hold := m.hold
	m.mu.Unlock()
	if hold != nil {
		<-hold
	}
	h.Machine.Stop(ctx)
	return nil
}

func (m *machines) Remove(_ context.Context, id string) error {
	if _, err := m.get(id); err != nil {
		return err
	}
	m.forget(id)
	return nil
}

func (m *machines) Watch(ctx context.Context) (<-chan vmm.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return nil, m.down
	}
	out := make(chan vmm.Info, 1000)
	for _, h := range m.all {
		out <- h.info
	}
	m.watchers[out] = nil
	context.AfterFunc(ctx, func() { m.unwatch(out) })
	return out, nil
}

func (m *machines) unwatch(w chan vmm.Info) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.watchers[w]; there {
		delete(m.watchers, w)
		close(w)
	}
}

// breakWatches ends every watch, as a restart of vmmd does.
func (m *machines) breakWatches() {
	m.mu.Lock()
	var all []chan vmm.Info
	for w := range m.watchers {
		all = append(all, w)
	}
	m.mu.Unlock()
	for _, w := range all {
		m.unwatch(w)
	}
}

// shutdown asks the guest of a machine to leave, as its worker does when its
// scope is stopped.
func (m *machines) shutdown(t testing.TB, id string) {
	t.Helper()
	h, err := m.get(id)
	if err != nil {
		t.Fatal(err)
	}
	m.change(h, func(*vmm.Info) { h.asked = true })
	session, err := guestsession.Open(t.Context(), func(ctx context.Context, port uint32) (*os.File, error) {
		return m.Connect(ctx, id, port)
	})
	if err == nil {
		defer session.Close()
		err = session.Poweroff(t.Context(), time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// reboot ends all machines without a trace.
func (m *machines) reboot() {
	m.mu.Lock()
	all := m.all
	m.all = map[string]*hosted{}
	m.mu.Unlock()
	for _, h := range all {
		h.Machine.Stop(context.Background())
	}
}

func (m *machines) close() {
	m.reboot()
	m.driver.Discard()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.controls {
		f.Close()
	}
}

func (m *machines) Support(context.Context) (vmm.Support, error) {
	s, err := m.driver.Probe(context.Background())
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Version = cmp.Or(m.version, s.Version)
	return s, err
}

// awaitMachine returns once the manager has the machine of an instance.
func (w *world) awaitMachine(in api.Instance) {
	w.t.Helper()
	infos, err := w.machines.Watch(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for info := range infos {
		if info.ID == in.Machine {
			return
		}
	}
}

// machine is the fake machine that runs an instance.
func (w *world) machine(ref string) *fake.Machine {
	w.t.Helper()
	in, err := w.Get(w.t.Context(), ref)
	if err != nil || in.Machine == "" {
		w.t.Fatalf("instance %s has no machine: %v", ref, err)
	}
	return w.machines.driver.Machine(in.Machine)
}
