package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// Client speaks to the worker of the machine in a directory. Every call opens
// its own connection.
type Client struct {
	// Dir is the machine's directory; its path may be of any length.
	Dir string
}

// ErrGone is wrapped by calls to a worker that does not exist any more.
var ErrGone = errors.New("the worker is gone")

// Info asks for the state of the machine.
func (c Client) Info(ctx context.Context) (Report, error) {
	return c.call(ctx, request{Op: opInfo})
}

// Connect dials a port of the guest.
func (c Client) Connect(ctx context.Context, port uint32) (*os.File, error) {
	_, files, err := c.roundTrip(ctx, request{Op: opConnect, Port: port})
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		packet.CloseAll(files)
		return nil, api.Errorf(api.Internal, "the worker sent %d descriptors, one expected", len(files))
	}
	return files[0], nil
}

// Dialer gives the socket over which connections to a port can be asked for,
// as package dialer does.
func (c Client) Dialer(ctx context.Context, port uint32) (*os.File, error) {
	conn, err := c.become(ctx, request{Op: opDialer, Port: port})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	f, err := conn.File()
	if err != nil {
		return nil, fmt.Errorf("passing a dialer of port %d: %w", port, err)
	}
	return f, nil
}

// Network gives the connection over which the network in the worker asks for
// what its guest wants; it waits until that may ask.
func (c Client) Network(ctx context.Context) (*net.UnixConn, error) {
	return c.become(ctx, request{Op: opNetwork})
}

// become opens a connection that is of another kind when it was agreed to.
func (c Client) become(ctx context.Context, r request) (*net.UnixConn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	_, files, err := exchange(ctx, conn, r)
	packet.CloseAll(files)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Pause, Resume and Snapshot are those of the machine.
func (c Client) Pause(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opPause})
	return err
}

// Resume lets the machine go on.
func (c Client) Resume(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opResume})
	return err
}

// Snapshot writes the paused machine to s.
func (c Client) Snapshot(ctx context.Context, s vmm.Snapshot) error {
	_, err := c.call(ctx, request{Op: opSnapshot}, s.State, s.Memory)
	return err
}

// Stop pulls the plug and returns when the monitor is gone; the worker may
// live for a moment longer.
func (c Client) Stop(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opStop})
	return err
}

// Shutdown asks the guest to leave in order and returns at once; its plug is
// pulled when it does not.
func (c Client) Shutdown(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opShutdown})
	return err
}

func (c Client) call(ctx context.Context, r request, files ...*os.File) (Report, error) {
	report, out, err := c.roundTrip(ctx, r, files...)
	packet.CloseAll(out)
	return report, err
}

func (c Client) roundTrip(ctx context.Context, r request, files ...*os.File) (Report, []*os.File, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return Report{}, nil, err
	}
	defer conn.Close()
	return exchange(ctx, conn, r, files...)
}

// exchange sends a request and takes the answer.
func exchange(ctx context.Context, conn *net.UnixConn, r request, files ...*os.File) (Report, []*os.File, error) {
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := packet.Send(conn, r, files...); err != nil {
		return Report{}, nil, gone(ctx, err)
	}
	var answer response
	out, pid, err := packet.ReceiveFrom(conn, &answer)
	switch {
	case err != nil:
		return Report{}, nil, gone(ctx, err)
	case answer.Error != nil:
		packet.CloseAll(out)
		return Report{}, nil, answer.Error
	case answer.Info == nil:
		packet.CloseAll(out)
		return Report{}, nil, api.Errorf(api.Internal, "the worker answered nothing to %q", r.Op)
	}
	answer.Info.WorkerPid = pid
	return *answer.Info, out, nil
}

// signsOfEnd are the errors of a connection whose other end does not exist.
// All others, such as a lack of descriptors or a queue of peers that is full,
// say nothing of the worker.
var signsOfEnd = []error{
	io.EOF, net.ErrClosed, syscall.ENOENT, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE,
}

// gone tells a context that ended from a worker that did.
func gone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, sign := range signsOfEnd {
		if errors.Is(err, sign) {
			return fmt.Errorf("%w: %w", ErrGone, err)
		}
	}
	return fmt.Errorf("speaking to the worker: %w", err)
}

// dial connects by way of a descriptor of the directory, because the path of
// a socket may have 107 bytes only.
func (w Client) dial(ctx context.Context) (*net.UnixConn, error) {
	path, done, err := socketPath(w.Dir)
	if err != nil {
		return nil, gone(ctx, err)
	}
	defer done()
	d := net.Dialer{Control: packet.PassCredentials}
	c, err := d.DialContext(ctx, "unixpacket", path)
	if err != nil {
		return nil, gone(ctx, err)
	}
	return c.(*net.UnixConn), nil
}

// Listen binds the socket of a worker in a machine's directory.
func Listen(dir string) (*os.File, error) {
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("binding %s in %s: %w", SocketName, dir, err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	return l.File()
}

// socketPath is a short path of the socket, good until done is called.
func socketPath(dir string) (path string, done func(), err error) {
	if path := filepath.Join(dir, SocketName); len(path) <= 100 {
		return path, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) + "/" + SocketName, func() { f.Close() }, nil
}

// Watch follows the machine. The channel has the report of each change, the
// current one first; it is closed when the worker is gone, whether or not it
// could report the end, and when ctx ends.
func (c Client) Watch(ctx context.Context) (<-chan Report, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	if err := packet.Send(conn, request{Op: opWatch}); err != nil {
		conn.Close()
		return nil, gone(ctx, err)
	}
	out := make(chan Report)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	go func() {
		defer close(out)
		defer conn.Close()
		defer stop()
		follow(ctx, conn, out)
	}()
	return out, nil
}

func follow(ctx context.Context, conn *net.UnixConn, out chan<- Report) {
	for {
		var r response
		files, pid, err := packet.ReceiveFrom(conn, &r)
		packet.CloseAll(files)
		if err != nil || r.Info == nil {
			return
		}
		r.Info.WorkerPid = pid
		if r.Info.Exit != nil {
			exit, err := cleanExit(*r.Info.Exit)
			if err != nil {
				return
			}
			r.Info.Exit = &exit
		}
		select {
		case out <- *r.Info:
		case <-ctx.Done():
			return
		}
	}
}
