package restapi_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
)

// lively answers every call of api.Life for the instance x only.
type lively struct{ scripted }

func (*lively) verb(_ context.Context, ref string) (api.Instance, error) {
	if ref != "x" {
		return api.Instance{}, api.Errorf(api.BadState, "not x but %s", ref)
	}
	return api.Instance{ID: "inst-1"}, nil
}

func (l *lively) Restart(ctx context.Context, ref string) (api.Instance, error) {
	return l.verb(ctx, ref)
}

func (l *lively) Enable(ctx context.Context, ref string) (api.Instance, error) {
	return l.verb(ctx, ref)
}

func (l *lively) Disable(ctx context.Context, ref string) (api.Instance, error) {
	return l.verb(ctx, ref)
}

func (l *lively) Pause(ctx context.Context, ref string) (api.Instance, error) {
	return l.verb(ctx, ref)
}

func (l *lively) Hibernate(ctx context.Context, ref string) (api.Instance, error) {
	return l.verb(ctx, ref)
}

func (l *lively) Resume(ctx context.Context, ref string) (api.Instance, error) {
	return l.verb(ctx, ref)
}

func (l *lively) Rename(_ context.Context, ref, handle string) (api.Instance, error) {
	return api.Instance{ID: ref, Handle: handle}, nil
}

func (l *lively) Wait(_ context.Context, _ string, until api.Until) (api.Instance, error) {
	return api.Instance{ID: string(until)}, nil
}

func (l *lively) Prune(_ context.Context, age time.Duration, dry bool) ([]string, error) {
	if age == time.Hour && !dry {
		return nil, nil
	}
	return []string{age.String()}, nil
}

func (l *lively) Create(_ context.Context, _ api.Caller, spec api.InstanceSpec) (api.Instance, error) {
	return api.Instance{ID: "inst-1", Starts: uint64(len(spec.Command))}, nil
}

func TestWireShapesOfLife(t *testing.T) {
	path := serve(t, &lively{})
	for _, c := range []struct {
		method, url, body string
		status            int
		want              string
	}{
		{"POST", "/v1/instances", `{"command":["a"]}`, 201, `"id":"inst-1"`},
		{"POST", "/v1/instances", `{"command":["a","b"]}`, 200, `"id":"inst-1"`},
		{"POST", "/v1/instances", `{"command":["a"],"expose":[80]}`, 400, "unknown field"},
		{"POST", "/v1/instances", `{"command":["a"],"exposes":[{"guest_port":80,"prot":"x"}]}`, 400, "unknown field"},
		{"POST", "/v1/instances/x/restart", "ignored", 200, `{"status":"restarting","id":"inst-1"`},
		{"POST", "/v1/instances/x/enable", "", 200, `{"status":"enabled","id":"inst-1"`},
		{"POST", "/v1/instances/x/disable", "", 200, `{"status":"disabled","id":"inst-1"`},
		{"POST", "/v1/instances/x/pause", "", 200, `{"status":"paused","id":"inst-1"`},
		{"POST", "/v1/instances/x/resume", "", 200, `{"status":"running","id":"inst-1"`},
		{"POST", "/v1/instances/y/pause", "", 409, `"code":"BadState"`},
		{"GET", "/v1/instances/x/pause", "", 405, ""},
		{"POST", "/v1/instances/x/rename", `{"handle":"z"}`, 200, `"handle":"z"`},
		{"POST", "/v1/instances/x/rename", `{"name":"z"}`, 400, "unknown field"},
		{"GET", "/v1/instances/x/wait", "", 200, `"id":"stopped"`},
		{"GET", "/v1/instances/x/wait?until=gone", "", 200, `"id":"gone"`},
		{"POST", "/v1/instances/prune?older_than=7d", "", 200, `{"pruned":1,"ids":["168h0m0s"]}`},
		{"POST", "/v1/instances/prune?older_than=1h", "", 200, `{"pruned":0,"ids":[]}`},
		{"POST", "/v1/instances/prune?older_than=1h&dry_run=true", "", 200, `{"pruned":1,"ids":["1h0m0s"]}`},
		{"POST", "/v1/instances/prune?older_than=1h&dry_run=maybe", "", 400, "true or false"},
		{"POST", "/v1/instances/prune", "", 400, "older_than is missing"},
		{"POST", "/v1/instances/prune?older_than=-1h", "", 400, "7d"},
		{"POST", "/v1/instances/prune?older_than=-1d", "", 400, "7d"},
		{"POST", "/v1/instances/prune?older_than=9999999999999d", "", 400, "7d"},
		{"POST", "/v1/instances/prune?older_than=soon", "", 400, "7d"},
	} {
		status, body, _ := raw(t, path, c.method, c.url, c.body)
		if status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s %s: %d %s, want %d %s", c.method, c.url, c.body, status, body, c.status, c.want)
		}
	}
}

func TestAWaitEndsWithItsClient(t *testing.T) {
	ended := make(chan struct{})
	client := restapi.NewClient(serve(t, &patient{ended: ended}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := client.Wait(ctx, "x", api.UntilGone); api.CodeOf(err) != api.Unavailable {
		t.Errorf("wait: %v", err)
	}
	<-ended
}

// patient waits as long as its caller.
type patient struct {
	scripted
	ended chan struct{}
}

func (p *patient) Wait(ctx context.Context, _ string, _ api.Until) (api.Instance, error) {
	<-ctx.Done()
	close(p.ended)
	return api.Instance{}, api.Errorf(api.Unavailable, "given up")
}
