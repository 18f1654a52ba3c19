package instance

import (
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// watch tells owners what becomes of their machines until the service closes.
// A manager that goes away is followed again when it is back, and what ended
// meanwhile without a trace is found out then.
func (s *Service) watch() {
	const shortest, longest = 50 * time.Millisecond, 5 * time.Second
	for backoff := shortest; s.ctx.Err() == nil; backoff = min(2*backoff, longest) {
		infos, err := s.Machines.Watch(s.ctx)
		if err != nil {
			s.Log.Warn("cannot follow the machines", "error", err)
			if !pause(s.ctx, backoff) {
				return
			}
			continue
		}
		s.findVanished()
		for info := range infos {
			backoff = shortest
			s.onMachine(info)
		}
		if !pause(s.ctx, backoff) {
			return
		}
	}
}

func (s *Service) onMachine(info vmm.Info) {
	o := s.ownerOf(info.ID)
	switch {
	case o == nil:
	case info.State == vmm.StateEnded && info.Exit != nil:
		s.machineEnded(o, info.ID, *info.Exit)
	case info.State == vmm.StateRunning, info.State == vmm.StatePaused:
		s.machineTurned(o, info.ID, info.State)
	}
}

func (s *Service) machineEnded(o *owner, machine string, exit vmm.Exit) {
	o.post(func() {
		if b := o.boot; b != nil && b.machine == machine {
			o.onMachineEnd(b, exit)
		}
	})
}

func (s *Service) machineTurned(o *owner, machine string, state vmm.State) {
	o.post(func() {
		if b := o.boot; b != nil && b.machine == machine {
			o.onMachineTurned(b, state)
		}
	})
}

// findVanished compares the machines that run with what the manager has.
func (s *Service) findVanished() {
	s.mu.Lock()
	running := make(map[string]*owner, len(s.machines))
	for machine, o := range s.machines {
		if p := o.view.Load().Phase; p == api.PhaseRunning || p == api.PhasePaused {
			running[machine] = o
		}
	}
	s.mu.Unlock()
	ctx, cancel := s.bounded()
	defer cancel()
	infos, err := s.Machines.List(ctx)
	if err != nil {
		s.Log.Warn("cannot list the machines", "error", err)
		return
	}
	for _, info := range infos {
		delete(running, info.ID)
	}
	for machine, o := range running {
		s.machineEnded(o, machine, vanished)
	}
}
