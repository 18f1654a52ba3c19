package routertest

import (
	"io"
	"net"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/router"
)

// Run runs the contract over routers that open makes.
func Run(t *testing.T, open func(t *testing.T, g *Guests) router.Router) {
	for name, test := range map[string]func(*testing.T, router.Router){
		"a port leads to the guest until it is unexposed": life,
		"the same again is the same endpoint":             again,
		"a port that is taken is Exists":                  taken,
		"what cannot be is InvalidArgument":               refusals,
		"ports are switched off and on with their number": switched,
		"an instance is forgotten with all its ports":     forgotten,
		"a watch tells of changes":                        watched,
		"a name is that of all ports":                     renamed,
		"a front that is not wanted is none":              frontless,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t, NewGuests(t))) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Errorf("error %v with code %q, %s expected", err, api.CodeOf(err), code)
	}
}

// Dial connects to an endpoint.
func Dial(t testing.TB, e router.Endpoint) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort(e.Bind, strconv.Itoa(e.ActualPort)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func hello(t *testing.T) int {
	return Listen(t, func(c *net.TCPConn) { io.WriteString(c, "hello") })
}

func life(t *testing.T, r router.Router) {
	ctx, port := t.Context(), hello(t)
	e, err := r.Expose(ctx, Expose("inst-1", port, api.ProtocolTCP))
	must(t, err)
	if e.ActualPort == 0 || e.PublicPort != 0 || !e.Open || !e.On || e.Bind != api.LocalBind {
		t.Errorf("exposed: %+v", e)
	}
	if got, err := io.ReadAll(Dial(t, e)); err != nil || string(got) != "hello" {
		t.Errorf("read %q (%v)", got, err)
	}
	all, err := r.List(ctx)
	must(t, err)
	if diff := cmp.Diff([]router.Endpoint{e}, all); diff != "" {
		t.Error(diff)
	}
	wantCode(t, r.Unexpose(ctx, "inst-1", port, api.ProtocolUDP), api.NotFound)
	wantCode(t, r.Unexpose(ctx, "inst-2", port, ""), api.NotFound)
	must(t, r.Unexpose(ctx, "inst-1", port, ""))
	wantCode(t, r.Unexpose(ctx, "inst-1", port, ""), api.NotFound)
	if c, err := net.Dial("tcp", net.JoinHostPort(e.Bind, strconv.Itoa(e.ActualPort))); err == nil {
		c.Close()
		t.Error("the port is still open")
	}
}

func again(t *testing.T, r router.Router) {
	ctx, p := t.Context(), Expose("inst-1", 80, api.ProtocolHTTP)
	e, err := r.Expose(ctx, p)
	must(t, err)
	same, err := r.Expose(ctx, p)
	must(t, err)
	if diff := cmp.Diff(e, same); diff != "" {
		t.Error(diff)
	}
	p.PublicPort = e.ActualPort
	if same, err = r.Expose(ctx, p); err != nil || same.ActualPort != e.ActualPort {
		t.Errorf("by its number: %+v (%v)", same, err)
	}
	p.PublicPort++
	_, err = r.Expose(ctx, p)
	wantCode(t, err, api.Exists)
	udp, err := r.Expose(ctx, Expose("inst-1", 80, api.ProtocolUDP))
	must(t, err)
	if udp.Protocol != api.ProtocolUDP || !udp.Open {
		t.Errorf("UDP beside it: %+v", udp)
	}
}

func taken(t *testing.T, r router.Router) {
	ctx := t.Context()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	p := Expose("inst-1", 80, api.ProtocolTCP)
	p.PublicPort = l.Addr().(*net.TCPAddr).Port
	_, err = r.Expose(ctx, p)
	wantCode(t, err, api.Exists)
	all, err := r.List(ctx)
	if err != nil || len(all) > 0 {
		t.Errorf("kept: %+v (%v)", all, err)
	}
	e, err := r.Expose(ctx, Expose("inst-1", 80, api.ProtocolTCP))
	must(t, err)
	p = Expose("inst-2", 80, api.ProtocolTCP)
	p.PublicPort = e.ActualPort
	_, err = r.Expose(ctx, p)
	wantCode(t, err, api.Exists)
}

func refusals(t *testing.T, r router.Router) {
	for name, change := range map[string]func(*router.Port){
		"no instance":   func(p *router.Port) { p.Instance = "" },
		"a path":        func(p *router.Port) { p.Instance = "../x" },
		"a name":        func(p *router.Port) { p.Bind = "localhost" },
		"no guest port": func(p *router.Port) { p.GuestPort = 0 },
		"a large port":  func(p *router.Port) { p.PublicPort = 65536 },
		"no handle":     func(p *router.Port) { p.Handle = "a/b" },
		"a protocol":    func(p *router.Port) { p.Protocol = "sctp" },
		"an address":    func(p *router.Port) { p.Bind = "192.0.2.1" }, // of nobody
	} {
		p := Expose("inst-1", 80, api.ProtocolTCP)
		change(&p)
		_, err := r.Expose(t.Context(), p)
		if api.CodeOf(err) != api.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func switched(t *testing.T, r router.Router) {
	ctx := t.Context()
	e, err := r.Expose(ctx, Expose("inst-1", hello(t), api.ProtocolTCP))
	must(t, err)
	must(t, r.Switch(ctx, "inst-1", false))
	must(t, r.Switch(ctx, "inst-1", false))
	all, err := r.List(ctx)
	must(t, err)
	if len(all) != 1 || all[0].On || all[0].Open || all[0].ActualPort != e.ActualPort {
		t.Errorf("switched off: %+v", all)
	}
	if c, err := net.Dial("tcp", net.JoinHostPort(e.Bind, strconv.Itoa(e.ActualPort))); err == nil {
		c.Close()
		t.Error("the port is still open")
	}
	must(t, r.Switch(ctx, "inst-1", true))
	if got, err := io.ReadAll(Dial(t, e)); err != nil || string(got) != "hello" {
		t.Errorf("read %q (%v)", got, err)
	}
	must(t, r.Switch(ctx, "inst-2", true)) // which has none
}

func forgotten(t *testing.T, r router.Router) {
	ctx := t.Context()
	for guest := 80; guest < 83; guest++ {
		_, err := r.Expose(ctx, Expose("inst-1", guest, api.ProtocolTCP))
		must(t, err)
	}
	other, err := r.Expose(ctx, Expose("inst-2", 80, api.ProtocolTCP))
	must(t, err)
	must(t, r.Forget(ctx, "inst-1"))
	must(t, r.Forget(ctx, "inst-1"))
	all, err := r.List(ctx)
	must(t, err)
	if diff := cmp.Diff([]router.Endpoint{other}, all); diff != "" {
		t.Error(diff)
	}
}

func watched(t *testing.T, r router.Router) {
	changes, err := r.Watch(t.Context())
	must(t, err)
	<-changes
	_, err = r.Expose(t.Context(), Expose("inst-1", 80, api.ProtocolTCP))
	must(t, err)
	<-changes
	must(t, r.Forget(t.Context(), "inst-1"))
	<-changes
}

func renamed(t *testing.T, r router.Router) {
	for guest := 80; guest < 82; guest++ {
		_, err := r.Expose(t.Context(), Expose("inst-1", guest, api.ProtocolTCP))
		must(t, err)
	}
	p := Expose("inst-1", 80, api.ProtocolTCP)
	p.Handle = "web"
	e, err := r.Expose(t.Context(), p)
	if err != nil || e.Handle != "web" {
		t.Errorf("%+v (%v)", e, err)
	}
	all, err := r.List(t.Context())
	if err != nil || len(all) != 2 || all[0].Handle != "web" || all[1].Handle != "web" {
		t.Errorf("%+v (%v)", all, err)
	}
}

func frontless(t *testing.T, r router.Router) {
	f, err := r.Front(t.Context())
	if err != nil || f != (router.Front{}) {
		t.Errorf("%+v (%v)", f, err)
	}
}
