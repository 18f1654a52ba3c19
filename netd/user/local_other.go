//go:build !linux

package user

import (
	"errors"
	"net"
	"net/netip"
	"os"
)

// ownNetworks are those that the host has addresses in.
func ownNetworks() (taken []netip.Prefix, err error) {
	addrs, err := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			taken = append(taken, p.Masked())
		}
	}
	return taken, err
}

// isLocal tells whether an address is one of this host's, or is taken for one
// when nobody can tell.
func isLocal(a netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	for _, own := range addrs {
		if p, err := netip.ParsePrefix(own.String()); err == nil && p.Addr() == a {
			return true
		}
	}
	return err != nil || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast()
}

func openPing(netip.Addr) (*os.File, error) { return nil, mayPing() }

func mayPing() error { return errors.New("this system has no sockets for that") }
