package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// systemBus is where the system bus listens unless DBUS_SYSTEM_BUS_ADDRESS
// says otherwise.
const systemBus = "unix:path=/run/dbus/system_bus_socket"

// drainTime is how long the end of a connection waits for the bus to take
// what was sent on it.
const drainTime = time.Second

// guard copies between the bus and godbus; see guard.go. Its two goroutines
// end with the connection, from whichever side that ends.
type guard struct {
	bus, inner *net.UnixConn
	sent       chan struct{} // closed when the bus has all that was sent
}

// connect connects godbus to a bus with a guard between them. finish, called
// after Close, waits until what was sent before has reached the bus.
func connect(ctx context.Context, address string, opts ...dbus.ConnOption) (conn *dbus.Conn, finish func(), err error) {
	upstream, err := dialSocket(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	inner, outer, err := pair()
	if err != nil {
		upstream.Close()
		return nil, nil, err
	}
	g := &guard{bus: upstream, inner: inner, sent: make(chan struct{})}
	go g.up()
	go g.down()
	// A bus that never answers the greeting must not hold us for ever.
	stop := context.AfterFunc(ctx, func() { upstream.Close() })
	conn, err = dbus.ConnectUnix(outer, opts...)
	if !stop() && err == nil {
		conn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		outer.Close()
		return nil, nil, err
	}
	return conn, g.finish, nil
}

func (g *guard) finish() {
	g.bus.SetWriteDeadline(time.Now().Add(drainTime))
	<-g.sent
}

// up copies what godbus sends to the bus, to the last byte.
func (g *guard) up() {
	defer g.inner.Close()
	defer g.bus.Close()
	defer close(g.sent)
	for {
		b, fds, err := receive(g.inner)
		if err == nil {
			err = send(g.bus, b, fds)
		}
		closeFDs(fds)
		if err != nil {
			return
		}
	}
}

// down copies to godbus what it can digest of what the bus sends. Where
// godbus has gone, up may still have to read its last words.
func (g *guard) down() {
	var in inbox
	defer func() { closeFDs(in.fds) }()
	for {
		b, fds, err := receive(g.bus)
		in.bytes, in.fds = append(in.bytes, b...), append(in.fds, fds...)
		if err != nil {
			g.inner.Close()
			return
		}
		if err := g.deliver(&in); errors.Is(err, errFrame) {
			g.inner.Close()
			return
		} else if err != nil {
			return
		}
	}
}

// deliver hands on all whole messages.
func (g *guard) deliver(in *inbox) error {
	for {
		frame, fds, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if digestible(frame, len(fds)) {
			err = send(g.inner, frame, fds)
		}
		closeFDs(fds)
		if err != nil {
			return err
		}
	}
}

// receive reads what there is. Descriptors come with the first bytes of
// their message, or before.
func receive(c *net.UnixConn) ([]byte, []int, error) {
	b, oob := make([]byte, 16<<10), make([]byte, unix.CmsgSpace(4*253))
	n, oobn, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, nil, err
	}
	fds, err := rights(oob[:oobn])
	switch {
	case err != nil:
	case flags&unix.MSG_CTRUNC != 0:
		err = errors.New("more descriptors arrived than this process may open")
	case n == 0:
		err = io.EOF
	}
	return b[:n], fds, err
}

func rights(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	for _, m := range messages {
		if m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		more, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fds, fmt.Errorf("control message: %w", err)
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

// send writes all of b, the descriptors with its first byte.
func send(c *net.UnixConn, b []byte, fds []int) error {
	if len(fds) == 0 {
		_, err := c.Write(b)
		return err
	}
	n, _, err := c.WriteMsgUnix(b, unix.UnixRights(fds...), nil)
	if err == nil && n < len(b) {
		_, err = c.Write(b[n:])
	}
	return err
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// pair makes two connected sockets.
func pair() (a, b *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "bus")
		c, e := net.FileConn(f)
		f.Close()
		conns[i], _ = c.(*net.UnixConn)
		err = errors.Join(err, e)
	}
	if err != nil {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	return conns[0], conns[1], nil
}

// dialSocket connects to the first unix socket of a D-Bus address that
// answers.
func dialSocket(ctx context.Context, address string) (*net.UnixConn, error) {
	if address == "" || address == "system" {
		address = cmp.Or(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), systemBus)
	}
	failed := errors.New("expected unix:path=PATH or unix:abstract=NAME")
	for one := range strings.SplitSeq(address, ";") {
		name, err := socketName(one)
		if err != nil {
			continue
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", name)
		if err == nil {
			return c.(*net.UnixConn), nil
		}
		failed = err
	}
	return nil, failed
}

// socketName is the socket that one D-Bus address names.
func socketName(address string) (string, error) {
	transport, list, _ := strings.Cut(address, ":")
	for option := range strings.SplitSeq(list, ",") {
		key, value, _ := strings.Cut(option, "=")
		name, err := dbus.UnescapeBusAddressValue(value)
		switch {
		case transport != "unix" || err != nil || name == "":
		case key == "path":
			return name, nil
		case key == "abstract":
			return "@" + name, nil
		}
	}
	return "", fmt.Errorf("no unix socket in %q", address)
}
