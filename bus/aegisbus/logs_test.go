package aegisbus_test

import (
	"context"
	"io"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/aegisbus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

// quiet is a log in which nothing happens; left is closed when its reader has
// gone.
type quiet struct {
	*scripted
	query chan api.LogQuery
	left  chan struct{}
}

func (q quiet) Logs(ctx context.Context, _ string, query api.LogQuery) (api.LogStream, error) {
	q.query <- query
	return quietStream{ctx, q.left}, nil
}

type quietStream struct {
	ctx  context.Context
	left chan struct{}
}

func (s quietStream) Next() ([]api.LogEntry, error) {
	<-s.ctx.Done()
	return nil, io.EOF
}

func (s quietStream) Close() error {
	close(s.left)
	return nil
}

func TestALogIsNotReadForAReaderThatHasGone(t *testing.T) {
	address, q := bustest.Start(t), quiet{newScripted(), make(chan api.LogQuery, 1), make(chan struct{})}
	serve(t, address, q)
	stream, err := aegisbus.NewClient(bustest.Dial(t, address)).Logs(t.Context(), "inst-1", api.LogQuery{Follow: true, ExecID: "e"})
	if err != nil {
		t.Fatal(err)
	}
	if got := <-q.query; !got.Follow || got.ExecID != "e" {
		t.Errorf("asked for %+v", got)
	}
	stream.Close()
	<-q.left
}

func TestQueriesAreReadStrictly(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address, newScripted())
	root := bustest.Dial(t, address).Object(bus.AegisName, bus.AegisPath, bus.AegisManager)
	for _, text := range []string{``, `{"folow":true}`, `{} {}`, `[]`, `{"tail":"1"}`} {
		if err := root.Call(t.Context(), "ReadInstanceLog", bus.Args{"inst-1", text}); api.CodeOf(err) != api.InvalidArgument {
			t.Errorf("query %q: %v", text, err)
		}
	}
}
