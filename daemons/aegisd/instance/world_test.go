package instance_test

import (
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
	"github.com/xfeldman/aegisvm/daemons/aegisd/instance"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
	"github.com/xfeldman/aegisvm/daemons/aegisd/secret"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/router"
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
