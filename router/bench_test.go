package router_test

import (
	"io"
	"net"
	"strconv"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/router/routertest"
)

// BenchmarkConnection is a connection with one byte each way, dialled and
// through a port of this machine's own loopback.
func BenchmarkConnection(b *testing.B) {
	g := routertest.NewGuests(b)
	g.Address = loopback
	port := routertest.Listen(b, func(c *net.TCPConn) {
		one := make([]byte, 1)
		io.ReadFull(c, one)
		c.Write(one)
	})
	s := open(b, router.Config{Waker: g})
	e := expose(b, s, routertest.Expose("inst-1", port, api.ProtocolTCP))
	routertest.Dial(b, e) // the lease is held
	for name, to := range map[string]string{"dialled": net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), "exposed": address(e)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c, err := net.Dial("tcp", to)
				if err != nil {
					b.Fatal(err)
				}
				io.WriteString(c, "x")
				if _, err := io.ReadAll(c); err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}
