package netbus_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/host"
	"github.com/xfeldman/aegisvm/netd/netbus"
	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// serve serves a network on the bus until the test ends.
func serve(t *testing.T, address string, n netd.Network, who netbus.Callers) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	conn := bustest.Dial(t, address)
	go func() { done <- netbus.Serve(ctx, conn, n, who, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func TestTheClientKeepsTheContract(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	n, err := host.Open(t.Context(), host.Options{Dir: t.TempDir(), DNS: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	address := bustest.Start(t)
	serve(t, address, n, netbus.Callers{})
	nettest.Contract(t, netbus.NewClient(bustest.Dial(t, address)))
}

const nobody = 65534

// empty is a network that has nothing.
type empty struct{ netd.Network }

func (empty) Attach(context.Context, string, policy.Policy) (netd.Lease, error) {
	return netd.Lease{Addr: netip.MustParseAddr("10.0.0.2"), Gateway: netip.MustParseAddr("10.0.0.1")}, nil
}
func (empty) SetPolicy(context.Context, string, policy.Policy) error { return nil }
func (empty) Detach(context.Context, string) error                   { return nil }
func (empty) List(context.Context) ([]netd.Lease, error)             { return nil, nil }
func (empty) Get(context.Context, string) (netd.State, error)        { return netd.State{}, errNone }
func (empty) OpenTap(context.Context, string) (*os.File, error)      { return nil, errNone }
func (empty) Guest(context.Context, netip.Addr) (netd.Lease, error)  { return netd.Lease{}, errNone }
func (empty) Support(context.Context) (netd.Support, error)          { return netd.Support{}, nil }
func (empty) Gateways(ctx context.Context) (<-chan []netip.Addr, error) {
	return asked{}.Gateways(ctx)
}

func (empty) Denials(context.Context) (<-chan netd.Denial, error) {
	return nil, api.Errorf(api.Unavailable, "the kernel cannot")
}

func (empty) Pin(context.Context, string, string, []netip.Addr, time.Duration) error {
	return nil
}

// asked is a network whose guests ask for names at one gateway.
type asked struct {
	empty
	at netip.Addr
}

func (a asked) Gateways(ctx context.Context) (<-chan []netip.Addr, error) {
	c := make(chan []netip.Addr, 1)
	c <- []netip.Addr{a.at}
	context.AfterFunc(ctx, func() { close(c) })
	return c, nil
}

var errNone = api.Errorf(api.NotFound, "none")

// calls are one call of every method, by its interface.
func calls(t *testing.T, c *netbus.Client) map[string]error {
	ctx := t.Context()
	out := map[string]error{}
	_, out["manager attach"] = c.Attach(ctx, "m", policy.Policy{})
	out["manager policy"] = c.SetPolicy(ctx, "m", policy.Policy{})
	out["manager detach"] = c.Detach(ctx, "m")
	_, out["manager get"] = c.Get(ctx, "m")
	_, out["manager list"] = c.List(ctx)
	_, out["manager support"] = c.Support(ctx)
	_, out["taps open"] = c.OpenTap(ctx, "m")
	_, out["names guest"] = c.Guest(ctx, netip.MustParseAddr("10.0.0.2"))
	out["names pin"] = c.Pin(ctx, "m", "a.example", nil, time.Second)
	return out
}

func TestTheClientLearnsOfGatewaysWhenNetdComes(t *testing.T) {
	address := bustest.Start(t)
	told, err := netbus.NewClient(bustest.Dial(t, address)).Gateways(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 { // as when it is killed and started again
		want := netip.AddrFrom4([4]byte{10, 0, byte(i), 1})
		ctx, cancel := context.WithCancel(t.Context())
		conn := bustest.Dial(t, address)
		done := make(chan error, 1)
		go func() { done <- netbus.Serve(ctx, conn, asked{at: want}, netbus.Callers{}, nil) }()
		late := time.After(10 * time.Second)
		for got := []netip.Addr(nil); !slices.Equal(got, []netip.Addr{want}); {
			select {
			case got = <-told:
			case <-late:
				t.Fatalf("netd %d: nobody tells its gateway, only %v", i, got)
			}
		}
		cancel()
		<-done
		conn.Close()
	}
}

func TestEachCallerMayDoItsPart(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can connect as another user")
	}
	for name, who := range map[string]netbus.Callers{"none": {}, "manager": {Manager: "nobody"}, "names": {Names: "nobody"}} {
		t.Run(name, func(t *testing.T) {
			address := bustest.Start(t)
			serve(t, address, empty{}, who)
			for method, err := range calls(t, netbus.NewClient(bustest.DialAs(t, address, nobody))) {
				if may := strings.HasPrefix(method, name+" "); (api.CodeOf(err) == api.Denied) == may {
					t.Errorf("nobody as %s calls %s: %v", name, method, err)
				}
			}
			for method, err := range calls(t, netbus.NewClient(bustest.Dial(t, address))) {
				if api.CodeOf(err) == api.Denied {
					t.Errorf("root calls %s: %v", method, err)
				}
			}
		})
	}
}

func TestThePolicyDeniesStrangers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can connect as another user")
	}
	shipped, err := os.ReadFile("../../units/org.aegisvm.Network1.conf")
	if err != nil {
		t.Fatal(err)
	}
	// dbus-daemon ignores what is for users that this machine does not have.
	for user, allowed := range map[string]string{"": "", "aegis": "manager", "aegis-router": "names"} {
		text := string(shipped)
		if user != "" {
			text = strings.ReplaceAll(text, `"`+user+`"`, `"nobody"`)
		}
		file := filepath.Join(t.TempDir(), "policy.conf")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		address := bustest.StartWithPolicies(t, file)
		serve(t, address, empty{}, netbus.Callers{Manager: "nobody", Names: "nobody"})
		conn := bustest.DialAs(t, address, nobody)
		for method, err := range calls(t, netbus.NewClient(conn)) {
			if may := allowed != "" && strings.HasPrefix(method, allowed+" "); (api.CodeOf(err) == api.Denied) == may {
				t.Errorf("nobody instead of %q calls %s: %v", user, method, err)
			}
		}
		if err := conn.Claim(t.Context(), bus.NetworkName); user == "" && api.CodeOf(err) != api.Denied {
			t.Errorf("nobody claims the name: %v", err)
		}
	}
}
