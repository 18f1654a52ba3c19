package manager

import (
	"context"
	"time"

	"github.com/xfeldman/aegisvm/vmm"
)

// discardGrace bounds one attempt to end what is left of a worker.
const discardGrace = 10 * time.Second

// bury ends the machine of a worker that is gone, or silent for too long. If
// anything of it lives after all, it must not go on without anybody who knows
// of it, and its user and its disks must not become another's: the machine has
// ended when nothing of it is left, however long that takes. It calls failed
// when that is not at once.
func (x *machine) bury(why error, failed func()) {
	over := insist(x.manager.ctx, func() bool {
		err := x.discard()
		if err != nil {
			x.manager.config.Log.Warn("ending what is left of a worker", "machine", x.id, "err", err)
			failed()
		}
		return err == nil
	})
	if over {
		x.buried(why)
	}
}

// discard ends what is left of the worker.
func (x *machine) discard() error {
	ctx, cancel := context.WithTimeout(x.manager.ctx, discardGrace)
	defer cancel()
	return x.manager.config.Launcher.Discard(ctx, x.id, x.dir)
}

// insist repeats do until it says that it is done, ever more seldom; false
// when ctx ends first.
func insist(ctx context.Context, do func() bool) bool {
	const shortest, longest = 50 * time.Millisecond, 5 * time.Second
	for backoff := shortest; !do(); backoff = min(2*backoff, longest) {
		again := time.NewTimer(backoff)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return false
		}
	}
	return true
}

func (x *machine) buried(why error) {
	exit := x.recorded()
	x.update(func(i *vmm.Info) { i.State, i.Exit = vmm.StateEnded, &exit })
	close(x.gone)
	x.manager.config.Log.Info("machine has ended meanwhile", "machine", x.id, "reason", exit.Reason, "why", why)
}
