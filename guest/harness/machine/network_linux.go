package machine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// guestLink is the only link of a guest but lo.
const guestLink = "eth0"

// connect gives the link its address and its routes; what an earlier identity
// gave it goes first. A guest that was told of no network keeps none.
func connect(n *proto.Network) error {
	link, err := netlink.LinkByName(guestLink)
	if _, none := errors.AsType[netlink.LinkNotFoundError](err); none && n == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding the network device: %w", err)
	}
	if err := forget(link); err != nil {
		return fmt.Errorf("taking the old address away: %w", err)
	}
	if n == nil {
		return netlink.LinkSetDown(link)
	}
	// There is no IPv6 behind it: a program that tries must not wait for that.
	err = os.WriteFile("/proc/sys/net/ipv6/conf/"+guestLink+"/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("turning IPv6 off: %w", err)
	}
	return address(link, n.GetAddress(), n.GetGateway())
}

func forget(link netlink.Link) error {
	old, err := netlink.AddrList(link, unix.AF_INET)
	if err != nil {
		return err
	}
	for _, a := range old { // and with it its routes
		if err := netlink.AddrDel(link, &a); err != nil {
			return err
		}
	}
	return nil
}

func address(link netlink.Link, addr, gateway net.IP) error {
	host := func(ip net.IP) *net.IPNet { return &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)} }
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: host(addr), Peer: host(gateway)}); err != nil {
		return fmt.Errorf("taking the address %s: %w", addr, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("turning the network on: %w", err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("making %s the gateway: %w", gateway, err)
	}
	return nil
}

// hostName is what a guest calls the host.
const hostName = "host.aegis.internal"

// writeResolvers tells programs who answers for names. Without a network the
// image's own word is left.
func writeResolvers(root string, n *proto.Network) error {
	if n == nil {
		return nil
	}
	var text strings.Builder
	for _, r := range n.GetResolvers() {
		fmt.Fprintf(&text, "nameserver %s\n", net.IP(r))
	}
	file := filepath.Join(root, "etc/resolv.conf")
	if target, err := os.Readlink(file); err == nil { // as distributions with a resolver of their own have it
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("replacing the link of resolv.conf to %s: %w", target, err)
		}
	}
	return replace(file, text.String())
}
