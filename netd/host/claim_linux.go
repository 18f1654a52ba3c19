package host

import (
	"net"
	"net/netip"
	"slices"
)

// claims are the pools that are ours as long as this process lives: two that
// give machines networks on one host must not give away the same addresses.
// The kernel holds them, as names of sockets in the host's network namespace;
// somebody who takes a name makes us take another pool and no more.
type claims map[netip.Prefix]*net.UnixConn

func (c claims) take(pool netip.Prefix) bool {
	if c[pool] != nil {
		return true
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@aegis-pool/" + pool.String(), Net: "unixgram"})
	if err != nil {
		return false
	}
	c[pool] = conn
	return true
}

// again takes those that a process before us has given addresses from.
func (c claims) again(pools []netip.Prefix, used map[netip.Addr]bool) {
	for addr := range used {
		if i := slices.IndexFunc(pools, func(p netip.Prefix) bool { return p.Contains(addr) }); i >= 0 {
			c.take(pools[i])
		}
	}
}

func (c claims) release() {
	for pool, conn := range c {
		conn.Close()
		delete(c, pool)
	}
}
