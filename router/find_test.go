package router_test

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/router/front"
	"github.com/xfeldman/aegisvm/router/routertest"
)

// named is a port of an instance with a name.
func named(instance, handle string, guest int, p api.Protocol) router.Port {
	port := routertest.Expose(instance, guest, p)
	port.Handle = handle
	return port
}

func TestInstancesAreFoundByTheirNamesAndPorts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, router.Config{Waker: routertest.NewGuests(t), Dir: dir})
	expose(t, s, named("inst-1", "Web", 8080, api.ProtocolHTTP))
	expose(t, s, named("inst-1", "Web", 443, api.ProtocolTCP))
	expose(t, s, named("inst-1", "web", 90, api.ProtocolHTTP)) // renamed
	expose(t, s, named("inst-2", "twin", 80, api.ProtocolHTTP))
	expose(t, s, named("inst-3", "TWIN", 81, api.ProtocolHTTP))
	expose(t, s, named("inst-4", "db", 5432, api.ProtocolTCP))
	expose(t, s, named("inst-5", "", 80, api.ProtocolHTTP))
	off := expose(t, s, named("inst-6", "off", 80, api.ProtocolHTTP))
	if err := s.Switch(t.Context(), off.Instance, false); err != nil {
		t.Fatal(err)
	}
	s.Close() // the names are in the table, for a host that has just come up
	s = open(t, router.Config{Waker: routertest.NewGuests(t), Dir: dir})
	for _, c := range []struct {
		name string
		port int
		want front.Target
		code api.Code
	}{
		{"web", 0, front.Target{Instance: "inst-1", Port: 90}, ""},
		{"WEB", 8080, front.Target{Instance: "inst-1", Port: 8080}, ""},
		{"inst-1", 0, front.Target{Instance: "inst-1", Port: 90}, ""},
		{"inst-5", 0, front.Target{Instance: "inst-5", Port: 80}, ""},
		{"twin", 0, front.Target{Instance: "inst-2", Port: 80}, ""},
		{"TWIN", 0, front.Target{Instance: "inst-3", Port: 81}, ""},
		{"Twin", 0, front.Target{}, api.InvalidArgument},
		{"web", 443, front.Target{}, api.NotFound}, // it is not for HTTP
		{"web", 1, front.Target{}, api.NotFound},
		{"db", 0, front.Target{}, api.NotFound},
		{"nosuch", 0, front.Target{}, api.NotFound},
		{"off", 0, front.Target{}, api.BadState},
		{"", 0, front.Target{}, api.InvalidArgument},
		{"", 90, front.Target{Instance: "inst-1", Port: 90}, ""},
		{"", 1, front.Target{}, api.Unavailable},
	} {
		got, err := s.Find(c.name, c.port)
		if got != c.want || api.CodeOf(err) != c.code {
			t.Errorf("%q port %d: %+v (%v), want %+v %s", c.name, c.port, got, err, c.want, c.code)
		}
	}
}

// loop is any port of the loopback.
var loop = netip.MustParseAddrPort("127.0.0.1:0")

func TestTheFrontWakesOnceAndHoldsTheLease(t *testing.T) {
	g := routertest.NewGuests(t)
	g.Gate = make(chan struct{})
	s := open(t, router.Config{Waker: g, FrontConfig: router.FrontConfig{Address: loop}, Limits: router.Limits{Linger: time.Millisecond}})
	port := routertest.Listen(t, func(c *net.TCPConn) {
		c.Read(make([]byte, 1000))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
		io.Copy(io.Discard, c)
	})
	expose(t, s, named("inst-1", "web", port, api.ProtocolHTTP))
	at, err := s.Front(t.Context())
	if err != nil || at.Address == "" || at.Trouble != "" {
		t.Fatalf("%+v (%v)", at, err)
	}
	answers := make(chan string, 50)
	for range 50 {
		go func() {
			resp, err := http.Get("http://" + at.Address)
			if err != nil {
				answers <- err.Error()
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			answers <- string(body)
		}()
	}
	close(g.Gate)
	for range 50 {
		if got := <-answers; got != "hello" {
			t.Errorf("answer %q", got)
		}
	}
	g.AwaitUse(t, -1)
	if n := g.Wakes(); n != 1 {
		t.Errorf("%d wakes", n)
	}
	if err := s.Switch(t.Context(), "inst-1", false); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + at.Address)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("switched off: %s", resp.Status)
	}
}

func TestAPortThatIsClosedEndsWhatCameThroughTheFront(t *testing.T) {
	g := routertest.NewGuests(t)
	s := open(t, router.Config{Waker: g, FrontConfig: router.FrontConfig{Address: loop}})
	ended := make(chan bool)
	port := routertest.Listen(t, func(c *net.TCPConn) {
		io.Copy(io.Discard, c)
		close(ended)
	})
	expose(t, s, named("inst-1", "web", port, api.ProtocolHTTP))
	at, _ := s.Front(t.Context())
	go func() {
		if resp, err := http.Get("http://" + at.Address); err == nil {
			resp.Body.Close()
		}
	}()
	g.AwaitUse(t, 1)
	if err := s.Unexpose(t.Context(), "inst-1", port, ""); err != nil {
		t.Fatal(err)
	}
	<-ended
}

// A front whose port is taken is no reason to have no ports.
func TestATakenFrontIsToldAndTriedAgain(t *testing.T) {
	thief, err := net.Listen("tcp", loop.String())
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(thief.Addr().String())
	s := open(t, router.Config{
		Waker: routertest.NewGuests(t), FrontConfig: router.FrontConfig{Address: at}, Limits: router.Limits{Retry: time.Millisecond},
	})
	f, err := s.Front(t.Context())
	if err != nil || f.Address != "" || !strings.Contains(f.Trouble, "is taken") {
		t.Fatalf("%+v (%v)", f, err)
	}
	thief.Close()
	resp, err := http.Get("http://" + at.String())
	for err != nil { // nothing tells
		resp, err = http.Get("http://" + at.String())
	}
	resp.Body.Close()
	if f, err := s.Front(t.Context()); err != nil || f.Address != at.String() || f.Trouble != "" {
		t.Errorf("%+v (%v)", f, err)
	}
}
