package restapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
)

// scripted answers as a test tells it; a nil function must not be called.
type scripted struct {
	api.Aegis
	create func(context.Context, api.Caller, api.InstanceSpec) (api.Instance, error)
	get    func(context.Context, string) (api.Instance, error)
	list   func(context.Context) ([]api.Instance, error)
	attach func(context.Context, string) (*api.Streams, error)
	events func(context.Context) (<-chan api.Event, error)
	stop   func(context.Context, string) (api.Instance, error)
}

func (s *scripted) Create(ctx context.Context, who api.Caller, spec api.InstanceSpec) (api.Instance, error) {
	return s.create(ctx, who, spec)
}

func (s *scripted) Get(ctx context.Context, ref string) (api.Instance, error) { return s.get(ctx, ref) }
func (s *scripted) List(ctx context.Context) ([]api.Instance, error)          { return s.list(ctx) }
func (s *scripted) Attach(ctx context.Context, ref string) (*api.Streams, error) {
	return s.attach(ctx, ref)
}
func (s *scripted) Events(ctx context.Context) (<-chan api.Event, error) { return s.events(ctx) }
func (s *scripted) Stop(ctx context.Context, ref string) (api.Instance, error) {
	return s.stop(ctx, ref)
}

func serve(t *testing.T, aegis api.Aegis) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- restapi.NewServer(aegis, slog.New(slog.DiscardHandler)).Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return path
}

// raw sends a request as any HTTP client might.
func raw(t *testing.T, path, method, url, body string) (int, string, http.Header) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://any.host.will-do"+url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b)), resp.Header
}

func TestWireShapes(t *testing.T) {
	in := api.Instance{ID: "inst-1", State: api.StateRunning, Phase: api.PhaseStopping, Command: []string{"x"}}
	path := serve(t, &scripted{
		create: func(_ context.Context, who api.Caller, spec api.InstanceSpec) (api.Instance, error) {
			if who.UID != uint32(os.Getuid()) || who.PID != int32(os.Getpid()) {
				t.Errorf("caller is %+v", who)
			}
			if spec.Handle == "taken" {
				return api.Instance{}, api.Errorf(api.Exists, "taken")
			}
			return in, nil
		},
		get: func(_ context.Context, ref string) (api.Instance, error) {
			return in, api.Errorf(api.NotFound, "no %q", ref)
		},
		list: func(context.Context) ([]api.Instance, error) { return []api.Instance{in}, nil },
		stop: func(context.Context, string) (api.Instance, error) { return in, nil },
	})
	const object = `{"id":"inst-1","state":"running","phase":"stopping","enabled":false,"command":["x"],"memory_mb":0,"vcpus":0,"disk_mb":0,"owner_uid":0,"created_at":"0001-01-01T00:00:00Z","last_active_at":"0001-01-01T00:00:00Z","active_connections":0,"updated_at":"0001-01-01T00:00:00Z"}`
	for name, c := range map[string]struct {
		method, url, body string
		status            int
		want              string
	}{
		"create":           {"POST", "/v1/instances", `{"command":["x"]}`, 201, object},
		"taken handle":     {"POST", "/v1/instances", `{"command":["x"],"handle":"taken"}`, 409, `{"code":"Exists","error":"taken"}`},
		"unknown field":    {"POST", "/v1/instances", `{"comand":["x"]}`, 400, `unknown field \"comand\"`},
		"wrong type":       {"POST", "/v1/instances", `{"memory_mb":"1"}`, 400, `"code":"InvalidArgument"`},
		"no JSON":          {"POST", "/v1/instances", `command: x`, 400, `"code":"InvalidArgument"`},
		"nothing":          {"POST", "/v1/instances", ``, 400, `"code":"InvalidArgument"`},
		"two values":       {"POST", "/v1/instances", `{} {}`, 400, `more than one`},
		"huge body":        {"POST", "/v1/instances", `{"handle":"` + strings.Repeat("a", 9<<20) + `"}`, 400, `too large`},
		"unknown instance": {"GET", "/v1/instances/a%2Fb%20c", "", 404, `{"code":"NotFound","error":"no \"a/b c\""}`},
		"list":             {"GET", "/v1/instances", "", 200, "[" + object + "]"},
		"list by state":    {"GET", "/v1/instances?state=running", "", 200, "[" + object + "]"},
		"list of none":     {"GET", "/v1/instances?state=nosuch", "", 200, "[]"},
		"stop":             {"POST", "/v1/instances/x/stop", "ignored", 200, `{"status":"stopped",` + object[1:]},
		"attach by GET":    {"GET", "/v1/instances/x/attach", "", 405, ""},
		"plain attach":     {"POST", "/v1/instances/x/attach", "", 400, "Upgrade: aegis-streams"},
		"unknown path":     {"GET", "/v2/instances", "", 404, ""},
		"its description":  {"GET", "/v1/openapi.json", "", 200, `"openapi": "3.1.0"`},
		"later message":    {"POST", "/v1/instances/x/tether", "{}", 503, `"code":"Unavailable"`},
		"later kits":       {"GET", "/v1/kits", "", 503, "no kits yet"},
		"no value":         {"GET", "/v1/secrets/KEY", "", 405, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, header := raw(t, path, c.method, c.url, c.body)
			if status != c.status || !strings.Contains(body, c.want) {
				t.Errorf("answer is %d %s, want %d %s", status, body, c.status, c.want)
			}
			if kind := header.Get("Content-Type"); strings.HasPrefix(body, "{") && kind != "application/json" {
				t.Errorf("content type is %q", kind)
			}
		})
	}
}

func TestEveryCodeComesBack(t *testing.T) {
	for _, code := range []api.Code{
		api.NotFound, api.Exists, api.BadState, api.InvalidArgument, api.Unavailable, api.LimitExceeded, api.Denied, api.Internal,
	} {
		client := restapi.NewClient(serve(t, &scripted{get: func(context.Context, string) (api.Instance, error) {
			return api.Instance{}, api.Errorf(code, "because of %w", errors.New("it"))
		}}))
		_, err := client.Get(t.Context(), "x")
		if api.CodeOf(err) != code || err.Error() != "because of it" {
			t.Errorf("%s came back as %s %v", code, api.CodeOf(err), err)
		}
		client.Close()
	}
}

func TestDaemonThatIsNotThereIsNamed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "s")
	stale := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for _, path := range []string{missing, stale} {
		client := restapi.NewClient(path)
		_, get := client.Get(t.Context(), "x")
		_, attach := client.Attach(t.Context(), "x")
		_, events := client.Events(t.Context())
		for _, err := range []error{get, attach, events} {
			if _, ok := errors.AsType[*api.Error](err); !ok || api.CodeOf(err) != api.Unavailable ||
				err.Error() != "aegisd is not running: start it with `aegis up`" {
				t.Errorf("error is %v", err)
			}
		}
	}
}

func TestGivingUpEndsTheCallOnBothSides(t *testing.T) {
	entered, left := make(chan struct{}, 1), make(chan struct{}, 1)
	wait := func(ctx context.Context) error {
		entered <- struct{}{}
		<-ctx.Done()
		left <- struct{}{}
		return ctx.Err()
	}
	client := restapi.NewClient(serve(t, &scripted{
		get:    func(ctx context.Context, _ string) (api.Instance, error) { return api.Instance{}, wait(ctx) },
		attach: func(ctx context.Context, _ string) (*api.Streams, error) { return nil, wait(ctx) },
	}))
	for name, call := range map[string]func(context.Context) error{
		"get":    func(ctx context.Context) error { _, err := client.Get(ctx, "x"); return err },
		"attach": func(ctx context.Context) error { _, err := client.Attach(ctx, "x"); return err },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- call(ctx) }()
		<-entered
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) || api.CodeOf(err) != api.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
		<-left
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestStreamsArriveInTheirPlacesAndNothingIsLeftBehind(t *testing.T) {
	var ends [5]*os.File
	client := restapi.NewClient(serve(t, &scripted{attach: func(_ context.Context, ref string) (*api.Streams, error) {
		s := &api.Streams{}
		for i, f := range []**os.File{nil, &s.Stdout, &s.Stderr, &s.Status, &s.Session} {
			if f != nil {
				*f, ends[i] = pipe(t)
			}
		}
		return s, nil
	}}))
	s, err := client.Attach(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Stdin != nil {
		t.Error("there is a stdin")
	}
	for i, f := range []*os.File{1: s.Stdout, s.Stderr, s.Status, s.Session} {
		if f == nil {
			continue
		}
		ends[i].Write([]byte{byte(i)})
		ends[i].Close() // the reader sees the end only if no other copy is open
		if got, err := io.ReadAll(f); err != nil || len(got) != 1 || got[0] != byte(i) {
			t.Errorf("stream %d carries %v, %v", i, got, err)
		}
	}
}

func TestClientThatVanishesDuringTheHandoverLosesItsSession(t *testing.T) {
	session, watch := pipe(t)
	path := serve(t, &scripted{attach: func(context.Context, string) (*api.Streams, error) {
		return &api.Streams{Session: watch, Status: session}, nil
	}})
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "POST /v1/instances/x/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: aegis-streams\r\n\r\n")
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 101" {
		t.Fatalf("answer %q, %v", head, err)
	}
	conn.Close()
	// The server closes its copies, which only a write can tell us.
	deadline := time.Now().Add(5 * time.Second)
	for {
		if _, err := watch.Write([]byte("x")); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the streams are still open")
		}
	}
}

func TestEventsArriveInOrderAndACutStreamEnds(t *testing.T) {
	source := make(chan api.Event, 3)
	client := restapi.NewClient(serve(t, &scripted{events: func(context.Context) (<-chan api.Event, error) { return source, nil }}))
	events, err := client.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []api.Event{
		{Seq: 1, Time: time.Unix(1, 5).UTC(), Type: api.EventCreated, Instance: "a", Handle: "h", Phase: api.PhaseStarting},
		{Seq: 2, Time: time.Unix(2, 5).UTC(), Type: api.EventPhase, Instance: "a", Phase: api.PhaseFailed, Message: "why"},
	}
	for _, ev := range want {
		source <- ev
	}
	close(source)
	var got []api.Event
	for ev := range events {
		got = append(got, ev)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events: %s", diff)
	}
}

func TestCutStreamSaysWhyOnTheWire(t *testing.T) {
	source := make(chan api.Event)
	close(source)
	path := serve(t, &scripted{events: func(context.Context) (<-chan api.Event, error) { return source, nil }})
	status, body, header := raw(t, path, "GET", "/v1/events", "")
	var e api.Error
	if err := json.Unmarshal([]byte(body), &e); err != nil || status != 200 || e.Code != api.LimitExceeded ||
		header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("answer: %d %s %v", status, body, header)
	}
}
