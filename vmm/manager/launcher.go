package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// Launcher starts workers.
type Launcher interface {
	// Launch starts a worker with its plan and descriptors, which it closes
	// in every case. The worker says on log what goes wrong before its
	// socket answers. On an error nothing is left.
	Launch(ctx context.Context, p worker.Plan, f worker.Files, log *os.File) (Process, error)
	// Discard ends whatever an earlier manager has launched for a machine
	// with the directory dir, and returns when it is gone; nothing there is
	// no error.
	Discard(ctx context.Context, id, dir string) error
}

// Children launches workers as plain child processes, each in a session of
// its own, which live on when we die.
type Children struct {
	// Binary is aegis-vmm-worker.
	Binary string
	// Register, if set, is called with the process of a worker that waits
	// for its plan; its error ends the worker.
	Register func(ctx context.Context, id string, pid int) error
}

// Launch implements Launcher.
func (l Children) Launch(ctx context.Context, p worker.Plan, f worker.Files, log *os.File) (Process, error) {
	defer f.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making the worker's pipe: %w", err)
	}
	defer theirs.Close()
	defer ours.Close()
	cmd := exec.Command(l.Binary)
	cmd.ExtraFiles, cmd.Stderr = f.Inherit(theirs), log
	cmd.SysProcAttr = detached(p.Jail != nil && p.Jail.UID == 0)
	if p.Jail != nil {
		jail := *p.Jail
		jail.Namespace = inNamespace(cmd.SysProcAttr)
		p.Jail = &jail
	}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, api.Errorf(api.Unavailable, "%s is missing: run make build, or install the package aegisvm", l.Binary)
		}
		return nil, fmt.Errorf("starting the worker: %w", err)
	}
	c := &child{cmd: cmd, done: make(chan struct{})}
	go c.reap() // ends with the worker
	if l.Register != nil {
		if err := l.Register(ctx, p.ID, cmd.Process.Pid); err != nil {
			c.Kill()
			<-c.done
			return nil, fmt.Errorf("registering the worker: %w", err)
		}
	}
	err = noteWorker(filepath.Dir(p.RunDir), cmd.Process.Pid)
	if err == nil {
		err = worker.WritePlan(ours, p)
	}
	if err != nil {
		c.Kill()
		<-c.done
		return nil, err
	}
	return c, nil
}

// Discard kills the worker that Launch has noted. One that is not noted was
// never told its plan, and goes by itself.
func (l Children) Discard(ctx context.Context, _, dir string) error { return endWorker(ctx, dir) }

type child struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (c *child) reap() {
	_ = c.cmd.Wait() // how it ended is in its record
	close(c.done)
}

func (c *child) Done() <-chan struct{} { return c.done }

func (c *child) Kill() error {
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
