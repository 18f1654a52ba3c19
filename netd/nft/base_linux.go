package nft

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/netd/policy"
)

// rule is a rule with the note that it is known by.
type rule struct {
	note  string
	exprs match
}

// chain is a chain as it should be.
type chain struct {
	*nftables.Chain
	rules []rule
}

// base is the part of the table that all guests share.
type base struct {
	Config
	inet, netdev *nftables.Table
	// guests are their addresses, opened the links that would not forward
	// without us.
	guests, opened *nftables.Set
	// private, pools, ported and resolver are constants.
	private, pools, ported, resolver *nftables.Set
	// maps lead from a link to the chains of its guest.
	fromMap, inMap, toMap *nftables.Set
}

func newBase(c Config) *base {
	b := &base{
		Config: c,
		inet:   &nftables.Table{Name: c.Name, Family: nftables.TableFamilyINet},
		netdev: &nftables.Table{Name: c.Name, Family: nftables.TableFamilyNetdev},
	}
	set := func(name string, key nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: b.inet, Name: name, KeyType: key}
	}
	b.guests, b.opened = set("guests", nftables.TypeIPAddr), set("opened", nftables.TypeIFName)
	b.private, b.pools = set("private", nftables.TypeIPAddr), set("pools", nftables.TypeIPAddr)
	b.private.Interval, b.pools.Interval = true, true
	b.ported, b.resolver = set("ported", nftables.TypeInetProto), set("resolver", nftables.TypeInetService)
	b.fromMap, b.inMap, b.toMap = b.vmap("from"), b.vmap("in"), b.vmap("to")
	return b
}

func (b *base) vmap(name string) *nftables.Set {
	return &nftables.Set{Table: b.inet, Name: name, KeyType: nftables.TypeIFName, IsMap: true, DataType: nftables.TypeVerdict}
}

// sets are all, with the elements of the constant ones.
func (b *base) sets() []setWith {
	return []setWith{
		{b.guests, nil},
		{b.opened, nil},
		{b.fromMap, nil},
		{b.inMap, nil},
		{b.toMap, nil},
		{b.private, intervals(policy.Private)},
		{b.pools, intervals(b.Pools)},
		{b.ported, []nftables.SetElement{{Key: []byte{unix.IPPROTO_TCP}}, {Key: []byte{unix.IPPROTO_UDP}}}},
		{b.resolver, []nftables.SetElement{{Key: port16(53)}, {Key: port16(853)}}},
	}
}

type setWith struct {
	*nftables.Set
	elements []nftables.SetElement
}

// intervals are networks as the elements of a set: where each begins, and
// where it has ended.
func intervals(all []netip.Prefix) (elements []nftables.SetElement) {
	for _, p := range all {
		start, end := p.Addr().As4(), p.Addr().As4()
		for i := range end {
			end[i] |= ^byte(0) >> min(8, max(0, p.Bits()-8*i))
		}
		end = netip.AddrFrom4(end).Next().As4()
		elements = append(elements, nftables.SetElement{Key: start[:]}, nftables.SetElement{Key: end[:], IntervalEnd: true})
	}
	return elements
}

// before is just before the filters of others, which still see what we accept.
const before = -10

func (b *base) hook(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority int32, rules ...rule) chain {
	accept := nftables.ChainPolicyAccept
	return chain{&nftables.Chain{
		Name: name, Table: b.inet, Type: kind, Hooknum: hook,
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority)), Policy: &accept,
	}, rules}
}

// The counters of the host, not of a guest.
const dropForeign = "not-a-router"

// chains are those that all guests share. What is not of a guest passes.
func (b *base) chains() []chain {
	// A link that forwards for guests only because we made it must not make a
	// router of the host for anybody else.
	foreign := append(match{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, in(b.opened),
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, compare(expr.CmpOpNeq, []byte(LinkPrefix)),
	}, count(dropForeign), verdict(expr.VerdictDrop))
	masquerade := match{
		load(expr.PayloadBaseNetworkHeader, ipFrom, 4), in(b.guests), &expr.Masq{},
	}
	filter, nat := nftables.ChainTypeFilter, nftables.ChainTypeNAT
	return []chain{
		b.denied(b.inet, denied), b.denied(b.netdev, deniedFrames),
		b.hook("input", filter, nftables.ChainHookInput, before, rule{"from guests", dispatch(expr.MetaKeyIIFNAME, b.inMap)}),
		b.hook("forward", filter, nftables.ChainHookForward, before,
			rule{"from guests", dispatch(expr.MetaKeyIIFNAME, b.fromMap)},
			rule{"to guests", dispatch(expr.MetaKeyOIFNAME, b.toMap)}, rule{"drop " + dropForeign, foreign}),
		b.hook("postrouting", nat, nftables.ChainHookPostrouting, int32(*nftables.ChainPriorityNATSource),
			rule{"masquerade", masquerade}),
	}
}
