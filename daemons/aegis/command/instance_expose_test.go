package command

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

func (f *livingAegis) Expose(_ context.Context, ref string, e api.Expose) (api.Endpoint, error) {
	if _, err := f.find("expose "+e.String(), ref); err != nil {
		return api.Endpoint{}, err
	}
	e = e.WithDefaults()
	return api.Endpoint{GuestPort: e.GuestPort, PublicPort: 8000, Protocol: e.Protocol, Bind: e.Bind}.WithURL(), nil
}

func (f *livingAegis) Unexpose(_ context.Context, ref string, port int, p api.Protocol) error {
	_, err := f.find("unexpose "+api.Expose{GuestPort: port, Protocol: p}.String(), ref)
	return err
}

func TestWhyTellsOfPorts(t *testing.T) {
	url := api.Endpoint{GuestPort: 80, PublicPort: 8000, Protocol: "http", Bind: "127.0.0.1"}.WithURL()
	taken := url
	taken.Trouble = "port 8000 is taken"
	for want, in := range map[string]api.Instance{
		"clients of its programs: 2":          {Phase: api.PhaseRunning, Enabled: true, ActiveConnections: 2},
		"a connection wakes it: http://":      {Phase: api.PhasePaused, Enabled: true, Reach: api.Reach{Endpoints: []api.Endpoint{url}}},
		"a connection wakes it: http://127":   {Phase: api.PhaseStopped, Enabled: true, Restart: api.RestartOnDemand, Reach: api.Reach{Endpoints: []api.Endpoint{url}}},
		"connections are refused: its policy": {Phase: api.PhaseFailed, Enabled: true, Restart: api.RestartNever, Reach: api.Reach{Endpoints: []api.Endpoint{url}}},
		"vm:80 (closed: port 8000 is taken)":  {Phase: api.PhaseRunning, Enabled: true, Reach: api.Reach{Endpoints: []api.Endpoint{taken}}},
	} {
		if got := reasons(in, time.Now()); !slices.ContainsFunc(got, func(l string) bool { return strings.Contains(l, want) }) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}
