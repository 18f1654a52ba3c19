package apitest

import (
	"context"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

// later are specs that are kept and not started, by the field that says why.
func later() map[string]api.InstanceSpec {
	return map[string]api.InstanceSpec{
		"kit": {Kit: "agent"},
	}
}

func (s suite) notYet() {
	for word, spec := range later() {
		spec.Handle = "web"
		in := s.keptAtRest(word, spec)
		if in.Kit != spec.Kit || in.Command == nil {
			s.Errorf("%s is read back as %+v", word, in)
		}
		other := spec
		other.Exposes = []api.Expose{{GuestPort: 81}}
		_, err := s.Create(s.Context(), api.Caller{}, other)
		s.wantCode("the name with another port", err, api.Exists)
		if err := s.Delete(s.Context(), "web"); err != nil {
			s.Fatal(err)
		}
	}
}

// keptAtRest creates what is not started, twice, and tries every start of it.
func (s suite) keptAtRest(word string, spec api.InstanceSpec) api.Instance {
	s.Helper()
	_, err := s.Create(s.Context(), api.Caller{}, spec)
	s.wantCode(word, err, api.Unavailable)
	if err != nil && !strings.Contains(err.Error(), "instance web is kept and stopped") {
		s.Errorf("%s: %v", word, err)
	}
	in, err := s.Get(s.Context(), "web")
	s.must(word, in, err, api.PhaseStopped)
	if !strings.HasPrefix(in.LastError, word+" (--") || in.Machine != "" || !in.Enabled || in.Starts != 0 {
		s.Errorf("%s is kept as %+v", word, in)
	}
	for name, start := range map[string]func(context.Context) error{
		"create": func(ctx context.Context) error { _, err := s.Create(ctx, api.Caller{}, spec); return err },
		"start":  func(ctx context.Context) error { _, err := s.Start(ctx, "web"); return err },
		"again":  func(ctx context.Context) error { _, err := s.Restart(ctx, "web"); return err },
	} {
		err := start(s.Context())
		s.wantCode(name, err, api.Unavailable)
		if err != nil && !strings.Contains(err.Error(), word+" (--") {
			s.Errorf("%s: %v", name, err)
		}
	}
	after, err := s.Get(s.Context(), "web")
	if diff := cmp.Diff(in, after); diff != "" || err != nil {
		s.Errorf("the refusals changed it: %v %s", err, diff)
	}
	return in
}

func (s suite) notYetEphemeral() {
	for word, spec := range later() {
		spec.AutoRemove, spec.Attach = true, true
		_, err := s.Create(s.Context(), api.Caller{}, spec)
		s.wantCode(word, err, api.Unavailable)
	}
	if left := s.handles(); len(left) > 0 {
		s.Errorf("kept: %v", left)
	}
}

func (s suite) exposeRefusals() {
	one := func(e ...api.Expose) []api.Expose { return e }
	for want, all := range map[string][][]api.Expose{
		"guest_port 0: expected":     {one(api.Expose{})},
		"guest_port 65536: expected": {one(api.Expose{GuestPort: 65536})},
		"public_port -1: expected":   {one(api.Expose{GuestPort: 80, PublicPort: -1})},
		`protocol "gopher"`:          {one(api.Expose{GuestPort: 80, Protocol: "gopher"})},
		`bind "localhost"`:           {one(api.Expose{GuestPort: 80, Bind: "localhost"})},
		"65 exposes":                 {make([]api.Expose, 65)},
		"guest_port 80 is there twice": {
			one(api.Expose{GuestPort: 80}, api.Expose{GuestPort: 80, Protocol: api.ProtocolTCP}),
			one(api.Expose{GuestPort: 80, PublicPort: 1}, api.Expose{GuestPort: 80, PublicPort: 2}),
		},
		"public_port 8 is there twice": {
			one(api.Expose{GuestPort: 80, PublicPort: 8}, api.Expose{GuestPort: 81, PublicPort: 8}),
			one(api.Expose{GuestPort: 80, PublicPort: 8}, api.Expose{GuestPort: 81, PublicPort: 8, Bind: "0.0.0.0"}),
			one(api.Expose{GuestPort: 80, PublicPort: 8, Bind: "::ffff:127.0.0.1"}, api.Expose{GuestPort: 81, PublicPort: 8}),
		},
	} {
		for _, exposes := range all {
			_, err := s.Create(s.Context(), api.Caller{}, api.InstanceSpec{Command: []string{"sleep"}, Exposes: exposes})
			s.wantCode(want, err, api.InvalidArgument)
			if err != nil && !strings.Contains(err.Error(), want) {
				s.Errorf("%+v: %v; want %q", exposes, err, want)
			}
		}
	}
}
