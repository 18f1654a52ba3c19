package instance

import (
	"github.com/xfeldman/aegisvm/api"
)

// cpuShare is how many virtual processors may share one of the host's.
// Memory is not shared: what a guest has touched it keeps.
const cpuShare = 8

func atRest(p api.Phase) bool { return p == api.PhaseStopped || p == api.PhaseFailed }

// admit refuses what the host cannot carry beside the instances that are not
// at rest or on disk. s.admission is held until the view of the new one is shown, so that
// two do not get the same memory.
func (s *Service) admit(id string, spec api.InstanceSpec) error {
	memory, cpus := 0, 0
	s.mu.Lock()
	for _, o := range s.owners {
		if in := o.view.Load(); in.ID != id && !atRest(in.Phase) && (in.Phase != api.PhaseHibernated || o.thawing.Load()) {
			memory, cpus = memory+in.MemoryMB, cpus+in.VCPUs
		}
	}
	s.mu.Unlock()
	switch most := s.Limits.CPUs * cpuShare; {
	case memory+spec.MemoryMB > s.Limits.MemoryMiB:
		return api.Errorf(api.LimitExceeded, "memory of %d MiB: other instances have %d of this host's %d: stop some or ask for less",
			spec.MemoryMB, memory, s.Limits.MemoryMiB)
	case cpus+spec.VCPUs > most:
		return api.Errorf(api.LimitExceeded, "%d cpus: other instances have %d of the %d that this host's %d processors can carry: stop some or ask for less",
			spec.VCPUs, cpus, most, s.Limits.CPUs)
	}
	return nil
}
