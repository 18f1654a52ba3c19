// Package host is the netd.Network of the host it runs on. It owns the taps of
// machines, their addresses, and the tables of package nft, and touches nothing
// else, with one exception, which it takes back: the host's links must forward
// what comes back for guests. The truth is in the kernel and in one small record
// per machine: whoever is killed at any instant leaves both behind, and the next
// one goes on.
package host

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"net/netip"
)

// Options say how a host gives machines networks.
type Options struct {
	// Dir has the records; it must not outlive the host's boot by much.
	Dir string
	// Owner tells apart those that give networks on one host; empty for the
	// system's.
	Owner string
	// Pools are the networks that guests get addresses from; nil means
	// lease.DefaultPools.
	Pools []netip.Prefix
	// DNS says that somebody answers at port 53 of every gateway.
	DNS bool
	Log *slog.Logger
}

// table is the name of our tables and the beginning of our marks.
func (o Options) table() string {
	if o.Owner == "" {
		return "aegis"
	}
	sum := sha256.Sum256([]byte(o.Owner))
	return "aegis-" + hex.EncodeToString(sum[:4])
}

// group is ours of nfnetlink_log: not among the first, which others take.
func (o Options) group() uint16 {
	sum := sha256.Sum256([]byte(o.table()))
	return 1<<15 | binary.BigEndian.Uint16(sum[:])
}
