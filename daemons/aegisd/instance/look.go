package instance

import (
	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// onMachineTurned is told that a machine was paused or goes on: by a call that
// was given up here and not by the manager, or by somebody else's. What the
// manager tells may be old by now, so it only says that a look is due.
func (o *owner) onMachineTurned(b *boot, state vmm.State) {
	phase := o.rec.Status.Phase
	switch {
	case b.outcome != nil, phase != api.PhaseRunning && phase != api.PhasePaused:
	case b.turn != nil:
		b.heard = state
	case string(state) != string(phase):
		o.look(b)
	}
}

// look finds out whether a machine runs. It is a turn to wherever the machine
// is, so that nobody turns it meanwhile.
func (o *owner) look(b *boot) {
	t, phase, session, unaware := o.newTurn(b, "", ""), o.rec.Status.Phase, b.session, o.rec.Status.Sleep.Unaware
	o.svc.tasks.Go(func() {
		ctx, cancel := o.svc.bounded()
		defer cancel()
		info, err := o.svc.Machines.Get(ctx, b.machine)
		if info.State == vmm.StateRunning && phase == api.PhasePaused {
			o.tellAwake(b, session, unaware)
		}
		o.post(func() { o.onTurned(b, t, info.State, err) })
	})
}
