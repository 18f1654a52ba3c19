package nft

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// with does something on the connection to the kernel's nftables. That is kept,
// because its end waits for all that was deleted to be gone; after an error there
// may be answers in it that nobody waits for.
func (t *Table) with(do func(*nftables.Conn) error) (err error) {
	if t.conn == nil {
		if t.conn, err = dial(); err != nil {
			return err
		}
	}
	if err = do(t.conn); err != nil {
		t.Close()
	}
	return err
}

// Close closes the connection, which the next word opens again.
func (t *Table) Close() {
	if t.conn != nil {
		_ = t.conn.CloseLasting() // nothing is under way
		t.conn = nil
	}
}

// dial opens the kernel's nftables, which must take one batch as a whole and
// answer every part of it before it is read.
func dial() (*nftables.Conn, error) {
	const buffer = 4 << 20
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(buffer), c.SetWriteBuffer(buffer))
	}))
	if err != nil {
		return nil, fmt.Errorf("opening nftables: %w", err)
	}
	return c, nil
}

// change sends what is said in do as one batch.
func (t *Table) change(what string, do func(*nftables.Conn) error) error {
	err := t.with(func(c *nftables.Conn) error {
		if err := do(c); err != nil {
			return err
		}
		return c.Flush()
	})
	if err != nil {
		return fmt.Errorf("nftables: %s: %w", what, err)
	}
	return nil
}
