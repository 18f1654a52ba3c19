package api

import "context"

// GuestMAC is the hardware address of the network device of every guest. It is
// the same for all, as a template is restored for many: each has a link of its
// own.
var GuestMAC = [6]byte{0x02, 0xae, 0x91, 0x50, 0x00, 0x02}

// The networks that an instance can have.
const (
	// NetworkNone is no network device at all.
	NetworkNone = "none"
	// NetworkNAT is the internet, or what the egress policy says instead, behind
	// the host's address.
	NetworkNAT = "nat"
	// NetworkHost, with ports behind it such as host-services=8080,5432, is nat
	// and those ports of the host, at the guest's gateway.
	NetworkHost = "host-services="
)

// NetworkSpec is the part of an InstanceSpec about its network.
type NetworkSpec struct {
	// Network is none, nat or host-services=PORT[,PORT...]; empty means nat
	// where this host can give networks, else none.
	Network string `json:"network,omitempty"`
	EgressPolicy
}

// EgressPolicy is what a guest may reach of the world.
type EgressPolicy struct {
	// AllowEgress replaces the internet by what it names: internet, ADDRESS,
	// NETWORK/BITS, DOMAIN or *.DOMAIN, all but the first with :PORT if only
	// that is meant. A private network is open only if it is named itself.
	AllowEgress []string `json:"allow_egress,omitempty"`
	// DenyEgress denies everything.
	DenyEgress bool `json:"deny_egress,omitempty"`
}

// NetworkPolicy is what may be changed of an instance's network.
type NetworkPolicy struct {
	// HostServices are the ports of the host that the guest may reach.
	HostServices []uint16 `json:"host_services,omitempty"`
	EgressPolicy
}

// NetworkState is the network of an instance.
type NetworkState struct {
	// Network is none or nat.
	Network string `json:"network"`
	NetworkPolicy
	// Address is the guest's, Gateway the host's on their link, Link its name
	// on the host; empty while the instance has no machine.
	Address string `json:"address,omitempty"`
	Gateway string `json:"gateway,omitempty"`
	Link    string `json:"link,omitempty"`
	// Counters are of its machine, in the order of the rules. All but "allowed"
	// count what was dropped.
	Counters []NetworkCounter `json:"counters,omitempty"`
}

// NetworkCounter is what one rule has counted.
type NetworkCounter struct {
	Name    string `json:"name"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Networks is the part of Aegis about the networks of instances.
type Networks interface {
	// NetworkState tells of an instance's network and what was dropped of it.
	NetworkState(ctx context.Context, ref string) (NetworkState, error)
	// SetNetworkPolicy changes what an instance may reach, at once if it runs,
	// also of the connections that it has. BadState where it has no network.
	SetNetworkPolicy(ctx context.Context, ref string, p NetworkPolicy) (NetworkState, error)
}
