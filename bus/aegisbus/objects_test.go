package aegisbus_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

// asked notes what it is asked for, and of which instance.
type asked struct {
	*scripted
	t     *testing.T
	calls []string
}

func (a *asked) note(ref, text string, args ...any) {
	a.calls = append(a.calls, ref+": "+fmt.Sprintf(text, args...))
}

func (a *asked) Exec(_ context.Context, ref string, spec api.ExecSpec) (string, *api.Streams, error) {
	a.note(ref, "exec %q", spec.Command)
	return "exec-1", a.streams(), nil
}

func (a *asked) ReattachExec(_ context.Context, ref, id string) (*api.Streams, error) {
	a.note(ref, "reattach %s", id)
	return a.streams(), nil
}

// streams are only a status, which says hello.
func (a *asked) streams() *api.Streams {
	r, w, err := os.Pipe()
	if err != nil {
		a.t.Fatal(err)
	}
	defer w.Close()
	io.WriteString(w, "hello")
	return &api.Streams{Status: r}
}

func (a *asked) ResizeExec(_ context.Context, ref, id string, rows, cols int) error {
	a.note(ref, "resize %s %d %d", id, rows, cols)
	return nil
}

func (a *asked) SignalExec(_ context.Context, ref, id string, signal int) error {
	a.note(ref, "signal %s %d", id, signal)
	return nil
}

func (a *asked) Execs(_ context.Context, ref string) ([]api.ExecInfo, error) {
	a.note(ref, "execs")
	return []api.ExecInfo{{ID: "exec-1"}}, nil
}

func (a *asked) CopyTo(_ context.Context, ref string, spec api.CopyToSpec) (*api.Streams, error) {
	a.note(ref, "copy to %s", spec.Path)
	return nil, api.Errorf(api.BadState, "as asked")
}

func (a *asked) Logs(_ context.Context, ref string, q api.LogQuery) (api.LogStream, error) {
	a.note(ref, "log of %s", q.ExecID)
	return nil, api.Errorf(api.NotFound, "as asked")
}

func TestAnInstancesObjectHasItsProgramsFilesAndLog(t *testing.T) {
	address, a := bustest.Start(t), &asked{scripted: newScripted(), t: t}
	serve(t, address, a)
	object := bustest.Dial(t, address).Object(bus.AegisName, "/org/aegisvm/Aegis1/instance/inst_2d1", bus.AegisInstance)
	var id string
	var which uint32
	var files [6]*os.File
	streams := []any{&which, &files[0], &files[1], &files[2], &files[3], &files[4], &files[5]}
	status := func() {
		t.Helper()
		defer func() {
			for _, f := range files {
				f.Close()
			}
		}()
		if b, err := io.ReadAll(files[3]); string(b) != "hello" || which != 8 {
			t.Errorf("streams %b, the status says %q, %v", which, b, err)
		}
	}
	call := func(member string, args bus.Args, out ...any) {
		t.Helper()
		if err := object.Call(t.Context(), member, args, out...); err != nil {
			t.Fatalf("%s: %v", member, err)
		}
	}
	call("Exec", bus.Args{`{"command":["a","b"]}`}, append([]any{&id}, streams...)...)
	if status(); id != "exec-1" {
		t.Errorf("id %q", id)
	}
	call("ReattachExec", bus.Args{"exec-1"}, streams...)
	status()
	call("ResizeExec", bus.Args{"exec-1", uint32(24), uint32(80)})
	call("SignalExec", bus.Args{"exec-1", int32(15)})
	var execs []bus.Dict
	call("ListExecs", nil, &execs)
	if len(execs) != 1 || execs[0]["exec_id"].Value() != "exec-1" {
		t.Errorf("execs: %v", execs)
	}
	if err := object.Call(t.Context(), "CopyTo", bus.Args{`{"path":"/x"}`}, streams...); api.CodeOf(err) != api.BadState {
		t.Errorf("copy: %v", err)
	}
	var log *os.File
	if err := object.Call(t.Context(), "ReadLog", bus.Args{`{"exec_id":"e"}`}, &log); api.CodeOf(err) != api.NotFound {
		t.Errorf("log: %v", err)
	}
	want := []string{
		`inst-1: exec ["a" "b"]`, "inst-1: reattach exec-1", "inst-1: resize exec-1 24 80", "inst-1: signal exec-1 15",
		"inst-1: execs", "inst-1: copy to /x", "inst-1: log of e",
	}
	if diff := cmp.Diff(want, a.calls); diff != "" {
		t.Errorf("asked for: %s", diff)
	}
}
