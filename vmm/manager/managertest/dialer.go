package managertest

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/forward"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/dialer"
)

// dialled connects to a server by way of the guest, which is the fake one and
// so has this machine's loopback.
func dialled(t *testing.T, w World) {
	ctx := t.Context()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var server sync.WaitGroup
	defer server.Wait()
	defer l.Close()
	server.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello")
			c.Close()
		}
	})
	_, err = w.Dialer(ctx, "one", proto.PortForward)
	wantCode(t, err, api.NotFound, "one")
	_, err = w.Start(ctx, Spec("one"))
	must(t, err)
	f, err := w.Dialer(ctx, "one", proto.PortForward)
	must(t, err)
	d, err := dialer.New(f)
	must(t, err)
	defer d.Close()
	for range 3 {
		c, err := d.Dial(ctx)
		must(t, err)
		must(t, forward.WriteTarget(c, forward.Target{Port: uint16(l.Addr().(*net.TCPAddr).Port)}))
		must(t, forward.ReadAnswer(c))
		if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
			t.Errorf("read %q (%v)", got, err)
		}
		c.Close()
	}
	must(t, w.Stop(ctx, "one"))
	<-d.Done()
	if _, err := d.Dial(ctx); !errors.Is(err, dialer.ErrClosed) {
		t.Errorf("dialled after the end: %v", err)
	}
	_, err = w.Dialer(ctx, "one", proto.PortForward)
	wantCode(t, err, api.BadState, "one", vmm.ErrEnded.Error())
}
