package manager

import "context"

// Process is a worker or a monitor that runs.
type Process interface {
	// Done is closed when the process is gone.
	Done() <-chan struct{}
	// Kill sends it SIGKILL; a process that is gone is no error.
	Kill() error
}

func wait(ctx context.Context, p Process) error {
	select {
	case <-p.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release gives up watching a process that may run on.
func release(p Process) {
	if r, ok := p.(interface{ release() }); ok {
		r.release()
	}
}

// answering is a process that can only be known by its connection.
type answering struct {
	done <-chan struct{}
	kill func() error
}

func (a answering) Done() <-chan struct{} { return a.done }

func (a answering) Kill() error {
	if a.kill == nil {
		return nil
	}
	return a.kill()
}
