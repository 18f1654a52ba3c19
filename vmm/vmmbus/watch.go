package vmmbus

import (
	"context"
	"time"

	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/vmm"
)

// Watch follows all machines, also over a restart of vmmd: its successor's
// list comes then, and machines that it does not know any more are told as
// ended. The channel is closed when ctx or the connection ends.
func (c *Client) Watch(ctx context.Context) (<-chan vmm.Info, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{client: c, out: make(chan vmm.Info), last: make(map[string]vmm.Info)}
	changes, err := c.manager().Subscribe(ctx, "MachineChanged")
	if err != nil {
		cancel()
		return nil, watchError(err)
	}
	owners, err := c.conn.SubscribeOwner(ctx, bus.VmmName)
	if err != nil {
		cancel()
		return nil, watchError(err)
	}
	first, err := w.catchUp(ctx)
	if err != nil {
		cancel()
		return nil, watchError(err)
	}
	go func() {
		defer cancel()
		defer close(w.out)
		w.run(ctx, first, changes.C, owners.C)
	}()
	return w.out, nil
}

// watch is one call of Watch.
type watch struct {
	client   *Client
	out      chan vmm.Info
	sequence uint64 // of the newest change that was sent
	last     map[string]vmm.Info
}

func (w *watch) run(ctx context.Context, first []vmm.Info, changes, owners <-chan bus.Signal) {
	if !w.send(ctx, first) {
		return
	}
	for {
		var next []vmm.Info
		select {
		case s, ok := <-changes:
			if !ok {
				return
			}
			next = w.change(s)
		case s, ok := <-owners:
			if !ok {
				return
			}
			if s.Body[2] == "" {
				continue // it went; its successor tells what became of the machines
			}
			var err error
			if next, err = w.catchUp(ctx); err != nil {
				return // its reader calls Watch anew
			}
		case <-ctx.Done():
			return
		}
		if !w.send(ctx, next) {
			return
		}
	}
}

// change reads one MachineChanged; one that a list had already is dropped.
func (w *watch) change(s bus.Signal) []vmm.Info {
	if len(s.Body) != 2 {
		return nil
	}
	sequence, ok := s.Body[0].(uint64)
	d, isDict := s.Body[1].(bus.Dict)
	if !ok || !isDict || sequence <= w.sequence {
		return nil
	}
	w.sequence = sequence
	i, err := info(d)
	if err != nil {
		return nil
	}
	return []vmm.Info{i}
}

// catchUp lists the machines of a vmmd and tells those that are gone as
// ended.
func (w *watch) catchUp(ctx context.Context) ([]vmm.Info, error) {
	var all []bus.Dict
	if err := w.client.manager().Call(ctx, "Watch", nil, &w.sequence, &all); err != nil {
		return nil, err
	}
	list, err := bus.FromDicts(all, info)
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool)
	for _, i := range list {
		there[i.ID] = true
	}
	for id, i := range w.last {
		if !there[id] {
			i.State, i.Pid, i.WorkerPid = vmm.StateEnded, 0, 0
			i.Exit = &vmm.Exit{Reason: vmm.ReasonWorkerLost, Detail: "vmmd was restarted and does not know the machine any more", Time: time.Now()}
			list = append(list, i)
		}
	}
	return list, nil
}

func (w *watch) send(ctx context.Context, list []vmm.Info) bool {
	for _, i := range list {
		if i.State == vmm.StateEnded {
			delete(w.last, i.ID)
		} else {
			w.last[i.ID] = i
		}
		select {
		case w.out <- i:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
