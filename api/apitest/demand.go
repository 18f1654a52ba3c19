package apitest

import (
	"strings"

	"github.com/xfeldman/aegisvm/api"
)

// onDemand has an exec of an instance at rest with every policy.
func (s suite) onDemand() {
	ctx := s.Context()
	exec := api.ExecSpec{Command: []string{"sleep"}, Detach: true}
	for _, policy := range []api.RestartPolicy{api.RestartNever, api.RestartOnFailure, api.RestartAlways} {
		s.running(api.InstanceSpec{Handle: string(policy), Command: []string{"sleep"}, Restart: policy})
		if _, err := s.Stop(ctx, string(policy)); err != nil {
			s.Fatal(err)
		}
		_, _, err := s.Exec(ctx, string(policy), exec)
		s.wantCode("exec of one at rest, "+string(policy), err, api.BadState)
	}
	s.running(api.InstanceSpec{Handle: "web", Command: []string{"sleep"}, Restart: api.RestartOnDemand})
	if _, err := s.Stop(ctx, "web"); err != nil {
		s.Fatal(err)
	}
	_, err := s.Execs(ctx, "web")
	s.wantCode("a look at what runs", err, api.BadState)
	results := make(chan error)
	const callers = 5
	for range callers {
		go func() {
			_, _, err := s.Exec(ctx, "web", exec)
			results <- err
		}()
	}
	for range callers {
		if err := <-results; err != nil {
			s.Errorf("exec on demand: %v", err)
		}
	}
	in, err := s.Get(ctx, "web")
	if s.must("on demand", in, err, api.PhaseRunning); in.Starts != 2 {
		s.Errorf("%d starts for %d callers at once", in.Starts, callers)
	}
	if _, err := s.Disable(ctx, "web"); err != nil {
		s.Fatal(err)
	}
	_, _, err = s.Exec(ctx, "web", exec)
	s.wantCode("exec of a disabled one", err, api.BadState)
}

func (s suite) onDemandFails() {
	s.create(api.InstanceSpec{Handle: "bad", Command: []string{"sleep"}, ImageRef: "/no/such/image", Restart: api.RestartOnDemand})
	s.awaitPhase("bad", api.PhaseFailed)
	_, _, err := s.Exec(s.Context(), "bad", api.ExecSpec{Command: []string{"sleep"}, Detach: true})
	s.wantCode("exec of one that cannot start", err, api.Unavailable)
	if err != nil && !strings.Contains(err.Error(), "/no/such/image") {
		s.Errorf("the reason: %v", err)
	}
}

func (s suite) activity() {
	in := s.create(attached("trap"))
	streams := s.attach(in.ID)
	one := s.awaitPhase(in.ID, api.PhaseRunning)
	id, exec, err := s.Exec(s.Context(), in.ID, api.ExecSpec{Command: []string{"cat"}, Stdin: true})
	if err != nil {
		s.Fatal(id, err)
	}
	two, err := s.Get(s.Context(), in.ID)
	if err != nil || one.ActiveConnections != 1 || two.ActiveConnections != 2 {
		s.Errorf("connections: %d, then %d, %v", one.ActiveConnections, two.ActiveConnections, err)
	}
	exec.Close()
	streams.Session.Close()
}
