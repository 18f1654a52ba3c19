package tests

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// The resolvers of the internet, and how many addresses a long answer has.
const (
	firstResolver  = "9.9.9.9"
	secondResolver = "203.0.113.11"
	manyAddresses  = 60
)

// zone answers for .test. slow.test waits until quick.test was asked for.
type zone struct {
	site  string
	asked chan struct{} // closed when slow.test was asked for
	quick chan struct{} // closed when quick.test was
	tell  [2]func()
}

func newZone(site string) *zone {
	z := &zone{site: site, asked: make(chan struct{}), quick: make(chan struct{})}
	z.tell[0], z.tell[1] = sync.OnceFunc(func() { close(z.asked) }), sync.OnceFunc(func() { close(z.quick) })
	return z
}

// ServeDNS implements dns.Handler.
func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	name := q.Question[0].Name
	add := func(addr string) {
		m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(addr)})
	}
	switch name {
	case "site.test.", "other.test.":
		add(z.site)
	case "quick.test.":
		z.tell[1]()
		add(z.site)
	case "slow.test.":
		z.tell[0]()
		<-z.quick
		add(z.site)
	case "long.test.":
		for i := range manyAddresses {
			add(fmt.Sprintf("203.0.113.%d", 100+i))
		}
		if _, datagram := w.RemoteAddr().(*net.UDPAddr); datagram {
			m.Truncate(dns.MinMsgSize)
		}
	default:
		m.Rcode = dns.RcodeNameError
	}
	w.WriteMsg(m)
}

// resolve answers at an address of a world's internet.
func resolve(t *testing.T, w *nettest.World, addr string, z *zone) {
	t.Helper()
	at := net.JoinHostPort(addr, "53")
	var u net.PacketConn
	var l net.Listener
	var err error
	w.Internet.Do(func() {
		if u, err = net.ListenPacket("udp4", at); err == nil {
			l, err = net.Listen("tcp4", at)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { z.tell[1](); u.Close(); l.Close() })
	for _, s := range []*dns.Server{{PacketConn: u, Handler: z}, {Listener: l, Handler: z}} {
		go s.ActivateAndServe()
	}
}

// lookup asks in the guest, as its programs do.
func lookup(t *testing.T, h *testbed.Host, name string) result {
	t.Helper()
	return aegis(t, h, nil, "exec", "web", "--", "getent", "ahostsv4", name)
}

func resolves(t *testing.T, h *testbed.Host, what, name, addr string) {
	t.Helper()
	if got := lookup(t, h, name); got.code != 0 || !strings.HasPrefix(got.stdout, addr+" ") {
		t.Errorf("%s: %s: exit %d, %q, %q", what, name, got.code, got.stdout, got.stderr)
	}
}

// connect is a program that reaches a name, or an address, and a port, or not.
const connect = `import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()`

func reaches(t *testing.T, h *testbed.Host, where, port string, want bool) {
	t.Helper()
	got := aegis(t, h, nil, "exec", "web", "--", "python3", "-c", connect, where, port)
	if (got.code == 0) != want {
		t.Errorf("port %s of %s: exit %d, %q", port, where, got.code, got.stderr)
	}
}

// nonsense is what a resolver must live with, and a question to one that is not
// the guest's.
const nonsense = `import os, socket
server = open("/etc/resolv.conf").read().split()[1]
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(300):
    u.sendto(os.urandom(n * 4), (server, 53))
    u.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\x3f" + os.urandom(n), (server, 53))
for n in range(20):
    try:
        c = socket.create_connection((server, 53), timeout=3)
        c.sendall(b"\xff\xff" + os.urandom(2000))
        c.close()
    except OSError:
        pass
question = b"\0\1\1\0\0\1\0\0\0\0\0\0\4site\4test\0\0\1\0\1"
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.settimeout(2)
u.sendto(question, ("9.9.9.9", 53))
try:
    u.recv(1000)
    print("another resolver answers")
except OSError:
    print("silent")`

func TestGuestsResolveNames(t *testing.T) {
	inWorlds(t, func(t *testing.T, h *testbed.Host, w *nettest.World) {
		first, second := newZone(nettest.Server), newZone("203.0.113.12")
		resolve(t, w, firstResolver, first)
		resolve(t, w, secondResolver, second)
		h.SetResolver(t, firstResolver)
		up(t, h)
		if got := aegis(t, h, nil, "instance", "start", "--name", "web", "--", "sleep", "1000"); got.code != 0 {
			t.Fatalf("starting: exit %d\n%s%s", got.code, got.stdout, got.stderr)
		}
		resolves(t, h, "at first", "site.test", nettest.Server)
		if got := lookup(t, h, "nosuch.test"); got.code != 2 {
			t.Errorf("no such name: exit %d, %q", got.code, got.stdout)
		}
		if got := lookup(t, h, "long.test"); strings.Count(got.stdout, "STREAM") != manyAddresses {
			t.Errorf("a long answer: exit %d, %q", got.code, got.stdout)
		}
		slowly(t, h, first)
		if got := aegis(t, h, nil, "exec", "web", "--", "python3", "-c", nonsense); got.stdout != "silent\n" {
			t.Errorf("nonsense, and another resolver: exit %d, %q, %q", got.code, got.stdout, got.stderr)
		}
		resolves(t, h, "after nonsense", "site.test", nettest.Server)
		opened(t, h)
		kills(t, h)
		changes(t, h)
		if got := aegis(t, h, nil, "run", "--network", "none", "--", "getent", "ahostsv4", "site.test"); got.code != 2 {
			t.Errorf("without a network: exit %d, %q, %q", got.code, got.stdout, got.stderr)
		}
	})
}

// slowly asks for something else while one answer is awaited.
func slowly(t *testing.T, h *testbed.Host, z *zone) {
	t.Helper()
	slow := make(chan result, 1)
	go func() { slow <- lookup(t, h, "slow.test") }()
	select {
	case <-z.asked:
	case got := <-slow:
		t.Errorf("a slow answer: exit %d, %q, before it was given", got.code, got.stderr)
		return
	}
	resolves(t, h, "while another answer is awaited", "quick.test", nettest.Server)
	if got := <-slow; got.code != 0 {
		t.Errorf("a slow answer: exit %d, %q", got.code, got.stderr)
	}
}

// opened is what a rule with a name opens.
func opened(t *testing.T, h *testbed.Host) {
	t.Helper()
	policy := func(args ...string) {
		if got := aegis(t, h, nil, append([]string{"network", "policy", "web"}, args...)...); got.code != 0 {
			t.Fatalf("policy: %s", got.stderr)
		}
	}
	policy("--allow-egress", "site.test:443")
	reaches(t, h, nettest.Server, "443", false) // nobody has asked yet
	reaches(t, h, "site.test", "443", true)
	reaches(t, h, nettest.Server, "443", true)
	reaches(t, h, "site.test", "7", false)
	reaches(t, h, "203.0.113.11", "443", false)
	if got := lookup(t, h, "other.test"); got.code != 2 {
		t.Errorf("a name that is not allowed: exit %d, %q", got.code, got.stdout)
	}
	policy()
}

// kills the one that answers, again and again.
func kills(t *testing.T, h *testbed.Host) {
	t.Helper()
	for range 3 {
		if h.Name == "standalone" {
			killDaemon(t, h, "aegisd")
			up(t, h)
		} else {
			killDaemon(t, h, "aegis-routerd")
		}
		resolves(t, h, "after a kill", "site.test", nettest.Server)
	}
	if h.Name == "system" {
		killDaemon(t, h, "aegis-netd")
		resolves(t, h, "after a kill of netd", "site.test", nettest.Server)
	}
}

// changes has the host ask another resolver, which the guest's follows.
func changes(t *testing.T, h *testbed.Host) {
	t.Helper()
	h.SetResolver(t, secondResolver)
	var got result
	for late := time.Now().Add(20 * time.Second); time.Now().Before(late); {
		if got = lookup(t, h, "site.test"); strings.HasPrefix(got.stdout, "203.0.113.12 ") {
			return
		}
	}
	t.Errorf("another resolver of the host: exit %d, %q, %q", got.code, got.stdout, got.stderr)
}
