package guestsession

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/kept"
)

// Output is one stream of a process whose bytes the guest keeps until they are
// stored. It reads io.EOF at its end, and may where the path to it broke: who
// dials again from where it was is told ErrNoStream at the end.
type Output struct {
	*kept.Sink
	conn net.Conn
	stop func() bool
}

// ErrNoStream says that the guest has no such stream, or none any more.
var ErrNoStream = kept.ErrRefused

// OpenOutput dials stdout or stderr of a process from an offset on. The end of
// ctx breaks it.
func OpenOutput(ctx context.Context, dial Dial, id string, kind proto.Kind, from uint64) (*Output, error) {
	dialling, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	f, err := dialStream(dialling, dial, proto.Prelude{Kind: kind, Process: id, Kept: true, From: from})
	if err != nil {
		return nil, err
	}
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("connecting %s: %w", kind, err)
	}
	o := &Output{conn: conn, stop: context.AfterFunc(ctx, func() { conn.Close() })}
	if o.Sink, err = kept.NewSink(conn, from); err != nil {
		o.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("connecting %s: %w", kind, err)
	}
	return o, nil
}

// Read reads the next bytes.
func (o *Output) Read(b []byte) (int, error) {
	n, err := o.Sink.Read(b)
	if errors.Is(err, net.ErrClosed) {
		err = context.Canceled
	}
	return n, err
}

// Close lets the stream go; it can be dialled again.
func (o *Output) Close() {
	o.stop()
	o.conn.Close()
}
