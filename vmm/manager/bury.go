package manager

import (
	"context"
	"time"

	"github.com/xfeldman/aegisvm/vmm"
)

// bury ends the machine of a worker that does not answer. Should that live
// after all, it must not go on without anybody who knows of it, and its user
// and its disks must not become another's: the machine has ended when nothing
// of it is left, however long that takes.
func (x *machine) bury(why error) {
	x.process = answering{done: x.gone, kill: x.discard}
	if x.discard() == nil {
		x.buried(why)
		return
	}
	x.manager.tasks.Add(1)
	go func() { // ends with the manager
		defer x.manager.tasks.Done()
		if x.insist() {
			x.buried(why)
		}
	}()
}

// discard ends what is left of the worker.
func (x *machine) discard() error {
	ctx, cancel := context.WithTimeout(x.manager.ctx, adoptGrace)
	defer cancel()
	err := x.manager.config.Launcher.Discard(ctx, x.id, x.dir)
	if err != nil {
		x.manager.config.Log.Warn("ending a worker that does not answer", "machine", x.id, "err", err)
	}
	return err
}

// insist repeats discard until it succeeds; false when the manager goes first.
func (x *machine) insist() bool {
	const shortest, longest = 50 * time.Millisecond, 30 * time.Second
	for backoff := shortest; ; backoff = min(2*backoff, longest) {
		again := time.NewTimer(backoff)
		select {
		case <-again.C:
		case <-x.manager.ctx.Done():
			again.Stop()
			return false
		}
		if x.discard() == nil {
			return true
		}
	}
}

func (x *machine) buried(why error) {
	exit := x.recorded()
	x.update(func(i *vmm.Info) { i.State, i.Exit = vmm.StateEnded, &exit })
	close(x.gone)
	x.manager.config.Log.Info("machine has ended meanwhile", "machine", x.id, "reason", exit.Reason, "why", why)
}
