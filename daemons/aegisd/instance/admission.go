package instance

import (
	"github.com/xfeldman/aegisvm/api"
)

// cpuShare is how many virtual processors may share one of the host's.
// Memory is not shared: what a guest has touched it keeps.
const cpuShare = 8

func atRest(p api.Phase) bool { return p == api.PhaseStopped || p == api.PhaseFailed }

// admit refuses what the host cannot carry beside the instances that are not
// at rest or on disk. s.admission is held until the view of the new one is
// shown, so that two do not get the same memory.
func (s *Service) admit(id string, spec api.InstanceSpec) error {
	memory, cpus := s.carried(id)
	if most := s.Limits.CPUs * cpuShare; cpus+spec.VCPUs > most && memory+spec.MemoryMB <= s.Limits.MemoryMiB {
		return api.Errorf(api.LimitExceeded, "%d cpus: other instances have %d of the %d that this host's %d processors can carry: stop some or ask for less",
			spec.VCPUs, cpus, most, s.Limits.CPUs)
	}
	return s.admitMemory(memory, spec)
}

// admitMemory is admit for what was admitted before and has kept all but its
// memory: many that share the processors are slow, and none is refused.
func (s *Service) admitMemory(taken int, spec api.InstanceSpec) error {
	if taken+spec.MemoryMB > s.Limits.MemoryMiB {
		return api.Errorf(api.LimitExceeded, "memory of %d MiB: other instances have %d of this host's %d: stop some or ask for less",
			spec.MemoryMB, taken, s.Limits.MemoryMiB)
	}
	return nil
}

// carried is what the instances but one have of the host.
func (s *Service) carried(but string) (memory, cpus int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owners {
		if in := o.view.Load(); in.ID != but && !atRest(in.Phase) && (in.Phase != api.PhaseHibernated || o.thawing.Load()) {
			memory, cpus = memory+in.MemoryMB, cpus+in.VCPUs
		}
	}
	return memory, cpus
}
