package host_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"

	"github.com/xfeldman/aegisvm/netd/nettest"
)

// rules are all rules of a guest and of what guests share, for the policies
// in force.
func rules(t *testing.T, link string) (all []*nftables.Rule) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	chains, err := c.ListChains()
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range chains {
		if _, guests, of := strings.Cut(ch.Name, "-aegis"); of && "aegis"+guests != link {
			continue
		}
		in, err := c.GetRules(ch.Table, ch)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range in {
			r.Table = ch.Table // with its family
			all = append(all, r)
		}
	}
	return all
}

func note(r *nftables.Rule) string {
	text, _ := userdata.GetString(r.UserData, userdata.TypeComment)
	return r.Chain.Name + ": " + text
}

// opens tells whether a rule is one of those that the policies of probes open
// so much with; the same kind of rule is among those that are needed.
func opens(r *nftables.Rule) bool {
	what, ok := strings.CutPrefix(note(r), "from-aegis0: allow ")
	return ok && what != "internet" && slices.Contains(append(nettest.Wide, "0.0.0.0/0"), what)
}

// tells tells whether a rule only tells that something was denied, of which the
// contract is the test.
func tells(r *nftables.Rule) bool { return strings.HasSuffix(note(r), ": tell") }

func remove(t *testing.T, r *nftables.Rule) {
	t.Helper()
	c, err := nftables.New()
	if err == nil {
		err = c.DelRule(r)
	}
	if err == nil {
		err = c.Flush()
	}
	if err != nil {
		t.Fatalf("removing %s: %v", note(r), err)
	}
}

// TestEveryRuleIsNeeded removes each rule in turn and lets the probes find
// out; then a new netd puts it back.
func TestEveryRuleIsNeeded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	if !nettest.Isolated(t) {
		return
	}
	p := newProbed(t)
	seen := map[string]string{}
	for _, policy := range policies() {
		p.Allow(policy)
		if why := p.notices(policy); why != "" {
			t.Fatalf("with all rules and the policy %v, %s", policy, why)
		}
		for _, r := range rules(t, "aegis0") {
			name := note(r)
			if seen[name] != "" || opens(r) || tells(r) {
				continue
			}
			p.Allow([]string{"deny"}) // and with it what names have opened
			p.Allow(policy)
			for _, now := range rules(t, "aegis0") { // it has another number now
				if note(now) == name {
					remove(t, now)
				}
			}
			if why := p.notices(policy); why != "" {
				seen[name] = why
			}
			p.reopen(t)
		}
	}
	leaks := 0
	for _, policy := range policies() {
		p.Allow(policy)
		for _, r := range rules(t, "aegis0") {
			if seen[note(r)] == "" && !opens(r) && !tells(r) {
				t.Errorf("nobody notices that %q is missing", note(r))
				seen[note(r)] = "reported"
			}
		}
	}
	for name, why := range seen {
		t.Logf("%-45s %s", name, why)
		if strings.Contains(why, "leaks") {
			leaks++
		}
	}
	t.Logf("%d rules removed in turn, %d of them leak at once", len(seen), leaks)
}

// policies are those that probes and wants have, each once.
func policies() (all [][]string) {
	add := func(p []string) {
		if !slices.ContainsFunc(all, func(o []string) bool { return slices.Equal(o, p) }) {
			all = append(all, p)
		}
	}
	for _, pr := range probes() {
		add(pr.Allow)
	}
	for _, w := range wants() {
		add(w.Allow)
	}
	return all
}

// notices runs all probes and wants of a policy, and says which was first to
// go wrong.
func (p *probed) notices(policy []string) string {
	uncounted := ""
	for _, pr := range probes() {
		if !slices.Equal(pr.Allow, policy) {
			continue
		}
		switch r := p.Run(pr); {
		case len(r.Leaks) > 0:
			return pr.Name + " leaks: " + r.Leaks[0]
		case !r.Counted:
			uncounted = pr.Name + " is not counted"
		}
	}
	for _, w := range wants() {
		if uncounted == "" && slices.Equal(w.Allow, policy) && w.Name != "a service of the host that is named" && !w.Works(p.Probed) {
			return w.Name + " does not work"
		}
	}
	return uncounted
}
