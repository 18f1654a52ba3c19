package instance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/instance"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// errDead is what happens to the calls of an aegisd that was killed.
var errDead = errors.New("aegisd was killed")

// fate kills aegisd after so many calls of others: none of the later ones
// arrives.
type fate struct {
	mu   sync.Mutex // guards the fields below
	left int
	died chan struct{} // closed then
}

func newFate(calls int) *fate { return &fate{left: calls, died: make(chan struct{})} }

func (f *fate) pass(string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left--; f.left >= 0 {
		return nil
	}
	if f.left == -1 {
		close(f.died)
	}
	return errDead
}

// doomed are records that are not written any more when aegisd is dead.
type doomed struct {
	instance.Records
	fate func() *fate
}

func (d doomed) Update(ctx context.Context, id string, st store.Status) error {
	if f := d.fate(); f != nil {
		if err := f.pass(""); err != nil {
			return err
		}
	}
	return d.Records.Update(ctx, id, st)
}

// doom makes aegisd die after so many calls; the function that it returns
// brings the next one.
func (w *world) doom(calls int) (f *fate, raise func()) {
	f = newFate(calls)
	w.fateMu.Lock()
	w.fate = f
	w.fateMu.Unlock()
	w.machines.befall(f.pass)
	return f, func() {
		w.kill()
		w.machines.befall(nil)
		w.fateMu.Lock()
		w.fate = nil
		w.fateMu.Unlock()
		w.start()
	}
}

// TestADaemonThatDiesOnTheWayToSleepAndBack kills aegisd between every two
// steps: in the end there is one instance with the program that it had.
func TestADaemonThatDiesOnTheWayToSleepAndBack(t *testing.T) {
	for name, c := range map[string]struct {
		before, verb string
	}{
		"from running to disk": {"resume", "hibernate"},
		"from paused to disk":  {"pause", "hibernate"},
		"from disk to running": {"hibernate", "resume"},
	} {
		for calls, done := 0, false; !done; calls++ {
			t.Run(fmt.Sprintf("%s, %d", name, calls), func(t *testing.T) {
				w := newWorld(t)
				w.records = func(r instance.Records) instance.Records {
					return doomed{r, func() *fate {
						w.fateMu.Lock()
						defer w.fateMu.Unlock()
						return w.fate
					}}
				}
				w.restart()
				w.create(web())
				in := w.awaitPhase("web", api.PhaseRunning)
				w.awaitPrinted("ready")
				first := w.machine("web").Identity().GetEntropy()
				w.call(c.before)
				f, raise := w.doom(calls)
				answer := make(chan error, 1)
				go func() { answer <- callers[c.verb](t.Context(), w) }()
				select {
				case err := <-answer:
					if done = err == nil; done {
						f.mu.Lock()
						done = f.left > 0 // it died after its answer
						f.mu.Unlock()
					}
				case <-f.died:
				}
				raise()
				w.await("web", "an instance that is there", func(in api.Instance, _ error) bool {
					return in.Phase == api.PhasePaused || in.Phase == api.PhaseHibernated || in.Phase == api.PhaseRunning
				})
				w.wantAlive()
				now := w.awaitPhase("web", api.PhaseRunning)
				if told := w.machine("web").Identity().GetEntropy(); now.Machine != in.Machine && bytes.Equal(told, first) {
					t.Error("its guest does not know that it is in another machine")
				}
				w.call("delete")
				w.awaitGone(in.ID)
			})
			if t.Failed() || calls > 60 {
				t.Fatalf("%s: stopped after %d", name, calls)
			}
		}
	}
}
