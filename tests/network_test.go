package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// inAWorld runs a test on hosts that have an internet of their own, on both at
// once.
func inAWorld(t *testing.T, test func(t *testing.T, h *testbed.Host)) {
	inWorlds(t, func(t *testing.T, h *testbed.Host, _ *nettest.World) {
		up(t, h)
		test(t, h)
	})
}

func up(t *testing.T, h *testbed.Host) {
	t.Helper()
	if got := aegis(t, h, nil, "up"); got.code != 0 {
		t.Fatalf("aegis up: exit %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

// withoutRights is a host whose machines have their networks in their jails.
func withoutRights(t testing.TB) *testbed.Host {
	s := nettest.NewSpace(t)
	s.Do(func() { nettest.AllowPings(t) })
	return testbed.WithoutRights(t, s.Path())
}

// inWorlds is inAWorld before aegisd is up.
func inWorlds(t *testing.T, test func(t *testing.T, h *testbed.Host, w *nettest.World)) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots real machines")
	}
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for name, host := range map[string]func(testing.TB) *testbed.Host{
		"standalone":     func(t testing.TB) *testbed.Host { return testbed.Apart(t, nettest.NewSpace(t).Path()) },
		"without rights": withoutRights,
		"system":         testbed.System,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := host(t)
			test(t, h, nettest.Open(t, h.NetNS).World())
		})
	}
}

// try is one thing that a guest tries.
type try struct {
	How   string `json:"how"`
	Addr  string `json:"addr"`
	Port  int    `json:"port"`
	Works bool   `json:"works"`
}

// reachable is what a guest may reach by default, unreachable what it may not;
// other is the address of another guest.
func reachable() []try {
	return []try{{"tcp", nettest.Server, 443, true}, {"tcp", nettest.Server, 7, true}, {"udp", nettest.Server, 7, true}, {"ping", nettest.Server, 0, true}}
}

func unreachable(gateway, other string) (all []try) {
	for _, port := range nettest.HostPorts {
		all = append(all, try{"tcp", gateway, port, port == nettest.DNSPort}, try{"udp", gateway, port, false})
	}
	for _, addr := range []string{nettest.Uplink, nettest.HostInLAN} {
		all = append(all, try{"tcp", addr, 22, false}, try{"udp", addr, 8080, false}, try{"ping", addr, 0, false})
	}
	all = append(all, try{"ping", gateway, 0, false}, try{"tcp", other, 22, false}, try{"udp", other, 7, false}, try{"ping", other, 0, false})
	for _, addr := range []string{
		nettest.Neighbour, nettest.Elsewhere, nettest.Metadata, "169.254.170.2", "10.0.0.1", "172.16.5.5", "192.168.1.1",
		"100.64.0.1", "100.100.100.200", "198.18.0.1", "192.0.0.170", "240.0.0.1",
	} {
		all = append(all, try{"tcp", addr, 443, false}, try{"udp", addr, 7, false})
	}
	for _, port := range []int{53, 853} {
		all = append(all, try{"tcp", nettest.Resolver, port, false}, try{"udp", nettest.Resolver, port, false})
	}
	return append(all, try{"udp", "255.255.255.255", 67, false}, try{"udp", "224.0.0.1", 5353, false}, try{"udp", "224.0.0.251", 5353, false})
}

func networkState(t *testing.T, h *testbed.Host, name string) (state api.NetworkState) {
	t.Helper()
	got := aegis(t, h, nil, "network", "show", name, "-o", "json")
	if err := json.Unmarshal([]byte(got.stdout), &state); err != nil || got.code != 0 {
		t.Fatalf("network show: exit %d, %v\n%s%s", got.code, err, got.stdout, got.stderr)
	}
	return state
}

// checkTries checks what a guest said that it could do.
func checkTries(t *testing.T, got result, tries []try) {
	t.Helper()
	if got.code != 0 {
		t.Fatalf("the probes: exit %d\n%s", got.code, got.stderr)
	}
	want := map[string]bool{}
	for _, one := range tries {
		want[fmt.Sprint(one.How, one.Addr, one.Port)] = one.Works
	}
	answers := 0
	for line := range strings.Lines(got.stdout) {
		var one try
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		answers++
		if one.Works != want[fmt.Sprint(one.How, one.Addr, one.Port)] {
			t.Errorf("%s to %s port %d: works %v", one.How, one.Addr, one.Port, one.Works)
		}
	}
	t.Logf("%d probes", answers)
	if answers != len(tries) {
		t.Errorf("%d of %d probes answered", answers, len(tries))
	}
}

// startGuests starts web, which probes, and job, another guest.
func startGuests(t *testing.T, h *testbed.Host) {
	t.Helper()
	for _, name := range []string{"web", "job"} {
		if got := aegis(t, h, nil, "instance", "start", "--name", name, "--", "sleep", "1000"); got.code != 0 {
			t.Fatalf("starting %s: exit %d\n%s%s", name, got.code, got.stdout, got.stderr)
		}
	}
}

func TestARealGuestIsKeptIn(t *testing.T) {
	script, err := os.ReadFile("testdata/network.py")
	if err != nil {
		t.Fatal(err)
	}
	inAWorld(t, func(t *testing.T, h *testbed.Host) {
		before := inventory(t, h)
		startGuests(t, h)
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		heard := followEvents(ctx, t, h)
		web := networkState(t, h, "web")
		tries := append(reachable(), unreachable(web.Gateway, networkState(t, h, "job").Address)...)
		asked, _ := json.Marshal(tries)
		got := aegis(t, h, nil, "exec", "web", "--", "python3", "-c", string(script), web.Gateway, string(asked), web.Address)
		checkTries(t, got, tries)
		if len(tries) < 60 {
			t.Errorf("only %d probes", len(tries))
		}
		counters := networkState(t, h, "web").Counters
		awaitDenials(t, heard, "web", counters)
		cancel()
		for _, c := range counters {
			switch c.Name {
			case "mac", "arp-mac", "arp-ip", "ip", "broadcast", "ipv6", "ethertype", "host", "link-local", "guests", "private", "resolver", "reserved", "allowed":
				if c.Packets == 0 {
					t.Errorf("nothing was counted as %q", c.Name)
				}
			}
		}
		for _, name := range []string{"web", "job"} {
			if got := aegis(t, h, nil, "instance", "delete", name); got.code != 0 {
				t.Errorf("deleting %s: %s", name, got.stderr)
			}
		}
		if after := inventory(t, h); after != before {
			t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
		}
	})
}

const fetch = `import socket
with socket.create_connection(("203.0.113.10", 443), timeout=3) as s:
    s.sendall(b"hello")
    print(s.recv(100).decode())`

func TestWhatAGuestReachesCanBeChosenAndChanged(t *testing.T) {
	inAWorld(t, func(t *testing.T, h *testbed.Host) {
		for _, c := range []struct {
			args []string
			code int
		}{
			{nil, 0},
			{[]string{"--network", "nat"}, 0},
			{[]string{"--network", "none"}, 1},
			{[]string{"--deny-egress"}, 1},
			{[]string{"--allow-egress", "203.0.113.10:443"}, 0},
			{[]string{"--allow-egress", "203.0.113.0/24:80"}, 1},
			{[]string{"--allow-egress", "169.254.169.254"}, 125},
		} {
			got := aegis(t, h, nil, append(append([]string{"run"}, c.args...), "--", "python3", "-c", fetch)...)
			if got.code != c.code || (c.code == 0) != strings.HasPrefix(got.stdout, nettest.Uplink+":") {
				t.Errorf("%v: exit %d, %q, %q", c.args, got.code, got.stdout, got.stderr)
			}
		}
		if got := aegis(t, h, nil, "instance", "start", "--name", "web", "--", "sleep", "1000"); got.code != 0 {
			t.Fatalf("starting: %s", got.stderr)
		}
		for _, c := range []struct {
			args []string
			code int
		}{{[]string{"--deny-egress"}, 1}, {nil, 0}, {[]string{"--allow-egress", "203.0.113.11"}, 1}, {[]string{"--allow-egress", "203.0.113.10"}, 0}} {
			if got := aegis(t, h, nil, append([]string{"network", "policy", "web"}, c.args...)...); got.code != 0 {
				t.Fatalf("policy %v: %s", c.args, got.stderr)
			}
			if got := aegis(t, h, nil, "exec", "web", "--", "python3", "-c", fetch); got.code != c.code {
				t.Errorf("with policy %v: exit %d, %q", c.args, got.code, got.stderr)
			}
		}
	})
}
