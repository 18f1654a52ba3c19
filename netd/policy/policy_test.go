package policy_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd/policy"
)

func TestRulesAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]string{
		"internet": "internet", "1.2.3.4": "1.2.3.4", "1.2.3.4:443": "1.2.3.4:443", "10.0.0.0/8": "10.0.0.0/8",
		"192.168.1.0/24:22": "192.168.1.0/24:22", "0.0.0.0/0": "0.0.0.0/0", "Example.COM.": "example.com",
		"*.example.com:443": "*.example.com:443", "1.2.3.4/32": "1.2.3.4", "xn--bcher-kva.example": "xn--bcher-kva.example",
		"localhost": "localhost", "_dmarc.example.com": "_dmarc.example.com",
	} {
		r, err := policy.Parse(text)
		if err != nil || r.String() != want {
			t.Errorf("%q: %q, %v; expected %q", text, r, err, want)
		}
	}
}

func TestWhatIsNoRuleIsRefusedInOneLine(t *testing.T) {
	for _, text := range []string{
		"", "internet:443", ":443", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:", "1.2.3.4:+5", "1.2.3.4:05", "1.2.3.4:http", "::1", "[::1]:80", "2001:db8::/32",
		"10.1.2.3/8", "10.0.0.0/33", "10.0.0/8", "1.2.3", "1.2.3.4.5", "169.254.169.254", "169.254.0.0/16", "127.0.0.1", "0.0.0.0",
		"224.0.0.1", "255.255.255.255", "240.0.0.0/4", "-a.example", "a-.example", "a..example", "exa mple.com", "example.com/24",
		"*", "*.", "a.*.example", "**.example.com", "http://example.com", strings.Repeat("a", 64) + ".com",
		strings.Repeat("a.", 130) + "com", "\x00", "example.com\n", "::ffff:1.2.3.4",
	} {
		r, err := policy.Parse(text)
		if api.CodeOf(err) != api.InvalidArgument {
			t.Errorf("%q: %+v, %v", text, r, err)
		} else if strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%q: the refusal is %q", text, err)
		}
	}
}

func TestPolicies(t *testing.T) {
	name := policy.Rule{Name: "*.example.com", Port: 443}
	for _, c := range []struct {
		p        policy.Policy
		names    bool
		resolves map[string]bool
		refused  bool
	}{
		{p: policy.Policy{}, resolves: map[string]bool{"anything.org": true}},
		{p: policy.Policy{Deny: true}, resolves: map[string]bool{"anything.org": false}},
		{p: policy.Policy{Allow: []policy.Rule{name}}, names: true, resolves: map[string]bool{
			"a.example.com": true, "a.b.example.com": true, "example.com": false, "badexample.com": false, ".example.com": false, "a.example.com.evil.org": false,
		}},
		{p: policy.Policy{Allow: []policy.Rule{name, {Internet: true}}}, names: true, resolves: map[string]bool{"x.org": true}},
		{p: policy.Policy{Deny: true, Allow: []policy.Rule{name}}, refused: true},
		{p: policy.Policy{Allow: []policy.Rule{{}}}, refused: true},
		{p: policy.Policy{Allow: []policy.Rule{{Internet: true, Port: 1}}}, refused: true},
		{p: policy.Policy{Allow: []policy.Rule{{Name: "a b"}}}, refused: true},
		{p: policy.Policy{Allow: []policy.Rule{{Prefix: netip.MustParsePrefix("169.254.169.254/32")}}}, refused: true},
		{p: policy.Policy{Allow: []policy.Rule{{Prefix: netip.MustParsePrefix("::/0")}}}, refused: true},
		{p: policy.Policy{Allow: make([]policy.Rule, policy.MaxRules+1)}, refused: true},
		{p: policy.Policy{HostPorts: []uint16{0}}, refused: true},
		{p: policy.Policy{HostPorts: make([]uint16, policy.MaxPorts+1)}, refused: true},
	} {
		if err := c.p.Check(); (err != nil) != c.refused {
			t.Errorf("%+v: %v", c.p, err)
		}
		if c.refused {
			continue
		}
		if c.p.HasNames() != c.names {
			t.Errorf("%+v: has names: %v", c.p, !c.names)
		}
		for name, want := range c.resolves {
			if c.p.Resolves(name) != want {
				t.Errorf("%+v: resolves %s: %v", c.p, name, !want)
			}
		}
	}
}

func TestPublic(t *testing.T) {
	for addr, want := range map[string]bool{
		"8.8.8.8": true, "203.0.113.1": true, "11.0.0.0": true, "172.32.0.1": true, "10.0.0.1": false, "172.31.0.1": false,
		"192.168.0.1": false, "100.64.0.1": false, "169.254.1.1": false, "127.0.0.1": false, "224.0.0.1": false, "0.0.0.0": false,
		"2001:db8::1": false, "::ffff:8.8.8.8": false,
	} {
		if policy.Public(netip.MustParseAddr(addr)) != want {
			t.Errorf("%s: %v", addr, !want)
		}
	}
}

func FuzzRule(f *testing.F) {
	for _, s := range []string{"internet", "1.2.3.4:443", "10.0.0.0/8", "*.example.com:1", "::1", "a:b:c", "[::]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := policy.Parse(text)
		if err != nil {
			if api.CodeOf(err) != api.InvalidArgument {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		again, err := policy.Parse(r.String())
		if err != nil || again != r {
			t.Fatalf("%q is %q, which is %+v, %v", text, r, again, err)
		}
		if err := (policy.Policy{Allow: []policy.Rule{r}}).Check(); err != nil {
			t.Fatalf("%q is a rule but no policy: %v", text, err)
		}
		raw, err := json.Marshal(r)
		var back policy.Rule
		if err != nil || json.Unmarshal(raw, &back) != nil || back != r {
			t.Fatalf("%q as JSON is %s, which is %+v, %v", text, raw, back, err)
		}
		if r.Prefix.IsValid() && r.Prefix.Bits() >= 8 && !policy.Public(r.Prefix.Addr()) && !r.Private() {
			t.Fatalf("%q opens what is neither public nor private", text)
		}
	})
}
