package instance_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/router/routertest"
	"github.com/xfeldman/aegisvm/vmm/dialer"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// lateWaker is a waker that comes later.
type lateWaker struct {
	ready chan struct{}
	router.Waker
}

func (l *lateWaker) Wake(ctx context.Context, id string, renew bool) (router.Awake, error) {
	select {
	case <-l.ready:
		return l.Waker.Wake(ctx, id, renew)
	case <-ctx.Done():
		return router.Awake{}, ctx.Err()
	}
}

// Dialer leads to the guest as a worker does; the guest's loopback is ours.
func (m *machines) Dialer(_ context.Context, id string, port uint32) (*os.File, error) {
	h, err := m.get(id)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := packet.Pair()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ends with the machine
		<-h.Machine.Done()
		cancel()
	}()
	go dialer.Serve(ctx, ours, func(ctx context.Context) (*os.File, error) { return m.Connect(ctx, id, port) })
	return theirs, nil
}

// hello is a server in every guest.
func hello(t *testing.T) int {
	return routertest.Listen(t, func(c *net.TCPConn) { io.WriteString(c, "hello") })
}

func (w *world) expose(ref string, e api.Expose) api.Endpoint {
	w.t.Helper()
	open, err := w.Expose(w.t.Context(), ref, e)
	if err != nil {
		w.t.Fatal(err)
	}
	return open
}

// call connects to an endpoint and reads all that it says.
func call(e api.Endpoint) (string, error) {
	c, err := net.Dial("tcp", net.JoinHostPort(e.Bind, strconv.Itoa(e.PublicPort)))
	if err != nil {
		return "", err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	return string(b), err
}

func (w *world) wantHello(e api.Endpoint) {
	w.t.Helper()
	if got, err := call(e); err != nil || got != "hello" {
		w.t.Errorf("%s says %q (%v)", e.URL, got, err)
	}
}

func service(restart api.RestartPolicy) api.InstanceSpec {
	return api.InstanceSpec{Command: []string{"sleep"}, Handle: "web", Restart: restart}
}

func TestAConnectionWakesWhatMayBeWoken(t *testing.T) {
	w := newWorld(t)
	in := w.create(service(api.RestartOnDemand))
	w.awaitPhase(in.ID, api.PhaseRunning)
	e := w.expose("web", api.Expose{GuestPort: hello(t), Protocol: api.ProtocolTCP})
	w.wantHello(e)
	if _, err := w.Pause(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	w.wantHello(e)
	w.awaitPhase(in.ID, api.PhaseRunning)
	if _, err := w.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	w.wantHello(e)
	if got := w.awaitPhase(in.ID, api.PhaseRunning); got.Starts != 2 {
		t.Errorf("started %d times", got.Starts)
	}
}

func TestAConnectionDoesNotStartWhatNobodyAskedFor(t *testing.T) {
	w := newWorld(t)
	in := w.create(service(api.RestartNever))
	w.awaitPhase(in.ID, api.PhaseRunning)
	port := hello(t)
	tcp := w.expose("web", api.Expose{GuestPort: port, Protocol: api.ProtocolTCP})
	web := w.expose("web", api.Expose{GuestPort: 1})
	if _, err := w.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if got, err := call(tcp); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("said %q (%v)", got, err)
	}
	r, err := http.Get(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "no connection starts it (policy never)") || err != nil {
		t.Errorf("%s: %q (%v)", r.Status, body, err)
	}
}

func TestAStartThatFailsIsToldToWhoConnects(t *testing.T) {
	w := newWorld(t)
	in := w.create(service(api.RestartOnDemand))
	w.awaitPhase(in.ID, api.PhaseRunning)
	web := w.expose("web", api.Expose{GuestPort: 1})
	if _, err := w.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	w.machines.driver.Behave(fake.Behaviour{FailStart: errors.New("no memory left")})
	r, err := http.Get(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "no memory left") || err != nil {
		t.Errorf("%s: %q (%v)", r.Status, body, err)
	}
}

func TestPortsAreKeptOverARestartAndGoWithTheirInstance(t *testing.T) {
	w := newWorld(t)
	port := hello(t)
	in := w.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "web", Exposes: []api.Expose{{GuestPort: port, Protocol: api.ProtocolTCP}}})
	if len(in.Endpoints) != 1 || in.Endpoints[0].PublicPort == 0 || in.Endpoints[0].URL == "" {
		t.Fatalf("created with %+v", in.Endpoints)
	}
	w.awaitPhase(in.ID, api.PhaseRunning)
	w.wantHello(in.Endpoints[0])
	w.restart()
	w.wantHello(in.Endpoints[0])
	got := w.awaitEndpoints(in.ID, in.Endpoints)
	if diff := cmp.Diff(in.ExposePorts, got.ExposePorts); diff != "" || len(got.Exposes) != 1 {
		t.Errorf("%+v %s", got, diff)
	}
	if err := w.Delete(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if _, err := call(in.Endpoints[0]); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the port of a deleted instance: %v", err)
	}
}

// awaitEndpoints waits until an instance has them.
func (w *world) awaitEndpoints(id string, want []api.Endpoint) api.Instance {
	w.t.Helper()
	events, err := w.Events(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for {
		in, err := w.Get(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		if cmp.Equal(in.Endpoints, want) {
			return in
		}
		<-events
	}
}

func TestPortsOfADisabledInstanceAreClosedAndKept(t *testing.T) {
	w := newWorld(t)
	in := w.create(service(api.RestartOnDemand))
	w.awaitPhase(in.ID, api.PhaseRunning)
	e := w.expose("web", api.Expose{GuestPort: hello(t), Protocol: api.ProtocolTCP})
	if _, err := w.Disable(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if _, err := call(e); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("disabled: %v", err)
	}
	if _, err := w.Enable(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	w.wantHello(e)
}

func TestAPortThatIsTakenRefusesTheInstanceAndLeavesNothing(t *testing.T) {
	w := newWorld(t)
	taken := hello(t) // it is open on this machine
	_, err := w.Create(t.Context(), api.Caller{}, api.InstanceSpec{Command: []string{"sleep"}, Exposes: []api.Expose{
		{GuestPort: 80}, {GuestPort: 81, PublicPort: taken},
	}})
	if api.CodeOf(err) != api.Exists || !strings.Contains(err.Error(), strconv.Itoa(taken)) {
		t.Errorf("created: %v", err)
	}
	if all, err := w.List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("left: %+v (%v)", all, err)
	}
	if all, err := w.Router.List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("left: %+v (%v)", all, err)
	}
}

// What a crash leaves between the router and the record is put right.
func TestPortsOfNobodyAreClosedAndThoseThatLackAreOpened(t *testing.T) {
	w := newWorld(t)
	in := w.create(service(api.RestartNever))
	e := w.expose("web", api.Expose{GuestPort: 80, Protocol: api.ProtocolTCP})
	ctx := t.Context()
	for _, p := range []router.Port{routertest.Expose("inst-of-nobody", 80, api.ProtocolTCP), routertest.Expose(in.ID, 81, api.ProtocolTCP)} {
		if _, err := w.Router.Expose(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Router.Unexpose(ctx, in.ID, 80, ""); err != nil {
		t.Fatal(err)
	}
	changes, err := w.Router.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range changes {
		all, err := w.Router.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 1 && all[0].Instance == in.ID && all[0].GuestPort == e.GuestPort {
			return
		}
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	w := newWorld(t)
	in := w.create(service(api.RestartNever))
	w.awaitPhase(in.ID, api.PhaseRunning)
	said := make(chan struct{})
	port := routertest.Listen(t, func(c *net.TCPConn) {
		io.WriteString(c, "x")
		<-said
	})
	e := w.expose("web", api.Expose{GuestPort: port, Protocol: api.ProtocolTCP})
	c, err := net.Dial("tcp", net.JoinHostPort(e.Bind, strconv.Itoa(e.PublicPort)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	w.awaitConnections(in.ID, 1)
	close(said)
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	c.Close()
	got := w.awaitConnections(in.ID, 0)
	if !got.LastActiveAt.After(in.CreatedAt) {
		t.Errorf("active at %v, created at %v", got.LastActiveAt, in.CreatedAt)
	}
}

// awaitConnections asks until there are so many: their number is no event.
func (w *world) awaitConnections(id string, want int) api.Instance {
	w.t.Helper()
	for w.t.Context().Err() == nil {
		in, err := w.Get(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		if in.ActiveConnections == want {
			return in
		}
	}
	return api.Instance{}
}

// What can never run has its ports in its record and nowhere else, also for the
// next aegisd.
func TestAStartThatIsRefusedOpensNoPort(t *testing.T) {
	w := newWorld(t)
	spec := service(api.RestartOnDemand)
	spec.Kit, spec.Exposes = "agent", []api.Expose{{GuestPort: 80}}
	if _, err := w.Create(t.Context(), api.Caller{}, spec); api.CodeOf(err) != api.Unavailable {
		t.Fatalf("created: %v", err)
	}
	for range 2 {
		if _, err := w.Expose(t.Context(), "web", api.Expose{GuestPort: 81}); api.CodeOf(err) != api.Unavailable {
			t.Errorf("exposed one more: %v", err)
		}
		in, err := w.Get(t.Context(), "web")
		if err != nil || len(in.Exposes) != 1 || len(in.Endpoints) > 0 {
			t.Errorf("has %+v at %+v (%v)", in.Exposes, in.Endpoints, err)
		}
		if all, err := w.Router.List(t.Context()); err != nil || len(all) > 0 {
			t.Errorf("open: %+v (%v)", all, err)
		}
		w.restart()
	}
}
