package guestsession_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/guest/proto"
)

func TestListsOfTheGuestAreBoundedAndCleaned(t *testing.T) {
	g := &guest{list: &proto.ListResponse{Processes: []*proto.ProcessInfo{{
		Id: "a\x1b]0;title\a", Argv: append(strings.Fields(strings.Repeat("x ", 1000)), "\n"), StartedUnixNano: 5, Terminal: true,
		Lifetime: proto.Lifetime_LIFETIME_DETACHED, Attached: true, Exit: &proto.ExitStatus{Code: 1<<31 + 3, Signal: 1<<31 + 9},
	}}}}
	s := open(t, g)
	got, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []guestsession.Info{{
		ID: "a ]0;title", Argv: strings.Fields(strings.Repeat("x ", 32)), Started: time.Unix(0, 5).UTC(), Terminal: true,
		Lifetime: proto.Lifetime_LIFETIME_DETACHED, Attached: true, Exit: &proto.ProcessStatus{Code: 3, Signal: 9},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	g.list = &proto.ListResponse{Processes: make([]*proto.ProcessInfo, 1025)}
	for i := range g.list.Processes {
		g.list.Processes[i] = &proto.ProcessInfo{}
	}
	if _, err := open(t, g).List(t.Context()); err == nil || !strings.Contains(err.Error(), "1025") {
		t.Errorf("a list without end: %v", err)
	}
}

func TestAnOlderGuestIsNotAskedForWhatItIgnores(t *testing.T) {
	s := open(t, &guest{hello: &proto.HelloResponse{Version: 1000}})
	for name, p := range map[string]guestsession.Process{
		"terminal": {Terminal: &guestsession.Terminal{}},
		"lifetime": {Lifetime: proto.Lifetime_LIFETIME_CLIENT},
		"timeout":  {Timeout: time.Second},
	} {
		p.ID, p.Argv = "p", []string{"x"}
		if err := s.Start(t.Context(), p); !errors.Is(err, guestsession.ErrOld) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Start(t.Context(), guestsession.Process{ID: "p", Argv: []string{"x"}, Streams: true}); err != nil {
		t.Errorf("what it knows: %v", err)
	}
}

func TestRefusalsOfTheGuestAreToldApart(t *testing.T) {
	for code, want := range map[codes.Code]error{
		codes.NotFound: guestsession.ErrNoProcess, codes.FailedPrecondition: guestsession.ErrNoTerminal,
		codes.ResourceExhausted: guestsession.ErrMany, codes.Unimplemented: guestsession.ErrOld,
	} {
		err := open(t, &guest{err: status.Error(code, "no")}).Resize(t.Context(), "p", 1, 2)
		if !errors.Is(err, want) || !guestsession.Refused(err) {
			t.Errorf("%v: %v", code, err)
		}
	}
	if err := open(t, &guest{err: status.Error(codes.Internal, "no")}).Resize(t.Context(), "p", 1, 2); guestsession.Refused(err) || err == nil {
		t.Errorf("a failure: %v", err)
	}
	s := open(t, &guest{list: &proto.ListResponse{Processes: []*proto.ProcessInfo{{Id: "there"}}}})
	if p, err := s.Find(t.Context(), "there"); err != nil || p.ID != "there" {
		t.Errorf("finding it: %+v, %v", p, err)
	}
	if _, err := s.Find(t.Context(), "not"); !errors.Is(err, guestsession.ErrNoProcess) {
		t.Errorf("finding another: %v", err)
	}
}

func TestActivityOfTheGuestIsBounded(t *testing.T) {
	a, err := open(t, &guest{}).Activity(t.Context())
	if want := (guestsession.Activity{CPU: 5, NetworkBytes: 6, DiskBytes: 7}); a != want || err != nil {
		t.Errorf("activity %+v, %v", a, err)
	}
	if _, err := open(t, &guest{hello: &proto.HelloResponse{Version: 1005}}).Activity(t.Context()); !errors.Is(err, guestsession.ErrOld) {
		t.Errorf("of an older guest: %v", err)
	}
}
