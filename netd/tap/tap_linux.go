// Package tap makes and finds the taps of guests, and knows the host's links
// and routes as far as those need them. A tap lives as long as somebody holds
// its descriptor, so one whose machine has died is gone without anybody's
// doing. It knows nothing of what guests may reach.
package tap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Tap is one tap as it should be.
type Tap struct {
	Name string
	// Alias marks it as ours; links without it are never touched.
	Alias string
	// Gateway and MAC are the host's end, Guest and GuestMAC the guest's.
	Gateway, Guest netip.Addr
	MAC, GuestMAC  net.HardwareAddr
}

// Make makes a tap and returns its descriptor. wire is called when the link is
// there and before anything can come through it.
func Make(t Tap, wire func() error) (*os.File, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = t.Name
	link := &netlink.Tuntap{
		LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Queues: 1, NonPersist: true,
		Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_TUN_EXCL,
	}
	if err := netlink.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("making tap %s: %w", t.Name, err)
	}
	f := link.Fds[0]
	if err := t.prepare(link, wire); err != nil {
		f.Close() // and with it the tap
		return nil, fmt.Errorf("preparing tap %s: %w", t.Name, err)
	}
	return f, nil
}

// prepare makes a new tap what it should be; it is up at the very end.
func (t Tap) prepare(link netlink.Link, wire func() error) error {
	if err := netlink.LinkSetAlias(link, t.Alias); err != nil {
		return fmt.Errorf("marking it: %w", err)
	}
	for _, s := range tapSettings {
		if err := write(s.file(t.Name), s.value); err != nil && !(s.optional && errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	if err := netlink.LinkSetHardwareAddr(link, t.MAC); err != nil {
		return fmt.Errorf("setting its address: %w", err)
	}
	if err := wire(); err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: host(t.Gateway), Peer: host(t.Guest)}); err != nil {
		return fmt.Errorf("giving it %s for %s: %w", t.Gateway, t.Guest, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("turning it on: %w", err)
	}
	// A guest that answers for another address, or with another one, changes
	// nothing.
	neighbour := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: t.Guest.AsSlice(), HardwareAddr: t.GuestMAC,
	}
	if err := netlink.NeighSet(neighbour); err != nil {
		return fmt.Errorf("naming its guest: %w", err)
	}
	return nil
}

// host is one address as a network.
func host(a netip.Addr) *net.IPNet { return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)} }

// setting is one file of /proc/sys/net.
type setting struct {
	family, name, value string
	optional            bool // where the kernel has no such family
}

func (s setting) file(link string) string { return sysctl(s.family, link, s.name) }

func sysctl(family, link, name string) string {
	return "/proc/sys/net/" + family + "/conf/" + link + "/" + name
}

// tapSettings are what keeps a guest from talking to the host's own stack
// more than it must.
var tapSettings = []setting{
	{family: "ipv6", name: "disable_ipv6", value: "1", optional: true},
	{family: "ipv4", name: "accept_redirects", value: "0"},
	{family: "ipv4", name: "accept_source_route", value: "0"},
	{family: "ipv4", name: "send_redirects", value: "0"},
	{family: "ipv4", name: "rp_filter", value: "1"},
	{family: "ipv4", name: "proxy_arp", value: "0"},
	{family: "ipv4", name: "forwarding", value: "1"},
}

func write(file, value string) error {
	if err := os.WriteFile(file, []byte(value), 0); err != nil {
		return fmt.Errorf("setting %s to %s: %w", strings.TrimPrefix(file, "/proc/sys/net/"), value, errors.Unwrap(err))
	}
	return nil
}

// Names are the names of all links, and those of the taps with an alias that
// begins with mark.
func Names(mark string) (all, ours []string, err error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, nil, fmt.Errorf("listing links: %w", err)
	}
	for _, l := range links {
		all = append(all, l.Attrs().Name)
		if marked(l, mark) {
			ours = append(ours, l.Attrs().Name)
		}
	}
	return all, ours, nil
}

// marked tells whether a link is a tap whose alias begins with mark.
func marked(l netlink.Link, mark string) bool {
	return l.Type() == "tuntap" && strings.HasPrefix(l.Attrs().Alias, mark)
}

// Delete removes a tap of the mark, if it is there.
func Delete(name, mark string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		if !marked(link, mark) {
			return nil
		}
		err = netlink.LinkDel(link)
	}
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); err != nil && !gone && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing tap %s: %w", name, err)
	}
	return nil
}

// Possible says why there can be no taps, if so: without the right to them
// the device may be opened all the same.
func Possible() error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}
