package restapi_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// execs is an Aegis with one instance, whose execs are a function.
type execs struct {
	api.Aegis
	program func(stdout, stderr, status *os.File)
	spec    api.ExecSpec
}

func (e *execs) Get(context.Context, string) (api.Instance, error) {
	return api.Instance{ID: "inst-1"}, nil
}

func (e *execs) Exec(_ context.Context, _ string, spec api.ExecSpec) (string, *api.Streams, error) {
	if e.spec = spec; spec.Detach {
		return "exec-1", nil, nil
	}
	s := &api.Streams{}
	var ends [4]*os.File
	for i, f := range []**os.File{&s.Stdout, &s.Stderr, &s.Status, &s.Session} {
		*f, ends[i] = pair()
	}
	go func() {
		e.program(ends[0], ends[1], ends[2])
		for _, f := range ends {
			f.Close()
		}
	}()
	return "exec-1", s, nil
}

func pair() (a, b *os.File) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		panic(err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		unix.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
}

// lines reads the NDJSON of an exec without its times.
func lines(t *testing.T, body string) (all []map[string]any) {
	t.Helper()
	for text := range strings.Lines(body) {
		if len(text) >= 64<<10 {
			t.Errorf("a line of %d bytes", len(text))
		}
		var l map[string]any
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for _, name := range []string{"ts", "started_at"} {
			if s, there := l[name].(string); there {
				if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
					t.Error(err)
				}
				l[name] = ""
			}
		}
		all = append(all, l)
	}
	return all
}

func TestAnExecWithoutStreamsIsToldLineByLine(t *testing.T) {
	for name, c := range map[string]struct {
		program func(stdout, stderr, status *os.File)
		want    []string // in this order among those that have an order
		code    float64
	}{
		"lines": {func(out, _, st *os.File) {
			io.WriteString(out, "one\n\ntwo")
			proto.WriteStatus(st, proto.ProcessStatus{Code: 3})
		}, []string{"one", "", "two"}, 3},
		"a long line is cut": {func(out, _, st *os.File) {
			io.WriteString(out, strings.Repeat("\x01", 20<<10)+"\n")
			proto.WriteStatus(st, proto.ProcessStatus{})
		}, []string{strings.Repeat("\x01", 8<<10), strings.Repeat("\x01", 8<<10), strings.Repeat("\x01", 4<<10)}, 0},
		"killed": {func(_, _, st *os.File) {
			proto.WriteStatus(st, proto.ProcessStatus{Code: 137, Signal: 9})
		}, nil, -1},
		"gone with its machine": {func(_, _, _ *os.File) {}, nil, -1},
	} {
		t.Run(name, func(t *testing.T) {
			path := serve(t, &execs{program: c.program})
			status, body, header := raw(t, path, "POST", "/v1/instances/web/exec", `{"command":["x"],"env":{"A":"B"}}`)
			if status != 200 || header.Get("Content-Type") != "application/x-ndjson" {
				t.Errorf("answer is %d, %s", status, header.Get("Content-Type"))
			}
			all := lines(t, body)
			var got []string
			for _, l := range all[1 : len(all)-1] {
				got = append(got, l["line"].(string))
				delete(l, "line")
				if want := `{"exec_id":"exec-1","instance_id":"inst-1","source":"exec","stream":"stdout","ts":""}`; text(l) != want {
					t.Errorf("line %s", text(l))
				}
			}
			if strings.Join(got, "|") != strings.Join(c.want, "|") {
				t.Errorf("%d lines came: %.100q", len(got), got)
			}
			if first, last := text(all[0]), all[len(all)-1]; first != `{"exec_id":"exec-1","started_at":""}` ||
				last["exec_id"] != "exec-1" || last["done"] != true || last["exit_code"] != c.code || len(last) != 3 {
				t.Errorf("first %s, last %v", first, last)
			}
		})
	}
}

func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func TestExecsThatCannotBeToldByLinesAreRefused(t *testing.T) {
	path := serve(t, &execs{})
	for body, want := range map[string]string{
		`{"command":["x"],"tty":true}`:    "Upgrade: aegis-streams",
		`{"command":["x"],"stdin":true}`:  "Upgrade: aegis-streams",
		`{"comand":["x"]}`:                "unknown field",
		`{"command":["x"],"rows":"many"}`: "InvalidArgument",
	} {
		if status, got, _ := raw(t, path, "POST", "/v1/instances/web/exec", body); status != 400 || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s", body, status, got)
		}
	}
	status, got, _ := raw(t, path, "POST", "/v1/instances/web/exec", `{"command":["x"],"tty":true,"detach":true}`)
	if all := lines(t, got); status != 200 || len(all) != 1 || text(all[0]) != `{"exec_id":"exec-1","started_at":""}` {
		t.Errorf("detached: %d %s", status, got)
	}
}

func TestALineReaderThatGoesEndsTheExec(t *testing.T) {
	ended := make(chan struct{})
	path := serve(t, &execs{program: func(out, _, st *os.File) {
		defer close(ended)
		io.WriteString(out, "line\n")
		st.Read(make([]byte, 1)) // until the status is closed
	}})
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("POST", "http://aegis/v1/instances/web/exec", strings.NewReader(`{"command":["x"]}`))
	if err == nil {
		err = req.Write(conn)
	}
	if err != nil {
		t.Fatal(err)
	}
	conn.Read(make([]byte, 1))
	conn.Close()
	<-ended
}
