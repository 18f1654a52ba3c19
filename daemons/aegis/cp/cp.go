// Package cp copies files and folders between the host and an instance, by the
// rules of `docker cp`. It owns the host's side of a copy: what is read and
// written here, and how a copy's end is told. An archive that comes from a
// guest is unpacked here, with the rights of the caller, by package archive;
// no daemon touches it. It parses no flags and knows no transport.
package cp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/archive"
)

// Client copies.
type Client struct {
	Aegis api.Aegis
	// Moved, if not nil, is told of bytes as they are moved.
	Moved func(n int)
	// Owner keeps the numbers of owners and groups. To the host only root can,
	// who then gets the setuid bits as well.
	Owner bool
	// Follow copies what a symbolic link leads to that is itself named.
	Follow bool
}

// lastWords is how long a guest whose bytes have ended may take to say why.
const lastWords = 5 * time.Second

// ToHost copies a path of an instance to one of the host.
func (c *Client) ToHost(ctx context.Context, ref, path, dst string) error {
	to, err := archive.To("/", absolute(dst))
	if err != nil {
		return err
	}
	defer to.Close()
	o := archive.Options{Owner: c.Owner, Setid: c.Owner}
	return c.from(ctx, ref, path, func(r io.Reader) error { return to.Receive(r, archive.Base(path), o) })
}

// ToWriter writes a path of an instance as a tar archive.
func (c *Client) ToWriter(ctx context.Context, ref, path string, w io.Writer) error {
	return c.from(ctx, ref, path, func(r io.Reader) error {
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, bufferSize))
		return err
	})
}

const bufferSize = 256 << 10

// from gives the archive of a path to take.
func (c *Client) from(ctx context.Context, ref, path string, take func(io.Reader) error) error {
	streams, err := c.Aegis.CopyFrom(ctx, ref, api.CopyFromSpec{Path: path, FollowLink: c.Follow})
	if err != nil {
		return err
	}
	defer streams.Close()
	stop := context.AfterFunc(ctx, streams.Close)
	defer stop()
	in := &source{client: c, r: streams.Stdout}
	took := take(in)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !whole(took) {
		return c.explain(streams, in, took)
	}
	return join(took, c.verdict(streams, in))
}

// explain adds to why an archive could not be taken what the guest says.
func (c *Client) explain(streams *api.Streams, in *source, err error) error {
	if !in.ended {
		return err
	}
	streams.Status.SetReadDeadline(time.Now().Add(lastWords))
	if said := c.verdict(streams, in); said != nil {
		return fmt.Errorf("%w: %w", said, err)
	}
	return err
}

// verdict is what the guest says of a copy from it.
func (c *Client) verdict(streams *api.Streams, in *source) error {
	end, err := proto.ReadEnd(streams.Status)
	switch {
	case err != nil:
		return errLost
	case end.Code != 0:
		return said(end)
	case end.Output == nil || end.Output.Stdout != in.n:
		return fmt.Errorf("the copy broke off after %d bytes: the machine went before the rest had come", in.n)
	}
	return nil
}

var errLost = errors.New("lost the machine before it told how the copy went: see aegis instance info")

// FromHost copies a path of the host to one of an instance.
func (c *Client) FromHost(ctx context.Context, src, ref, path string) error {
	from, err := archive.Find("/", absolute(src), c.Follow)
	if err != nil {
		return err
	}
	defer from.Close()
	return c.to(ctx, ref, api.CopyToSpec{Path: path, Owner: c.Owner}, from.Pack)
}

// FromReader unpacks a tar archive in a folder of an instance.
func (c *Client) FromReader(ctx context.Context, r io.Reader, ref, path string) error {
	return c.to(ctx, ref, api.CopyToSpec{Path: path, Extract: true, Owner: c.Owner}, func(w io.Writer) error {
		_, err := io.CopyBuffer(w, struct{ io.Reader }{r}, make([]byte, bufferSize))
		return err
	})
}

// to gives what feed writes to an instance. It does not wait for feed once the
// guest wants no more.
func (c *Client) to(ctx context.Context, ref string, spec api.CopyToSpec, feed func(io.Writer) error) error {
	streams, err := c.Aegis.CopyTo(ctx, ref, spec)
	if err != nil {
		return err
	}
	defer streams.Close()
	stop := context.AfterFunc(ctx, streams.Close)
	defer stop()
	fed := make(chan error, 1)
	go func() { // ends with the streams, or with the caller's input
		err := feed(&sink{client: c, w: streams.Stdin})
		fed <- err
		if whole(err) {
			closeWrite(streams.Stdin)
		} else {
			streams.Stdin.Close()
		}
	}()
	end, err := proto.ReadEnd(streams.Status)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var own error // what went wrong here; the guest ends only after feed, or refuses
	select {
	case own = <-fed:
	default:
	}
	switch _, refused := errors.AsType[refusedError](own); {
	case !whole(own) && !refused:
		return own
	case err != nil:
		return errLost
	case end.Code != 0:
		return join(whatIsMissing(own), said(end))
	}
	return whatIsMissing(own)
}
