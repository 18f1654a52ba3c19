package nft

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Watch calls flushed whenever a table of ours is deleted, until ctx ends.
func (t *Table) Watch(ctx context.Context, flushed func()) error {
	const group = 7 // NFNLGRP_NFTABLES
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("watching nftables: %w", err)
	}
	defer c.Close()
	if err := c.JoinGroup(group); err != nil {
		return fmt.Errorf("watching nftables: %w", err)
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	for {
		messages, err := c.Receive()
		if err != nil {
			return fmt.Errorf("watching nftables: %w", err)
		}
		for _, m := range messages {
			if t.deletes(m) {
				flushed()
				break
			}
		}
	}
}

// deletes tells whether a message is of the end of one of our tables.
func (t *Table) deletes(m netlink.Message) bool {
	const header = 4 // struct nfgenmsg
	if m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE || len(m.Data) < header {
		return false
	}
	attributes, err := netlink.UnmarshalAttributes(m.Data[header:])
	if err != nil {
		return false
	}
	for _, a := range attributes {
		if a.Type == unix.NFTA_TABLE_NAME {
			return strings.TrimRight(string(a.Data), "\x00") == t.Name
		}
	}
	return false
}

// Others tells whether somebody else gives guests networks on this host.
func (t *Table) Others() (others bool, err error) {
	err = t.with(func(c *nftables.Conn) error {
		tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
		if err != nil {
			return fmt.Errorf("nftables: listing tables: %w", err)
		}
		for _, other := range tables {
			if other.Name != t.Name && (other.Name == LinkPrefix || strings.HasPrefix(other.Name, LinkPrefix+"-")) {
				others = true
			}
		}
		return nil
	})
	return others, err
}
