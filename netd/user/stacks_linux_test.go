package user_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/netd/user"
	"github.com/xfeldman/aegisvm/netd/user/stack"
	"github.com/xfeldman/aegisvm/router/dns"
)

// guest is a machine with a network stack of its own, and ours as the other
// end of its link.
type guest struct {
	t       *testing.T
	net     *gstack.Stack
	stack   *stack.Stack
	gateway tcpip.Address
}

func newGuest(t *testing.T, n *user.Network, id string, p policy.Policy) *guest {
	t.Helper()
	l, err := n.Attach(t.Context(), id, p)
	if err != nil {
		t.Fatal(err)
	}
	inner, outer := net.Pipe()
	s, err := stack.New(stack.Config{Guest: l.Addr, Gateway: l.Gateway, Link: inner, MTU: 1500, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, stack: s, gateway: tcpip.AddrFrom4(l.Gateway.As4()), net: gstack.New(gstack.Options{
		NetworkProtocols:   []gstack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []gstack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})}
	link := channel.New(1024, 1500, "")
	if err := g.net.CreateNIC(1, link); err != nil {
		t.Fatal(err)
	}
	own := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddrFrom4(l.Addr.As4()).WithPrefix()}
	if err := g.net.AddProtocolAddress(1, own, gstack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	g.net.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}})
	ctx, cancel := context.WithCancel(context.Background())
	go g.send(ctx, link, outer)
	go g.receive(link, outer)
	t.Cleanup(func() {
		cancel()
		outer.Close()
		s.Close()
		g.net.Destroy()
	})
	return g
}

func (g *guest) send(ctx context.Context, link *channel.Endpoint, to io.Writer) {
	for p := link.ReadContext(ctx); p != nil; p = link.ReadContext(ctx) {
		body := p.ToView().AsSlice()
		frame := binary.BigEndian.AppendUint32(nil, uint32(14+len(body)))
		frame = append(append(frame, netd.GatewayMAC[:]...), netd.GuestMAC[:]...)
		frame = append(append(frame, 8, 0), body...)
		if _, err := to.Write(frame); err != nil {
			return
		}
	}
}

func (g *guest) receive(link *channel.Endpoint, from io.Reader) {
	r := bufio.NewReader(from)
	var length [4]byte
	for {
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(r, frame); err != nil {
			return
		}
		link.InjectInbound(ipv4.ProtocolNumber, gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(frame[14:])}))
	}
}

// served has the guest's questions answered by n until the returned function
// is called.
func (g *guest) served(n *user.Network, id string) (leave func()) {
	ours, theirs := pair(g.t)
	ended := make(chan struct{}, 2)
	go func() { g.stack.Serve(context.Background(), ours); ended <- struct{}{} }()
	go func() { n.Serve(id, theirs); ended <- struct{}{} }()
	leave = func() {
		theirs.Close()
		<-ended
		<-ended
	}
	return leave
}

func (g *guest) dial(port int) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), 5*time.Second)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.net, tcpip.FullAddress{NIC: 1, Addr: g.gateway, Port: uint16(port)}, ipv4.ProtocolNumber)
}

// service listens on this host and does something with each connection.
func service(t *testing.T, serve func(c *net.TCPConn)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func hostPort(ports ...int) (p policy.Policy) {
	for _, port := range ports {
		p.HostPorts = append(p.HostPorts, uint16(port))
	}
	return p
}

func openUser(t testing.TB, o user.Options) *user.Network {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	n, err := user.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func TestBytesPassBothWaysAndEndsAreHandedOn(t *testing.T) {
	// The service answers when its client has said all.
	port := service(t, func(c *net.TCPConn) {
		all, _ := io.ReadAll(c)
		c.Write(bytes.ToUpper(all))
	})
	n := openUser(t, user.Options{})
	g := newGuest(t, n, "m-1", hostPort(port))
	defer g.served(n, "m-1")()
	c, err := g.dial(port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	said := bytes.Repeat([]byte("abcdefgh"), 1<<17) // more than all buffers hold
	go func() {
		c.Write(said)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, bytes.ToUpper(said)) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(said), err)
	}
	if c := counter(t, n, "m-1", policy.Allowed); c.Packets != 1 || c.Bytes != 40 {
		t.Errorf("counted %+v", c)
	}
}

func TestWhatBreaksIsNoEnd(t *testing.T) {
	port := service(t, func(c *net.TCPConn) {
		c.Write([]byte("half"))
		c.Read(make([]byte, 1))
		c.SetLinger(0) // the close is a reset
	})
	n := openUser(t, user.Options{})
	g := newGuest(t, n, "m-1", hostPort(port))
	defer g.served(n, "m-1")()
	c, err := g.dial(port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("x"))
	if n, err := c.Read(make([]byte, 10)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestAPortWhereNobodyListensIsRefusedAtOnce(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	n := openUser(t, user.Options{})
	g := newGuest(t, n, "m-1", hostPort(port))
	defer g.served(n, "m-1")()
	if _, err := g.dial(port); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("dialled: %v", err)
	}
}

// echo is a service that says what it hears.
func echo(c *net.TCPConn) { io.Copy(c, c) }

func says(c net.Conn, text string) error {
	if _, err := c.Write([]byte(text)); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("%q came back for %q", got, text)
	}
	return nil
}

func TestAPolicyEndsWhatItDoesNotAllow(t *testing.T) {
	kept, cut := service(t, echo), service(t, echo)
	n := openUser(t, user.Options{})
	g := newGuest(t, n, "m-1", hostPort(kept, cut))
	defer g.served(n, "m-1")()
	var conns []*gonet.TCPConn
	for _, port := range []int{kept, cut} {
		c, err := g.dial(port)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := says(c, "hello"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if err := n.SetPolicy(t.Context(), "m-1", hostPort(kept)); err != nil {
		t.Fatal(err)
	}
	if _, err := conns[1].Read(make([]byte, 1)); err == nil {
		t.Error("a connection that is not allowed any more goes on")
	}
	if err := says(conns[0], "still"); err != nil {
		t.Errorf("one that is allowed: %v", err)
	}
	if c := counter(t, n, "m-1", policy.DropHost); c.Packets == 0 {
		t.Error("what was cut was not counted")
	}
}

func TestConnectionsOutliveWhoOpenedThem(t *testing.T) {
	port, dir := service(t, echo), t.TempDir()
	first, err := user.Open(user.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, first, "m-1", hostPort(port))
	leave := g.served(first, "m-1")
	c, err := g.dial(port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	leave()
	first.Close()
	if err := says(c, "alone"); err != nil {
		t.Errorf("while nobody is there: %v", err)
	}
	dialled := make(chan error, 1)
	go func() { // it is asked for until somebody is there
		later, err := g.dial(port)
		if err == nil {
			err = says(later, "later")
			later.Close()
		}
		dialled <- err
	}()
	second := openUser(t, user.Options{Dir: dir})
	defer g.served(second, "m-1")()
	if err := <-dialled; err != nil {
		t.Errorf("a new one: %v", err)
	}
	if err := says(c, "again"); err != nil {
		t.Errorf("when the next is there: %v", err)
	}
	if c := counter(t, second, "m-1", policy.Allowed); c.Packets != 2 {
		t.Errorf("counted %+v over both", c)
	}
}

func TestAPolicyThatChangedWhileNobodyWasThereHolds(t *testing.T) {
	port, dir := service(t, echo), t.TempDir()
	n := openUser(t, user.Options{Dir: dir})
	g := newGuest(t, n, "m-1", hostPort(port))
	leave := g.served(n, "m-1")
	c, err := g.dial(port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	leave()
	if err := n.SetPolicy(t.Context(), "m-1", policy.Policy{Deny: true}); err != nil {
		t.Fatal(err)
	}
	if err := says(c, "open"); err != nil {
		t.Fatal(err)
	}
	defer g.served(n, "m-1")()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it goes on")
	}
}

func TestNamesAreAnsweredAtTheGatewayAndOpenWhatTheyMean(t *testing.T) {
	upstream, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	resolver := &mdns.Server{PacketConn: upstream, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg)
		m.SetReply(q)
		rr, _ := mdns.NewRR(q.Question[0].Name + " 60 IN A 203.0.113.10")
		m.Answer = append(m.Answer, rr)
		w.WriteMsg(m)
	})}
	go resolver.ActivateAndServe()
	defer resolver.Shutdown()
	n := openUser(t, user.Options{DNS: true})
	packets, streams := n.Names()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- dns.Serve(ctx, dns.Options{Names: n, Upstreams: func() []string { return []string{upstream.LocalAddr().String()} }}, packets, streams)
	}()
	g := newGuest(t, n, "m-1", policy.Policy{Allow: []policy.Rule{{Name: "example.com", Port: 443}}})
	defer g.served(n, "m-1")()

	at := tcpip.FullAddress{NIC: 1, Addr: g.gateway, Port: 53}
	overUDP, err := gonet.DialUDP(g.net, nil, &at, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	overTCP, err := g.dial(53)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]net.Conn{"udp": overUDP, "tcp": overTCP} {
		client, conn := &mdns.Client{Net: name}, &mdns.Conn{Conn: c}
		for ask, want := range map[string]int{"example.com.": mdns.RcodeSuccess, "evil.org.": mdns.RcodeNameError} {
			q := new(mdns.Msg)
			q.SetQuestion(ask, mdns.TypeA)
			answer, _, err := client.ExchangeWithConn(q, conn)
			if err != nil || answer.Rcode != want || len(answer.Answer) != map[int]int{mdns.RcodeSuccess: 1}[want] {
				t.Errorf("%s over %s: %v, %v", ask, name, answer, err)
			}
		}
		c.Close()
	}
	if l, err := n.Guest(t.Context(), netip.MustParseAddr("10.213.0.2")); err == nil && l.Machine != "m-1" {
		t.Errorf("the guest is %+v", l)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("serving ended with %v", err)
	}
}

func TestDatagramsPassBothWays(t *testing.T) {
	u, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go func() {
		buf := make([]byte, 70000)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			u.WriteTo(buf[:n], from)
		}
	}()
	n, port := openUser(t, user.Options{}), service(t, echo)
	g := newGuest(t, n, "m-1", hostPort(port, u.LocalAddr().(*net.UDPAddr).Port))
	defer g.served(n, "m-1")()
	// Nobody says a datagram again: a connection waits until it is served.
	if c, err := g.dial(port); err != nil {
		t.Fatal(err)
	} else {
		c.Close()
	}
	to := tcpip.FullAddress{NIC: 1, Addr: g.gateway, Port: uint16(u.LocalAddr().(*net.UDPAddr).Port)}
	c, err := gonet.DialUDP(g.net, nil, &to, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	for _, size := range []int{1, 1400, 9000} { // the last one in fragments
		said := bytes.Repeat([]byte("d"), size)
		if _, err := c.Write(said); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 10000)
		k, err := c.Read(got)
		if err != nil || !bytes.Equal(got[:k], said) {
			t.Errorf("%d bytes: %d came back, %v", size, k, err)
		}
	}
	// A policy without it ends the flow: nothing comes back any more.
	if err := n.SetPolicy(t.Context(), "m-1", policy.Policy{Deny: true}); err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("denied"))
	c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if k, err := c.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes came back", k)
	}
}
