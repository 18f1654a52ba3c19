package aegisbus

import (
	"context"
	"os"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// slots lists the streams in their wire order; bit n of which is slot n.
func slots(s *api.Streams) [6]**os.File {
	return [...]**os.File{&s.Stdin, &s.Stdout, &s.Stderr, &s.Status, &s.Session, &s.Terminal}
}

// send gives streams to a reply. A stream that there is not needs a stand-in,
// because a message cannot leave a descriptor out.
func send(r *bus.Request, streams *api.Streams, err error) (which uint32, in, out, errs, status, session, tty dbus.UnixFD, _ error) {
	none := func(err error) (uint32, dbus.UnixFD, dbus.UnixFD, dbus.UnixFD, dbus.UnixFD, dbus.UnixFD, dbus.UnixFD, error) {
		return 0, -1, -1, -1, -1, -1, -1, err
	}
	if err != nil {
		return none(err)
	}
	if streams == nil {
		streams = &api.Streams{}
	}
	var fds [6]dbus.UnixFD
	for i, f := range slots(streams) {
		if *f != nil {
			which |= 1 << i
		} else if *f, err = os.Open(os.DevNull); err != nil {
			streams.Close()
			return none(err)
		}
	}
	for i, f := range slots(streams) {
		fds[i] = r.Send(*f)
	}
	return which, fds[0], fds[1], fds[2], fds[3], fds[4], fds[5], nil
}

// streams makes a call that is answered with streams.
func (c *Client) streams(ctx context.Context, member string, args bus.Args, before ...any) (*api.Streams, error) {
	var which uint32
	st := &api.Streams{}
	results := append(before, &which)
	for _, f := range slots(st) {
		results = append(results, f)
	}
	if err := c.call(ctx, member, args, results...); err != nil {
		return nil, err
	}
	for i, f := range slots(st) {
		if which&(1<<i) == 0 {
			(*f).Close()
			*f = nil
		}
	}
	return st, nil
}
