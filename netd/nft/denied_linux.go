package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The chains where what a guest may not do ends, in each table.
const (
	denied       = "denied"
	deniedFrames = "denied-frames"
)

// deny goes to where a packet that was counted is dropped.
func deny(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain} }

// denied is a chain that drops everything, and tells the group that it does. All
// guests share its limit: who is told looks at the counters of all.
func (b *base) denied(table *nftables.Table, name string) chain {
	drop := rule{"drop denied", match{verdict(expr.VerdictDrop)}}
	c := chain{&nftables.Chain{Name: name, Table: table}, []rule{drop}}
	if b.Group != 0 {
		c.rules = []rule{{"tell", match{tellLimit(), tell(b.Group)}}, drop}
	}
	return c
}

// tellLimit is twice as often as anybody looks, so that whoever has looked twice
// and found nothing new will be told.
func tellLimit() expr.Any {
	return &expr.Limit{Type: expr.LimitTypePkts, Rate: 2, Unit: expr.LimitTimeSecond, Burst: 1}
}

// tell sends a message without a byte of the packet's payload.
func tell(group uint16) expr.Any {
	return &expr.Log{Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN, Group: group}
}

// CanTell is nil if the kernel can have rules that tell a group. It tries one that
// is gone before it is there.
func (t *Table) CanTell(group uint16) error {
	return t.change("telling of denials", func(c *nftables.Conn) error {
		trial := c.AddTable(&nftables.Table{Name: t.Name + "-trial", Family: nftables.TableFamilyNetdev})
		put(c, chain{&nftables.Chain{Name: deniedFrames, Table: trial}, []rule{{"tell", match{tellLimit(), tell(group)}}}})
		c.DelTable(trial)
		return nil
	})
}

// Ear hears that some guest was denied something, and no more: it does not look
// at the messages, which have headers of frames in them.
type Ear struct{ conn *netlink.Conn }

// Listen takes a group, which only one can have.
func Listen(group uint16) (*Ear, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("opening nfnetlink_log: %w", err)
	}
	// A message that is lost says what the one before it has said.
	err = c.SetOption(netlink.NoENOBUFS, true)
	if err == nil {
		err = take(c, group)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("taking group %d of nfnetlink_log: %w", group, err), c.Close())
	}
	return &Ear{c}, nil
}

// Hear calls denied at each message until Close.
func (e *Ear) Hear(denied func()) error {
	for {
		if _, err := e.conn.Receive(); err != nil {
			return fmt.Errorf("listening to nfnetlink_log: %w", err)
		}
		denied()
	}
}

// Close gives the group back.
func (e *Ear) Close() error { return e.conn.Close() }

// The words of linux/netfilter/nfnetlink_log.h.
const (
	nfulConfig        = 1 // NFULNL_MSG_CONFIG
	nfulCommand       = 1 // NFULA_CFG_CMD
	nfulMode          = 2 // NFULA_CFG_MODE
	nfulThreshold     = 5 // NFULA_CFG_QTHRESH
	nfulCommandBind   = 1 // NFULNL_CFG_CMD_BIND
	nfulModeNoPayload = 0 // NFULNL_COPY_NONE
)

// take binds a group, whose messages come one by one and without payload. Some may
// come before the answer.
func take(c *netlink.Conn, group uint16) error {
	mode := append(make([]byte, 4), nfulModeNoPayload, 0) // struct nfulnl_msg_config_mode
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: nfulCommand, Data: []byte{nfulCommandBind}},
		{Type: nfulMode, Data: mode},
		{Type: nfulThreshold, Data: binaryutil.BigEndian.PutUint32(1)},
	})
	if err != nil {
		return err
	}
	header := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, group)
	asked, err := c.Send(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_ULOG<<8 | nfulConfig, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append(header, attributes...),
	})
	if err != nil {
		return err
	}
	for {
		messages, err := c.Receive()
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Header.Sequence == asked.Header.Sequence {
				return nil
			}
		}
	}
}
