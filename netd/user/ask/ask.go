// Package ask is what a machine's network stack and whoever opens connections
// for it say to one another, over a local socket that keeps packets apart. The
// stack is in the machine's jail and believed nothing: it asks for each
// connection, and gets either a descriptor of one or a refusal. Whoever opens
// connections may go at any time; the next one takes its place.
package ask

import (
	"net/netip"

	"github.com/xfeldman/aegisvm/netd"
)

// Op says what a question or an answer is.
type Op string

const (
	// Open asks for a connection, Check whether one that is open may stay; both
	// are answered with the same ID and Op.
	Open  Op = "open"
	Check Op = "check"
	// Count asks the stack for its counters, which answers with the same ID.
	Count Op = "count"
	// Denied says what the stack has dropped by itself since it said so last.
	// Nobody answers.
	Denied Op = "denied"
	// Recheck tells the stack to check all connections that it has: the policy
	// is another one.
	Recheck Op = "recheck"
)

// Question is what a stack says.
type Question struct {
	ID uint64 `json:"id"`
	Op Op     `json:"op"`
	// Protocol is that of IPv4: 6 is TCP, 17 UDP, 1 ICMP, of which only echo
	// requests can be opened.
	Protocol uint8 `json:"protocol,omitempty"`
	// To is the destination; its port is 0 for protocols without. From is the
	// guest's port.
	To   netip.AddrPort `json:"to,omitzero"`
	From uint16         `json:"from,omitempty"`
	// Size is that of the packet that made the stack ask, in bytes.
	Size int `json:"size,omitempty"`
	// Drop says that the packet can be dropped only, and asks for its name in
	// the counters.
	Drop bool `json:"drop,omitempty"`
	// Counters answer Count, and are what Denied is about.
	Counters []netd.Counter `json:"counters,omitempty"`
}

// Answer is what a stack is told. One that opens a connection comes with its
// descriptor: a TCP socket, or for datagrams a local one, of which each packet
// is one.
type Answer struct {
	ID uint64 `json:"id"`
	Op Op     `json:"op"`
	OK bool   `json:"ok,omitempty"`
	// Refused says that the other side has refused, or cannot be reached, and
	// that the guest may know at once.
	Refused bool `json:"refused,omitempty"`
}
