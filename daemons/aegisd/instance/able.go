package instance

import (
	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// checkAble refuses the start of what this version can only keep. Every start
// asks it, and who opens ports: what becomes possible is deleted here.
func checkAble(spec api.InstanceSpec) error { return able(spec.Kit) }

// offered are the ports that an instance is to have: those of its record,
// unless nothing can ever be behind them.
func offered(in *api.Instance) []api.Expose {
	if able(in.Kit) != nil {
		return nil
	}
	return in.Exposes
}

func able(kit string) error {
	if kit != "" {
		return api.Errorf(api.Unavailable, "kit (--kit): this aegisd cannot start kits yet")
	}
	return nil
}

// firstStatus is the status of a new instance: it starts, or is only kept
// where its start is refused.
func (s *Service) firstStatus(refused error) store.Status {
	if refused == nil {
		return s.nextStart(store.Status{})
	}
	now := s.now()
	return store.Status{Phase: api.PhaseStopped, Enabled: true, HostBoot: s.HostBoot, LastError: refused.Error(), Updated: &now}
}
