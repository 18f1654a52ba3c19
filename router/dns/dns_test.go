package dns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/router/dns"
)

type (
	ctx   = context.Context
	lease = netd.Lease
)

// names is a netd that knows one guest, who is at 127.0.0.1.
type names struct {
	policy policy.Policy
	nobody bool
	fails  error
	away   bool

	mu     sync.Mutex // guards pinned
	pinned []string
}

func (n *names) Guest(_ context.Context, addr netip.Addr) (netd.Lease, error) {
	if n.away {
		return netd.Lease{}, api.Errorf(api.Unavailable, "netd is away")
	}
	if n.nobody || addr != netip.MustParseAddr("127.0.0.1") {
		return netd.Lease{}, api.Errorf(api.NotFound, "no machine has the address %s", addr)
	}
	return netd.Lease{Machine: "m-1", Policy: n.policy}, nil
}

func (n *names) Pin(_ context.Context, machine, name string, addrs []netip.Addr, ttl time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pinned = append(n.pinned, fmt.Sprint(machine, " ", name, " ", addrs, " ", ttl))
	return n.fails
}

func (n *names) got() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.pinned, "; ")
}

// sockets are a datagram socket and a listener at one port of 127.0.0.1.
func sockets(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp4", l.Addr().String())
		if err == nil {
			t.Cleanup(func() { u.Close(); l.Close() })
			return u, l
		}
		l.Close() // somebody has the other half
	}
	t.Fatal("no port is free")
	return nil, nil
}

// upstream is a resolver with a zone.
func upstream(t testing.TB, zone map[string][]string) string {
	t.Helper()
	u, l := sockets(t)
	answer := miekg.HandlerFunc(func(w miekg.ResponseWriter, q *miekg.Msg) {
		m := new(miekg.Msg)
		m.SetReply(q)
		records, known := zone[strings.ToLower(q.Question[0].Name)+" "+miekg.TypeToString[q.Question[0].Qtype]]
		if !known {
			m.Rcode = miekg.RcodeNameError
		}
		for _, text := range records {
			switch rr, err := miekg.NewRR(text); {
			case text == "servfail":
				m.Rcode = miekg.RcodeServerFailure
			case text == "long":
				_, datagram := w.RemoteAddr().(*net.UDPAddr)
				m.Truncated = datagram
			case err != nil:
				panic(err)
			case !m.Truncated:
				m.Answer = append(m.Answer, rr)
			}
		}
		w.WriteMsg(m)
	})
	for _, s := range []*miekg.Server{{PacketConn: u, Handler: answer}, {Listener: l, Handler: answer}} {
		go s.ActivateAndServe()
	}
	return u.LocalAddr().String()
}

// serve serves a guest and returns where.
func serve(t testing.TB, o dns.Options) string {
	t.Helper()
	u, l := sockets(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- dns.Serve(ctx, o, u, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return u.LocalAddr().String()
}

// fixed are resolvers that stay.
func fixed(all ...string) func() []string { return func() []string { return all } }

func ask(t testing.TB, network, at, name string, kind uint16) *miekg.Msg {
	t.Helper()
	q := new(miekg.Msg)
	q.SetQuestion(name, kind)
	q.SetEdns0(1232, false)
	m, _, err := (&miekg.Client{Net: network, Timeout: 10 * time.Second}).Exchange(q, at)
	if err != nil {
		t.Fatalf("%s %s: %v", name, network, err)
	}
	return m
}

func rules(texts ...string) (p policy.Policy) {
	for _, text := range texts {
		r, err := policy.Parse(text)
		if err != nil {
			panic(err)
		}
		p.Allow = append(p.Allow, r)
	}
	return p
}

var zone = map[string][]string{
	"a.example. A":     {"a.example. 60 IN A 203.0.113.1", "a.example. 60 IN A 203.0.113.2"},
	"alias.example. A": {"alias.example. 300 IN CNAME deep.cdn.example.", "deep.cdn.example. 30 IN A 203.0.113.3", "evil.example. 60 IN A 203.0.113.66"},
	"loop.example. A":  {"loop.example. 1 IN CNAME loop.example."},
	"long.example. A":  {"long", "long.example. 60 IN A 203.0.113.4"},
	"bad.example. A":   {"servfail"},
	"a.example. TXT":   {`a.example. 60 IN TXT "text"`},
}

func TestAnswersAreWhatThePolicyAllows(t *testing.T) {
	up := upstream(t, zone)
	for _, c := range []struct {
		name   string
		policy policy.Policy
		asked  string
		kind   uint16
		code   int
		has    string // of the answer, in short
		pinned string
	}{
		{"the internet", policy.Policy{}, "a.example.", miekg.TypeA, 0, "203.0.113.1 203.0.113.2", ""},
		{"a name in capitals", rules("a.example"), "A.Example.", miekg.TypeA, 0, "203.0.113.1 203.0.113.2", "m-1 a.example [203.0.113.1 203.0.113.2] 1m0s"},
		{"a name that is allowed", rules("a.example:443"), "a.example.", miekg.TypeA, 0, "203.0.113.1 203.0.113.2", "m-1 a.example [203.0.113.1 203.0.113.2] 1m0s"},
		{"another one", rules("b.example"), "a.example.", miekg.TypeA, miekg.RcodeNameError, "", ""},
		{"all denied", policy.Policy{Deny: true}, "a.example.", miekg.TypeA, miekg.RcodeNameError, "", ""},
		{"an alias, and nothing beside it", rules("*.example"), "alias.example.", miekg.TypeA, 0, "deep.cdn.example. 203.0.113.3", "m-1 alias.example [203.0.113.3] 30s"},
		{"an alias of itself", rules("*.example"), "loop.example.", miekg.TypeA, 0, strings.TrimSpace(strings.Repeat("loop.example. ", 16)), ""},
		{"no IPv6", policy.Policy{}, "a.example.", miekg.TypeAAAA, 0, "", ""},
		{"text", policy.Policy{}, "a.example.", miekg.TypeTXT, 0, "text", ""},
		{"no such name", policy.Policy{}, "nosuch.example.", miekg.TypeA, miekg.RcodeNameError, "", ""},
		{"a long answer", rules("long.example"), "long.example.", miekg.TypeA, 0, "203.0.113.4", "m-1 long.example [203.0.113.4] 1m0s"},
		{"a resolver that fails", policy.Policy{}, "bad.example.", miekg.TypeA, miekg.RcodeServerFailure, "", ""},
	} {
		for _, network := range []string{"udp", "tcp"} {
			n := &names{policy: c.policy}
			at := serve(t, dns.Options{Names: n, Upstreams: fixed(up)})
			m := ask(t, network, at, c.asked, c.kind)
			var has []string
			for _, rr := range m.Answer {
				fields := strings.Fields(rr.String())
				has = append(has, strings.Trim(fields[len(fields)-1], `"`))
			}
			if got := strings.Join(has, " "); m.Rcode != c.code || got != c.has || n.got() != c.pinned {
				t.Errorf("%s, %s: code %d, %q, pinned %q", c.name, network, m.Rcode, got, n.got())
			}
		}
	}
}

func TestWhoeverIsNoGuestIsRefused(t *testing.T) {
	at := serve(t, dns.Options{Names: &names{nobody: true}, Upstreams: fixed(upstream(t, zone))})
	if m := ask(t, "udp", at, "a.example.", miekg.TypeA); m.Rcode != miekg.RcodeRefused || len(m.Answer) > 0 {
		t.Errorf("a stranger got %v", m)
	}
}

func TestAGuestOfWhomNobodyKnowsAsksAgain(t *testing.T) {
	at := serve(t, dns.Options{Names: &names{away: true}, Upstreams: fixed(upstream(t, zone))})
	if m := ask(t, "udp", at, "a.example.", miekg.TypeA); m.Rcode != miekg.RcodeServerFailure {
		t.Errorf("without netd a guest got %v", m)
	}
}

func TestWhatOneAsksAtOnceIsBounded(t *testing.T) {
	silent, _ := sockets(t)
	at := serve(t, dns.Options{Names: &names{}, Upstreams: fixed(silent.LocalAddr().String()), PerGuest: 3, Timeout: 200 * time.Millisecond})
	var waiting sync.WaitGroup
	var mu sync.Mutex
	codes := map[string]int{}
	for range 10 {
		waiting.Go(func() {
			q := new(miekg.Msg)
			q.SetQuestion("a.example.", miekg.TypeA)
			m, _, err := (&miekg.Client{Timeout: 2 * time.Second}).Exchange(q, at)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				codes["none"]++
				return
			}
			codes[miekg.RcodeToString[m.Rcode]]++
		})
	}
	waiting.Wait()
	if codes["SERVFAIL"] < 3 || codes["none"] == 0 || codes["SERVFAIL"]+codes["none"] != 10 {
		t.Errorf("ten questions at once, where three may be: %v", codes)
	}
	closed := 0
	for range 12 {
		c, err := net.Dial("tcp4", at)
		must(t, err)
		waiting.Go(func() {
			defer c.Close()
			c.SetReadDeadline(time.Now().Add(time.Second)) // those that are served are closed later
			_, err := c.Read(make([]byte, 1))
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
				closed++
			}
		})
	}
	waiting.Wait()
	if closed != 4 {
		t.Errorf("of twelve connections %d were closed, expected 4", closed)
	}
}

func TestAGuestKeepsNoAnswerForLongerThanItsAddressIsOpen(t *testing.T) {
	at := serve(t, dns.Options{Names: &names{}, Upstreams: fixed(upstream(t, map[string][]string{"old.example. A": {"old.example. 864000 IN A 203.0.113.1"}}))})
	if m := ask(t, "udp", at, "old.example.", miekg.TypeA); len(m.Answer) != 1 || m.Answer[0].Header().Ttl != 3600 {
		t.Errorf("the guest got %v", m)
	}
}

func TestAnAddressThatWasNotOpenedIsNotTold(t *testing.T) {
	n := &names{policy: rules("a.example"), fails: api.Errorf(api.Unavailable, "netd is away")}
	at := serve(t, dns.Options{Names: n, Upstreams: fixed(upstream(t, zone))})
	if m := ask(t, "udp", at, "a.example.", miekg.TypeA); m.Rcode != miekg.RcodeServerFailure || len(m.Answer) > 0 {
		t.Errorf("the guest got %v", m)
	}
}

func TestTheNextResolverIsAskedWhereOneIsSilent(t *testing.T) {
	silent, _ := sockets(t)
	at := serve(t, dns.Options{
		Names: &names{}, Upstreams: fixed(silent.LocalAddr().String(), "127.0.0.1:1", upstream(t, zone)), Timeout: 100 * time.Millisecond,
	})
	if m := ask(t, "udp", at, "a.example.", miekg.TypeA); len(m.Answer) != 2 {
		t.Errorf("the guest got %v", m)
	}
	at = serve(t, dns.Options{Names: &names{}, Upstreams: fixed(silent.LocalAddr().String()), Timeout: 100 * time.Millisecond})
	if m := ask(t, "udp", at, "a.example.", miekg.TypeA); m.Rcode != miekg.RcodeServerFailure {
		t.Errorf("without a resolver that answers the guest got %v", m)
	}
}

func TestUpstreamsAreTheHosts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch example\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := dns.Upstreams(file); err != nil || fmt.Sprint(got) != "[192.0.2.1:53 [2001:db8::1]:53]" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := dns.Upstreams(file + "x"); err == nil {
		t.Error("a file that is not there")
	}
}

// writer takes an answer as a guest with a datagram socket would.
type writer struct {
	miekg.ResponseWriter
	size int
}

func (w *writer) RemoteAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9} }
func (w *writer) WriteMsg(m *miekg.Msg) error {
	b, err := m.Pack()
	w.size = len(b)
	return err
}

func FuzzQuestion(f *testing.F) {
	q := new(miekg.Msg)
	q.SetQuestion("a.example.", miekg.TypeA)
	raw, err := q.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	q.SetEdns0(65535, true)
	raw, _ = q.Pack()
	f.Add(raw)
	up := upstream(f, zone)
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := new(miekg.Msg)
		if m.Unpack(raw) != nil {
			return // the server drops it by itself
		}
		w := &writer{}
		dns.New(t.Context(), dns.Options{Names: &names{policy: rules("internet", "a.example")}, Upstreams: fixed(up), Timeout: time.Second}).ServeDNS(w, m)
		if w.size > 1232 {
			t.Errorf("an answer of %d bytes to %v", w.size, m)
		}
	})
}

// FuzzAnswer has a resolver say anything to a question.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{"a.example. 60 IN A 203.0.113.1", "a.example. 60 IN CNAME a.example.", "a.example. 1 IN TXT x"} {
		m := new(miekg.Msg)
		m.SetQuestion("a.example.", miekg.TypeA)
		m.Response = true
		rr, err := miekg.NewRR(text)
		must(f, err)
		m.Answer = []miekg.RR{rr}
		raw, err := m.Pack()
		must(f, err)
		f.Add(raw[2:])
	}
	u, _ := sockets(f)
	says := make(chan []byte, 1)
	go func() { // ends with the socket
		buf := make([]byte, 2000)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil || n < 2 {
				return
			}
			u.WriteTo(append(buf[:2:2], <-says...), from)
		}
	}()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 1200 {
			return
		}
		says <- raw
		n := &names{policy: rules("a.example")}
		w := &writer{}
		q := new(miekg.Msg)
		q.SetQuestion("a.example.", miekg.TypeA)
		dns.New(t.Context(), dns.Options{Names: n, Upstreams: fixed(u.LocalAddr().String()), Timeout: 100 * time.Millisecond}).ServeDNS(w, q)
		if w.size > 512 || strings.Contains(n.got(), ";") || n.got() != "" && !strings.HasPrefix(n.got(), "m-1 a.example [") {
			t.Errorf("%x: an answer of %d bytes, pinned %q", raw, w.size, n.got())
		}
	})
}
