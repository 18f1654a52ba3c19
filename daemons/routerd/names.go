package main

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/netbus"
	"github.com/xfeldman/aegisvm/router/dns"
)

// names is netd as the resolver needs it, on the connection that there is.
// Questions that come while there is none wait for it: sockets that were kept
// are served before there is a bus.
type names struct {
	mu     sync.Mutex // guards client and there
	client *netbus.Client
	there  chan struct{} // closed when client is set
}

func newNames() *names { return &names{there: make(chan struct{})} }

// follow takes a connection until ctx ends, and opens the resolver where netd
// says that guests ask.
func (n *names) follow(ctx context.Context, conn *bus.Conn, front *dns.Front) error {
	c := netbus.NewClient(conn)
	gateways, err := c.Gateways(ctx)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.client = c
	close(n.there)
	n.mu.Unlock()
	context.AfterFunc(ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.client, n.there = nil, make(chan struct{})
	})
	go func() { // ends with ctx or the connection
		for all := range gateways {
			front.Set(all)
		}
	}()
	return nil
}

// get waits for a connection.
func (n *names) get(ctx context.Context) (*netbus.Client, error) {
	for {
		n.mu.Lock()
		c, there := n.client, n.there
		n.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-there:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Guest implements dns.Names.
func (n *names) Guest(ctx context.Context, addr netip.Addr) (netd.Lease, error) {
	c, err := n.get(ctx)
	if err != nil {
		return netd.Lease{}, err
	}
	return c.Guest(ctx, addr)
}

// Pin implements dns.Names.
func (n *names) Pin(ctx context.Context, machine, name string, addrs []netip.Addr, ttl time.Duration) error {
	c, err := n.get(ctx)
	if err != nil {
		return err
	}
	return c.Pin(ctx, machine, name, addrs, ttl)
}
