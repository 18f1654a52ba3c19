package command

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

// livingAegis notes what is asked of it and knows the instances web and job.
type livingAegis struct {
	fakeAegis
	calls  []string
	events []api.Event // of the first stream; later ones are refused
	// becomes is the phase of what is made, once it has started; "" means
	// running.
	becomes api.Phase
}

func newLiving() *livingAegis {
	return &livingAegis{fakeAegis: fakeAegis{instances: lifeInstances()}}
}

func lifeInstances() []api.Instance {
	at := time.Unix(1_700_000_000, 0).UTC()
	code := 3
	return []api.Instance{
		{
			ID: "inst-1", Handle: "web", State: api.StateRunning, Phase: api.PhaseRunning, Enabled: true, Command: []string{"serve", "a\x1bb"},
			Env: map[string]string{"TOKEN": "hidden"}, MemoryMB: 512, VCPUs: 1, CreatedAt: at, StartedAt: &at, Machine: "m-1",
			Labels: map[string]string{"team": "a"}, Restart: api.RestartAlways, Starts: 3, RestartCount: 2,
		},
		{
			ID: "inst-2", State: api.StateStopped, Phase: api.PhaseStopped, Command: []string{"job"}, MemoryMB: 256, VCPUs: 2,
			CreatedAt: at, StartedAt: &at, StoppedAt: &at, ExitCode: &code, Restart: api.RestartNever, Starts: 1,
		},
	}
}

func (f *livingAegis) find(call, ref string) (api.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call+" "+ref)
	for _, in := range f.instances {
		if ref == in.ID || ref == in.Handle {
			return in, nil
		}
	}
	return api.Instance{}, api.Errorf(api.NotFound, "no instance %q", ref)
}

func (f *livingAegis) Get(_ context.Context, ref string) (api.Instance, error) {
	return f.find("get", ref)
}

func (f *livingAegis) Start(_ context.Context, ref string) (api.Instance, error) {
	return f.find("start", ref)
}

func (f *livingAegis) Stop(_ context.Context, ref string) (api.Instance, error) {
	return f.find("stop", ref)
}

func (f *livingAegis) Restart(_ context.Context, ref string) (api.Instance, error) {
	return f.find("restart", ref)
}

func (f *livingAegis) Enable(_ context.Context, ref string) (api.Instance, error) {
	return f.find("enable", ref)
}

func (f *livingAegis) Disable(_ context.Context, ref string) (api.Instance, error) {
	return f.find("disable", ref)
}

func (f *livingAegis) Pause(_ context.Context, ref string) (api.Instance, error) {
	return f.find("pause", ref)
}

func (f *livingAegis) Hibernate(_ context.Context, ref string) (api.Instance, error) {
	return f.find("hibernate", ref)
}

func (f *livingAegis) Keepalive(_ context.Context, ref string, l api.Lease) (api.Instance, error) {
	return f.find(fmt.Sprintf("keepalive %d %q of", l.TTLMS, l.Reason), ref)
}

func (f *livingAegis) Release(_ context.Context, ref string) (api.Instance, error) {
	return f.find("release", ref)
}

func (f *livingAegis) Resume(_ context.Context, ref string) (api.Instance, error) {
	return f.find("resume", ref)
}

func (f *livingAegis) Delete(_ context.Context, ref string) error {
	_, err := f.find("delete", ref)
	return err
}

func (f *livingAegis) Rename(_ context.Context, ref, handle string) (api.Instance, error) {
	return f.find("rename to "+handle, ref)
}

func (f *livingAegis) Wait(_ context.Context, ref string, until api.Until) (api.Instance, error) {
	in, err := f.find("wait until "+string(until), ref)
	if err == nil && until == api.UntilRunning && (in.Phase == api.PhaseStopped || in.Phase == api.PhaseFailed) {
		return in, api.Errorf(api.BadState, "instance %s is %s", ref, in.Phase)
	}
	return in, err
}

func (f *livingAegis) Prune(_ context.Context, age time.Duration, dry bool) ([]string, error) {
	f.find(fmt.Sprint("prune ", dry), age.String())
	return []string{"inst-8", "inst-9"}, nil
}

func (f *livingAegis) Create(_ context.Context, _ api.Caller, spec api.InstanceSpec) (api.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spec = &spec
	starts := uint64(1)
	if spec.Handle == "again" {
		starts = 2
	}
	in := api.Instance{ID: "inst-7", Handle: spec.Handle, Starts: starts, Phase: api.PhaseStarting}
	later := in
	if later.Phase = f.becomes; later.Phase == "" {
		later.Phase = api.PhaseRunning
	}
	if later.Phase == api.PhaseFailed {
		later.LastError = "no such image"
	}
	f.instances = append(f.instances, later)
	return in, nil
}

func (f *livingAegis) Events(context.Context) (<-chan api.Event, error) {
	c := make(chan api.Event, len(f.events))
	if f.calls = append(f.calls, "events"); len(f.calls) > 1 {
		return nil, api.Errorf(api.Denied, "not again")
	}
	for _, ev := range f.events {
		c <- ev
	}
	close(c)
	return c, nil
}

func TestInstanceVerbs(t *testing.T) {
	for _, c := range []struct {
		line           string
		code           int
		stdout, stderr string
		calls          []string
	}{
		{"instance stop web inst-2", 0, "Instance web stopped\nInstance inst-2 stopped\n", "", []string{"stop web", "stop inst-2"}},
		{"instance delete nosuch web", 1, "Instance web deleted\n", "aegis: no instance \"nosuch\"\n", []string{"delete nosuch", "delete web"}},
		{"instance restart web", 0, "Instance web restarting\n", "", []string{"restart web"}},
		{"instance disable web", 0, "Instance web disabled\n", "", []string{"disable web"}},
		{"instance enable web", 0, "Instance web enabled\n", "", []string{"enable web"}},
		{"instance pause web", 0, "Instance web paused\n", "", []string{"pause web"}},
		{"instance resume -q web", 0, "", "", []string{"resume web"}},
		{"instance rename web www", 0, "Instance web renamed to www\n", "", []string{"rename to www web"}},
		{"instance keepalive web", 0, "Instance web is kept awake for 30s\n", "", []string{`keepalive 30000 "" of web`}},
		{"instance keepalive --for 1h30m --reason build web", 0, "Instance web is kept awake for 1h30m0s\n", "", []string{`keepalive 5400000 "build" of web`}},
		{"instance keepalive web --release", 0, "Instance web may sleep\n", "", []string{"release web"}},
		{"instance prune", 0, "Pruned 2 stopped instance(s)\n", "", []string{"prune false 168h0m0s"}},
		{"instance prune --stopped-older-than 90m -q", 0, "inst-8\ninst-9\n", "", []string{"prune false 1h30m0s"}},
		{"instance prune --stopped-older-than 0s -o json", 0, "[\n  \"inst-8\",\n  \"inst-9\"\n]\n", "", []string{"prune false 0s"}},
		{"instance prune --dry-run", 0, "inst-8\ninst-9\n", "", []string{"prune true 168h0m0s"}},
		{"instance wait inst-2", 0, "3\n", "", []string{"get inst-2", "wait until stopped inst-2"}},
		{"instance wait --until running web", 0, "", "", []string{"get web", "wait until running inst-1"}},
		{"instance expose web 80 10.0.0.1:90/tcp", 0, "Exposed: http://127.0.0.1:8000 → vm:80\nExposed: tcp://10.0.0.1:8000 → vm:90\n", "", []string{"expose 80 web", "expose 10.0.0.1:90/tcp web"}},
		{"instance unexpose web 53/udp", 0, "Unexposed port 53 on web\n", "", []string{"unexpose 53/udp web"}},
		{"instance start web", 0, "Instance restarted: inst-1\nHandle: web\n", "", []string{"start web"}},
		{"instance start --name web -o name", 0, "web\n", "", []string{"start web"}},
		{"instance start inst-2 web -q", 0, "inst-2\ninst-1\n", "", []string{"start inst-2", "get inst-2", "wait until running inst-2", "get inst-2", "start web"}},
		{"instance list --running -q", 0, "inst-1\n", "", nil},
		{"instance list --stopped -o name", 0, "inst-2\n", "", nil},
		{"instance list --label team=a -q", 0, "inst-1\n", "", nil},
		{"instance list --label team=b", 0, "No instances\n", "", nil},
		{"instance list --label team=b -o json", 0, "[]\n", "", nil},
	} {
		f := newLiving()
		serve(t, f)
		code, stdout, stderr := aegis(t, strings.Fields(c.line)...)
		if code != c.code || stdout != c.stdout || stderr != c.stderr {
			t.Errorf("%s: exit %d, %q, %q; want %d, %q, %q", c.line, code, stdout, stderr, c.code, c.stdout, c.stderr)
		}
		if diff := cmp.Diff(c.calls, f.calls); diff != "" {
			t.Errorf("%s: calls %s", c.line, diff)
		}
	}
}

func TestInstanceUsage(t *testing.T) {
	home(t)
	for line, want := range map[string]string{
		"instance":          "",
		"instance burn":     `unknown command "burn": expected one of delete, disable, enable, expose, hibernate, info, keepalive, list, pause, prune, rename, restart, resume, secrets, start, stop, unexpose, wait`,
		"instance stop":     "no name: expected names or ids of instances, such as: aegis instance stop web",
		"instance info":     "no name: ",
		"instance info a b": `unexpected argument "b"`,
		"instance rename a": "expected the name or id of an instance and its new name",
		"instance prune --stopped-older-than never": `age "never": expected a length of time such as 90m, 24h or 7d`,
		"instance keepalive --release --for 1m web": "leave --for and --reason out",
		"instance keepalive --for -1s web":          "--for: expected a length of time above 0",
		"instance keepalive":                        "no name: ",
		"instance wait --until dawn web":            "expected stopped, running or gone",
		"instance list -o xml":                      "expected text, wide, json, yaml or name",
		"instance list --running --stopped":         "both --running and --stopped",
		"instance start":                            "no name: ",
		"instance start web --":                     `unexpected argument "web" before --`,
		"instance start --":                         "no command after --",
		"instance start --memory 1G web":            "--memory without a command",
		"instance start web -- true":                `unexpected argument "web" before --`,
		"instance start --label x -- true":          "expected KEY=VALUE",
		"instance start --expose x -- true":         "numbers from 1 to 65535",
		"instance start --expose 1/sctp -- true":    "expected http, tcp or udp",
		"run --restart always true":                 "--restart is for --detach",
		"run -q true":                               "--output and --quiet are for --detach",
		"run -o json true":                          "--output and --quiet are for --detach",
		"run -d -i true":                            "both --detach and --interactive",
		"why":                                       "no name: ",
		"events web":                                `unexpected argument "web"`,
	} {
		code, stdout, stderr := aegis(t, strings.Fields(line)...)
		if want == "" {
			if code != 0 || !strings.Contains(stdout, "Available Commands") {
				t.Errorf("%s: exit %d, %q", line, code, stdout)
			}
			continue
		}
		if code != 2 || !strings.HasPrefix(stderr, "aegis: ") || !strings.Contains(stderr, want) || stdout != "" {
			t.Errorf("%s: exit %d, %q, %q; want %q", line, code, stdout, stderr, want)
		}
	}
}

func TestNewInstancesHaveASpec(t *testing.T) {
	want := api.InstanceSpec{
		Handle: "web", Command: []string{"serve", "-x"}, MemoryMB: 1024, Hostname: "h", Labels: map[string]string{"a": "b=c", "d": ""},
		Restart: api.RestartOnFailure, Kit: "k", Idle: "pause=5m,hibernate=never",
		Exposes: []api.Expose{{GuestPort: 80}, {Bind: "0.0.0.0", GuestPort: 443, PublicPort: 8443, Protocol: "tcp"}},
	}
	flags := "--name web --memory 1G --hostname h --label a=b=c --label d= --restart on-failure --kit k --idle pause=5m,hibernate=never --expose 80 --expose 0.0.0.0:8443:443/tcp -- serve -x"
	for _, c := range []struct{ command, stdout string }{
		{"instance start", "Instance started: inst-7\nHandle: web\n"},
		{"run --detach", "Instance started: inst-7\nHandle: web\n"},
		{"run -d -q", "inst-7\n"},
		{"instance start -o name", "web\n"},
	} {
		f := newLiving()
		serve(t, f)
		code, stdout, stderr := aegis(t, strings.Fields(c.command+" "+flags)...)
		if code != 0 || stdout != c.stdout || stderr != "" || f.spec == nil {
			t.Fatalf("%s: exit %d, %q, %q", c.command, code, stdout, stderr)
		}
		if diff := cmp.Diff(want, *f.spec); diff != "" {
			t.Errorf("%s: %s", c.command, diff)
		}
	}
	serve(t, newLiving())
	if _, stdout, _ := aegis(t, "instance", "start", "--name", "again", "--", "x"); stdout != "Instance restarted: inst-7\nHandle: again\n" {
		t.Errorf("started again: %q", stdout)
	}
}

func TestAKitBringsItsCommand(t *testing.T) {
	for line, handle := range map[string]string{
		"instance start --kit agent --name bot": "bot",
		"run -d --kit agent":                    "",
	} {
		f := newLiving()
		serve(t, f)
		code, _, stderr := aegis(t, strings.Fields(line)...)
		if code != 0 || f.spec == nil || len(f.spec.Command) > 0 || f.spec.Kit != "agent" || f.spec.Handle != handle {
			t.Errorf("%s: exit %d, %q, %+v", line, code, stderr, f.spec)
		}
	}
}

func TestAStartIsOverWhenTheProgramRunsOrCannot(t *testing.T) {
	for _, c := range []struct {
		line    string
		becomes api.Phase
		code    int
		stderr  string
		waits   bool
	}{
		{"instance start -q --name web -- x", api.PhaseRunning, 0, "", true},
		{"instance start -q --name web -- x", api.PhaseStopped, 0, "", true}, // it has run
		{"instance start -q --name web -- x", api.PhaseFailed, 1, "aegis: instance web: no such image\n", true},
		{"run -d -q -- x", api.PhaseFailed, 125, "aegis: instance inst-7: no such image\n", true},
		{"run -d -q --no-wait -- x", api.PhaseFailed, 0, "", false},
	} {
		f := newLiving()
		f.instances, f.becomes = nil, c.becomes
		serve(t, f)
		code, _, stderr := aegis(t, strings.Fields(c.line)...)
		if code != c.code || stderr != c.stderr || c.waits != slices.Contains(f.calls, "wait until running inst-7") {
			t.Errorf("%s, %s: exit %d, %q, calls %q", c.line, c.becomes, code, stderr, f.calls)
		}
	}
}

func TestListAndInfoInEveryFormat(t *testing.T) {
	serve(t, newLiving())
	_, text, _ := aegis(t, "instance", "list")
	if lines := strings.Split(text, "\n"); len(lines) != 4 || strings.Join(strings.Fields(lines[1]), " ") != "inst-1 web - enabled running -" ||
		!strings.HasPrefix(strings.Join(strings.Fields(lines[2]), " "), "inst-2 - - disabled stopped 2023-11-1") {
		t.Errorf("list:\n%s", text)
	}
	_, wide, _ := aegis(t, "instance", "list", "-o", "wide")
	for _, want := range []string{"COMMAND", "always", `serve a\x1bb`} {
		if !strings.Contains(wide, want) || strings.Contains(text, want) || strings.Contains(wide, "\x1b") {
			t.Errorf("wide list:\n%s", wide)
		}
	}
	_, list, _ := aegis(t, "instance", "list", "-o", "json")
	var got []api.Instance
	if err := json.Unmarshal([]byte(list), &got); err != nil || !cmp.Equal(lifeInstances(), got) {
		t.Errorf("list as JSON: %v, %s", err, cmp.Diff(lifeInstances(), got))
	}
	_, yaml, _ := aegis(t, "instance", "info", "inst-2", "-o", "yaml")
	for _, want := range []string{"id: inst-2\nstate: stopped\n", "command:\n    - job\n", "\nexit_code: 3\n", "\nenabled: false\n"} {
		if !strings.Contains(yaml, want) {
			t.Errorf("no %q in\n%s", want, yaml)
		}
	}
	_, info, _ := aegis(t, "instance", "info", "web")
	for _, want := range []string{"Handle:", "always, 2 times since a user started it", "team=a", "TOKEN", `serve a\x1bb`} {
		if !strings.Contains(info, want) || strings.Contains(info, "hidden") {
			t.Errorf("no %q in\n%s", want, info)
		}
	}
}

// TestYAMLKeepsText uses values that YAML would read as something else.
func TestYAMLKeepsText(t *testing.T) {
	f := newLiving()
	f.instances = []api.Instance{{ID: "inst-1", Command: []string{"true", "007", "", "a: b", "- x", "# y", "null", "line\nline", `"`}}}
	serve(t, f)
	_, text, _ := aegis(t, "instance", "info", "inst-1", "-o", "yaml")
	for _, want := range []string{`- "true"`, `- "007"`, `- ""`, `- 'a: b'`, `- '- x'`, `- '# y'`, `- "null"`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func TestEventsAreLines(t *testing.T) {
	f := newLiving()
	f.events = []api.Event{
		{Seq: 1, Time: time.Unix(1_700_000_000, 0).UTC(), Type: api.EventPhase, Instance: "inst-1", Handle: "web", Phase: api.PhaseFailed, Message: "a\x1b[1m"},
		{Seq: 2, Time: time.Unix(1_700_000_000, 0).UTC(), Type: api.EventDeleted, Instance: "inst-2"},
	}
	serve(t, f)
	code, text, stderr := aegis(t, "events")
	lines := strings.Split(text, "\n")
	if code != 1 || stderr != "aegis: waiting for aegisd: it ended the stream of events\naegis: not again\n" || len(lines) != 3 {
		t.Fatalf("exit %d, %q, %q", code, text, stderr)
	}
	if !strings.HasSuffix(lines[0], `phase    web failed: a\x1b[1m`) || !strings.Contains(lines[1], "deleted  inst-2") {
		t.Errorf("events: %q", text)
	}
	f.calls = nil
	_, text, _ = aegis(t, "events", "-o", "json")
	var ev api.Event
	first, _, _ := strings.Cut(text, "\n")
	if err := json.Unmarshal([]byte(first), &ev); err != nil || !cmp.Equal(ev, f.events[0]) {
		t.Errorf("as JSON: %v %q", err, first)
	}
}

func TestWaitTellsWhyAMachineFailed(t *testing.T) {
	f := newLiving()
	f.instances = []api.Instance{
		{ID: "a", Phase: api.PhaseFailed, LastError: "the guest's kernel panicked"},
		{ID: "b", Phase: api.PhaseStopped},
		{ID: "c", Phase: api.PhaseStopped, ExitCode: new(int), ExitSignal: 9},
	}
	serve(t, f)
	code, stdout, stderr := aegis(t, "instance", "wait", "a", "b", "c")
	if code != 1 || stdout != "-\n137\n" || stderr != "aegis: instance a failed: the guest's kernel panicked\n" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestWhy(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	before, soon, code := now.Add(-time.Minute), now.Add(4*time.Second), 1
	for name, c := range map[string]struct {
		in   api.Instance
		want []string
	}{
		"running": {api.Instance{Phase: api.PhaseRunning, Enabled: true, StartedAt: &before, Starts: 2}, []string{"(1m0s ago)", "starts: 2"}},
		"used": {
			api.Instance{Phase: api.PhaseRunning, Enabled: true, Sleep: &api.Sleep{InUse: []string{"a client"}, Reason: "an exec", Since: &before}},
			[]string{"kept awake: a client", "awake again: an exec (1m0s ago)"},
		},
		"idle": {
			api.Instance{Phase: api.PhaseRunning, Enabled: true, Sleep: &api.Sleep{Next: api.PhasePaused, NextAt: &soon, Obstacle: "at work"}},
			[]string{"does not sleep: at work", "paused in 4s"},
		},
		"paused": {
			api.Instance{Phase: api.PhasePaused, Enabled: true, StartedAt: &before, Sleep: &api.Sleep{Reason: "a user paused it"}},
			[]string{"asleep: a user paused it", "aegis instance resume"},
		},
		"starting": {api.Instance{Phase: api.PhaseStarting, Enabled: true, CreatedAt: before}, []string{"created at"}},
		"done": {
			api.Instance{Phase: api.PhaseStopped, Enabled: true, StoppedAt: &before, ExitCode: &code, Restart: api.RestartNever},
			[]string{"at rest since", "exited with code 1", "nothing starts it by itself (policy never)"},
		},
		"failed": {
			api.Instance{Phase: api.PhaseFailed, Enabled: true, StoppedAt: &before, LastError: "no\x1bimage", RestartAt: &soon, Restart: api.RestartAlways, Starts: 4, RestartCount: 3},
			[]string{`reason: no\x1bimage`, "the last 3 by its restart policy", "its policy always starts it again in 4s"},
		},
		"disabled": {api.Instance{Handle: "web", Phase: api.PhaseStopped, StoppedAt: &before}, []string{"it is disabled", "aegis instance enable web"}},
	} {
		got := strings.Join(reasons(c.in, now), "\n")
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in\n%s", name, want, got)
			}
		}
	}
	serve(t, newLiving())
	if code, stdout, _ := aegis(t, "why", "inst-2"); code != 0 || !strings.HasPrefix(stdout, "inst-2 is stopped\n  at rest since ") {
		t.Errorf("exit %d, %q", code, stdout)
	}
	code, stdout, _ := aegis(t, "why", "web", "-o", "json")
	var e explanation
	if err := json.Unmarshal([]byte(stdout), &e); err != nil || code != 0 || e.Phase != api.PhaseRunning || len(e.Why) == 0 {
		t.Errorf("exit %d, %q", code, stdout)
	}
}
