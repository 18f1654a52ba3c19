package apitest

import (
	"io"
	"net"
	"strconv"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

// ports are the tests of api.Ports; guests have this machine's loopback.
func ports() map[string]func(suite) {
	return map[string]func(suite){
		"a port is exposed, leads to the guest, and is closed": suite.exposed,
		"ports of a spec are there with the instance":          suite.exposedBySpec,
		"a port that cannot be exposed is refused":             suite.exposedNot,
	}
}

// greeter serves "hello" on the loopback until the test ends.
func (s suite) greeter() int {
	s.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { l.Close() })
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func (s suite) wantHello(e api.Endpoint) {
	s.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort(e.Bind, strconv.Itoa(e.PublicPort)))
	if err != nil {
		s.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		s.Errorf("%s says %q (%v)", e.URL, got, err)
	}
}

func (s suite) exposed() {
	ctx, port := s.Context(), s.greeter()
	in := s.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "web"})
	s.awaitPhase("web", api.PhaseRunning)
	want := api.Expose{GuestPort: port, Protocol: api.ProtocolTCP}
	e, err := s.Expose(ctx, "web", want)
	if err != nil {
		s.Fatal(err)
	}
	s.wantHello(e)
	same, err := s.Expose(ctx, in.ID, want)
	if diff := cmp.Diff(e, same); diff != "" || err != nil {
		s.Errorf("again: %v %s", err, diff)
	}
	got, err := s.Get(ctx, "web")
	if err != nil || !cmp.Equal(got.Endpoints, []api.Endpoint{e}) || !cmp.Equal(got.ExposePorts, []int{port}) || !cmp.Equal(got.Exposes, []api.Expose{want.WithDefaults()}) {
		s.Errorf("%+v (%v)", got, err)
	}
	s.wantCode("UDP", s.Unexpose(ctx, "web", port, api.ProtocolUDP), api.NotFound)
	if err := s.Unexpose(ctx, "web", port, ""); err != nil {
		s.Fatal(err)
	}
	s.wantCode("twice", s.Unexpose(ctx, "web", port, ""), api.NotFound)
	if c, err := net.Dial("tcp", net.JoinHostPort(e.Bind, strconv.Itoa(e.PublicPort))); err == nil {
		c.Close()
		s.Error("the port is still open")
	}
	if got, err := s.Get(ctx, "web"); err != nil || len(got.Endpoints) > 0 || len(got.Exposes) > 0 {
		s.Errorf("%+v (%v)", got, err)
	}
}

func (s suite) exposedBySpec() {
	in := s.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "web", Exposes: []api.Expose{
		{GuestPort: s.greeter(), Protocol: api.ProtocolTCP}, {GuestPort: 53, Protocol: api.ProtocolUDP},
	}})
	if len(in.Endpoints) != 2 || in.Endpoints[0].PublicPort == 0 || in.Endpoints[1].Protocol != api.ProtocolUDP {
		s.Fatalf("%+v", in.Endpoints)
	}
	s.wantHello(in.Endpoints[0]) // it waits for the start
}

func (s suite) exposedNot() {
	ctx := s.Context()
	s.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "web"})
	_, err := s.Expose(ctx, "nobody", api.Expose{GuestPort: 80})
	s.wantCode("an unknown instance", err, api.NotFound)
	s.wantCode("an unknown instance", s.Unexpose(ctx, "nobody", 80, ""), api.NotFound)
	s.wantCode("no port", s.Unexpose(ctx, "web", 0, ""), api.InvalidArgument)
	s.wantCode("no protocol", s.Unexpose(ctx, "web", 80, "sctp"), api.InvalidArgument)
	for name, e := range map[string]api.Expose{
		"no port":     {},
		"no protocol": {GuestPort: 80, Protocol: "sctp"},
		"no address":  {GuestPort: 80, Bind: "localhost"},
		"not ours":    {GuestPort: 80, Bind: "192.0.2.1"},
	} {
		_, err := s.Expose(ctx, "web", e)
		s.wantCode(name, err, api.InvalidArgument)
	}
	taken := s.greeter()
	_, err = s.Expose(ctx, "web", api.Expose{GuestPort: 80, PublicPort: taken})
	s.wantCode("a port that is taken", err, api.Exists)
	e, err := s.Expose(ctx, "web", api.Expose{GuestPort: 80})
	if err != nil {
		s.Fatal(err)
	}
	_, err = s.Expose(ctx, "web", api.Expose{GuestPort: 80, PublicPort: e.PublicPort%65535 + 1})
	s.wantCode("the same port elsewhere", err, api.Exists)
	if got, err := s.Get(ctx, "web"); err != nil || len(got.Exposes) != 1 || len(got.Endpoints) != 1 {
		s.Errorf("%+v (%v)", got, err)
	}
}
