package user

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/netd/tap"
)

// ownNetworks are those that the host has routes to.
func ownNetworks() ([]netip.Prefix, error) {
	taken, _, err := tap.Routes(func(string) bool { return false })
	return taken, err
}

// isLocal tells whether what is sent to an address would reach this host
// itself: what its kernel says of it, whatever the reason. An address without
// a route is nobody's; where the kernel cannot be asked, any may be ours.
func isLocal(a netip.Addr) bool {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil {
		return !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH)
	}
	for _, r := range routes {
		switch r.Type {
		case unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
			return true
		}
	}
	return false
}

// openPing makes a socket that pings one address. The kernel gives such ones
// without rights where net.ipv4.ping_group_range lets it.
func openPing(to netip.Addr) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if err != nil {
		return nil, fmt.Errorf("opening a socket for pings: %w", os.NewSyscallError("socket", err))
	}
	f := os.NewFile(uintptr(fd), "ping")
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
		f.Close()
		return nil, os.NewSyscallError("connect", err)
	}
	return f, nil
}

// mayPing says why there are no such sockets, if there are none.
var mayPing = sync.OnceValue(func() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return fmt.Errorf("net.ipv4.ping_group_range leaves our group out: %w", err)
	}
	return unix.Close(fd)
})
