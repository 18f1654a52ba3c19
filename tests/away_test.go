package tests

import (
	"context"
	"io"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// The client hears the end from the guest itself; an aegisd that was away asks
// the guest later.
func TestAProgramThatEndsWhileAegisdIsAwayEndsAsItDid(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		client := restapi.NewClient(h.Socket)
		defer client.Close()
		in, err := client.Create(ctx, api.Caller{}, api.InstanceSpec{Command: []string{"sh", "-c", "read line; exit 5"}, Attach: true, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		streams, err := client.Attach(ctx, in.ID)
		if err != nil {
			t.Fatal(err)
		}
		defer streams.Close()
		killDaemon(t, h, "aegisd")
		streams.Stdin.Close()
		for _, f := range []io.Reader{streams.Stdout, streams.Stderr} {
			if _, err := io.ReadAll(f); err != nil {
				t.Error(err)
			}
		}
		if st, err := proto.ReadStatus(streams.Status); err != nil || st.Code != 5 {
			t.Fatalf("status %+v, %v", st, err)
		}
		if got := aegis(t, h, nil, "up"); got.code != 0 {
			t.Fatalf("aegis up: %+v", got)
		}
		for ended := in; ended.ExitCode == nil || *ended.ExitCode != 5; {
			if ended, err = client.Get(ctx, in.ID); ctx.Err() != nil || err != nil && api.CodeOf(err) != api.Unavailable || ended.LastError != "" {
				t.Fatalf("the record: %+v, %v", ended, err)
			}
		}
		if err := client.Delete(ctx, in.ID); err != nil {
			t.Error(err)
		}
	})
}
