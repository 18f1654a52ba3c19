package host_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/host"
	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// look is all of the host that a netd could change, as other programs see it.
func look(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, argv := range [][]string{{"nft", "-s", "-a", "list", "ruleset"}, {"ip", "-4", "-o", "addr"}, {"ip", "-4", "route", "show", "table", "all"}, {"ip", "neigh", "show", "nud", "permanent"}} {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Skipf("%v: %v: %s", argv, err, out)
		}
		all.Write(out)
	}
	files, _ := filepath.Glob("/proc/sys/net/ipv4/conf/*/forwarding")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		fmt.Fprintf(&all, "%s %s", f, b)
	}
	return regexp.MustCompile(`expires [0-9a-z]+`).ReplaceAllString(all.String(), "expires")
}

// foreign are rules of somebody else that look much like ours.
func foreign(t *testing.T) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(`
table inet aegisx {
	chain forward {
		type filter hook forward priority 0
		oifname "aegis0" counter
	}
}
table ip filter {
	set taps {
		type ifname
		elements = { "aegis9" }
	}
	chain in-aegis0 {
		counter drop
	}
}
`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("nft: %v: %s", err, out)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "aegis-vpn0"
	if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP}); err != nil {
		t.Fatal(err)
	}
}

func TestTheLastGuestLeavesTheHostAsTheFirstFoundIt(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	nettest.NewWorld(t)
	foreign(t)
	before := look(t)
	n := open(t, host.Options{})
	if now := look(t); now != before {
		t.Errorf("without guests something was changed:\n%s\nbefore:\n%s", now, before)
	}
	for i := range 3 {
		plug(t, n, fmt.Sprintf("m-%d", i), policy.Policy{Allow: []policy.Rule{{Name: "example.com"}}})
	}
	for i := range 3 {
		if err := n.Detach(t.Context(), fmt.Sprintf("m-%d", i)); err != nil {
			t.Error(err)
		}
	}
	if now := look(t); now != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", now, before)
	}
}

func TestARestartChangesNothing(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	nettest.NewWorld(t)
	foreign(t)
	dir := t.TempDir()
	n := open(t, host.Options{Dir: dir})
	named := policy.Policy{HostPorts: []uint16{8080}, Allow: []policy.Rule{{Name: "example.com"}, {Internet: true}}}
	g := plug(t, n, "m-1", named)
	plug(t, n, "m-2", policy.Policy{Deny: true})
	if _, err := n.Attach(t.Context(), "m-3", policy.Policy{}); err != nil { // never opened
		t.Fatal(err)
	}
	if err := n.Pin(t.Context(), "m-1", "example.com", []netip.Addr{netip.MustParseAddr(nettest.Server)}, time.Hour); err != nil {
		t.Fatal(err)
	}
	leases, _ := n.List(t.Context())
	before := look(t)
	n.Close() // changes nothing, as kill -9
	n = open(t, host.Options{Dir: dir})
	if now := look(t); now != before {
		t.Errorf("after a restart:\n%s\nbefore:\n%s", now, before)
	}
	if after, _ := n.List(t.Context()); fmt.Sprint(after) != fmt.Sprint(leases) {
		t.Errorf("leases: %v, before %v", after, leases)
	}
	mark := g.Marker()
	g.Send(g.UDP(nettest.Server, 443, mark))
	g.Await("the server's answer", func(f []byte) bool { return bytes.Contains(f, mark) })
}

func TestWhatSomebodyFlushedComesBack(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	p := newProbed(t)
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Skipf("nft: %v: %s", err, out)
	}
	// Whoever waits for the rules asks for something that needs them.
	deadline := time.Now().Add(5 * time.Second)
	for p.Counter("host") == 0 && time.Now().Before(deadline) {
		p.Run(nettest.Probe{Send: nettest.SendTCP(nettest.Uplink, 22), Counter: "host"})
	}
	for _, pr := range probes() {
		p.Allow(pr.Allow)
		if r := p.Run(pr); !r.Good() {
			t.Errorf("%s: leaks %v, counted %v", pr.Name, r.Leaks, r.Counted)
		}
	}
}

func TestWhatACrashLeavesIsClearedAway(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	nettest.NewWorld(t)
	before := look(t)
	dir := t.TempDir()
	n := open(t, host.Options{Dir: dir})
	plug(t, n, "m-1", policy.Policy{})
	plug(t, n, "m-2", policy.Policy{})
	n.Close()
	// Of one machine the record is gone, of the other it cannot be read: a
	// crash between any two steps leaves less.
	if err := os.Remove(filepath.Join(dir, "m-1.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "m-2.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, host.Options{Dir: dir})
	if now := look(t); now != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", now, before)
	}
}

func TestAPolicyThatChangesChangesWhatRuns(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	p := newProbed(t)
	p.Allow([]string{"internet"})
	// Always the same connection.
	talk := func() bool {
		r := p.Run(nettest.Probe{Send: nettest.Sends(func(g *nettest.Guest, mark []byte) []byte { return nettest.Spoofed(g, g.Addr.String(), mark) })})
		return len(r.Leaks) > 0
	}
	if !talk() {
		t.Fatal("the internet does not answer")
	}
	p.Allow([]string{nettest.Server + ":443"})
	if talk() {
		t.Error("a connection goes on that is not allowed any more")
	}
	p.Allow([]string{nettest.Server})
	if !talk() {
		t.Error("it does not go on when it is allowed again")
	}
	p.Allow([]string{"example.com", "*.example.net:7"})
	for _, name := range []string{"example.com", "a.example.net", "example.net", "evil.org"} {
		want := name == "example.com" || name == "a.example.net"
		if err := p.n.Pin(t.Context(), "m-1", name, []netip.Addr{netip.MustParseAddr(nettest.Server)}, time.Minute); err != nil {
			t.Fatal(err)
		}
		if got := talk(); got != want {
			t.Errorf("%s: reached %v, expected %v", name, got, want)
		}
		p.Allow([]string{"deny"})
		p.Allow([]string{"example.com", "*.example.net:7"})
		if talk() {
			t.Errorf("%s: what it opened is open after it was denied", name)
		}
	}
}

func TestANameOpensNoPrivateAddress(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	p := newProbed(t)
	p.Allow([]string{"example.com"})
	for _, addr := range []string{nettest.Elsewhere, nettest.Metadata, nettest.Neighbour, p.Other.Addr.String(), nettest.Uplink} {
		if err := p.n.Pin(t.Context(), "m-1", "example.com", []netip.Addr{netip.MustParseAddr(addr)}, time.Minute); err != nil {
			t.Fatal(err)
		}
		if r := p.Run(nettest.Probe{Send: nettest.SendTCP(addr, 443)}); len(r.Leaks) > 0 {
			t.Errorf("%s was opened by a name: %v", addr, r.Leaks)
		}
	}
}

func TestAddressesThatTheHostKnowsAreNotGivenAway(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	nettest.NewWorld(t)
	lan, err := netlink.LinkByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{"10.213.0.0/30", "172.29.0.0/16"} {
		network, _ := netlink.ParseIPNet(dst)
		if err := netlink.RouteAdd(&netlink.Route{Dst: network, LinkIndex: lan.Attrs().Index, Table: 100}); err != nil {
			t.Fatal(err)
		}
	}
	n := open(t, host.Options{Pools: []netip.Prefix{
		netip.MustParsePrefix("10.213.0.0/16"), netip.MustParsePrefix("172.29.0.0/16"), netip.MustParsePrefix("192.168.208.0/29"),
	}})
	var last netd.Lease
	for i := 0; ; i++ {
		l, err := n.Attach(t.Context(), fmt.Sprintf("m-%d", i), policy.Policy{})
		if err != nil {
			if api.CodeOf(err) != api.LimitExceeded || i != 6 {
				t.Errorf("guest %d: %v", i, err)
			}
			break
		}
		last = l
	}
	if last.Addr.String() != "192.168.208.7" || last.Gateway.String() != "192.168.208.1" {
		t.Errorf("the last lease: %+v", last)
	}
	if err := n.Detach(t.Context(), "m-2"); err != nil {
		t.Fatal(err)
	}
	if l, err := n.Attach(t.Context(), "m-new", policy.Policy{}); err != nil || l.Addr.String() != "192.168.208.4" || l.Link != "aegis2" {
		t.Errorf("what is free is used again: %+v, %v", l, err)
	}
}

func TestTwoOwnersDoNotMeet(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	w := nettest.NewWorld(t)
	before := look(t)
	one, two := open(t, host.Options{}), open(t, host.Options{Owner: "/home/somebody"})
	p := &nettest.Probed{World: w, N: one, G: plug(t, one, "m-1", policy.Policy{}), Other: plug(t, two, "m-1", policy.Policy{})}
	if p.G.Gateway == p.Other.Gateway {
		t.Errorf("both have the gateway %s", p.G.Gateway)
	}
	for _, addr := range []string{p.Other.Addr.String(), p.Other.Gateway.String()} {
		if r := p.Run(nettest.Probe{Send: nettest.SendTCP(addr, 22)}); len(r.Leaks) > 0 {
			t.Errorf("%s is reached: %v", addr, r.Leaks)
		}
	}
	if !nettest.UDPTo(nettest.Server, 7)(p) {
		t.Error("the internet does not answer the first")
	}
	if err := one.Detach(t.Context(), "m-1"); err != nil {
		t.Fatal(err)
	}
	p.G = p.Other
	if !nettest.UDPTo(nettest.Server, 7)(p) {
		t.Error("the internet does not answer the second when the first is gone")
	}
	if err := two.Detach(t.Context(), "m-1"); err != nil {
		t.Fatal(err)
	}
	if now := look(t); now != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", now, before)
	}
}
