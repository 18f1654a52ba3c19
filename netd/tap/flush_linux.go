package tap

import (
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	conntrack "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Flush makes the host forget the connections of a guest, so that the next one
// with its address gets none of its answers.
func Flush(guest netip.Addr) error {
	if flush(guest) == nil {
		return nil
	}
	// A kernel before 6.8 deletes one at a time.
	filter := &conntrack.ConntrackFilter{}
	if err := filter.AddIP(conntrack.ConntrackOrigSrcIP, guest.AsSlice()); err != nil {
		return err
	}
	if _, err := conntrack.ConntrackDeleteFilters(conntrack.ConntrackTable, unix.AF_INET, filter); err != nil {
		return fmt.Errorf("forgetting the connections of %s: %w", guest, err)
	}
	return nil
}

// The words of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctDelete      = 2  // IPCTNL_MSG_CT_DELETE
	ctTupleOrig   = 1  // CTA_TUPLE_ORIG
	ctTupleIP     = 1  // CTA_TUPLE_IP
	ctSource      = 1  // CTA_IP_V4_SRC
	ctFilter      = 25 // CTA_FILTER
	ctOrigFlags   = 1  // CTA_FILTER_ORIG_FLAGS
	ctMatchSource = 1  // CTA_FILTER_F_CTA_IP_SRC
)

// flush has the kernel find the connections, which does not list all of them. A
// kernel that cannot takes this for one connection without a protocol, and refuses.
func flush(guest netip.Addr) error {
	e := netlink.NewAttributeEncoder()
	e.Nested(ctTupleOrig, func(e *netlink.AttributeEncoder) error {
		e.Nested(ctTupleIP, func(e *netlink.AttributeEncoder) error {
			e.Bytes(ctSource, guest.AsSlice())
			return nil
		})
		return nil
	})
	e.Nested(ctFilter, func(e *netlink.AttributeEncoder) error {
		e.Uint32(ctOrigFlags, ctMatchSource)
		return nil
	})
	attributes, err := e.Encode()
	if err != nil {
		return err
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	header := []byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_CTNETLINK<<8 | ctDelete, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append(header, attributes...),
	})
	return err
}
