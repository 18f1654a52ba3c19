package dialer

import (
	"context"
	"net"
	"os"
	"sync"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// atOnce is how many connections of one dialer may be under way; who asks for
// more waits.
const atOnce = 64

// Serve answers the requests on c with what dial gives until c ends, which it
// closes. It returns when no dial is under way.
func Serve(ctx context.Context, c *net.UnixConn, dial func(context.Context) (*os.File, error)) {
	var all sync.WaitGroup
	defer all.Wait()
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	turns := make(chan struct{}, atOnce)
	for {
		var r request
		files, err := packet.Receive(c, &r)
		packet.CloseAll(files)
		if err != nil {
			return
		}
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return
		}
		all.Go(func() {
			defer func() { <-turns }()
			if respond(ctx, c, r.ID, dial) != nil {
				cancel()
			}
		})
	}
}

func respond(ctx context.Context, c *net.UnixConn, id uint64, dial func(context.Context) (*os.File, error)) error {
	f, err := dial(ctx)
	if err != nil {
		return packet.Send(c, answer{ID: id, Error: api.AsError(err)})
	}
	defer f.Close()
	return packet.Send(c, answer{ID: id}, f)
}
