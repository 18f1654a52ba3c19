package run

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// ending is how the streams of a program ended.
type ending struct {
	status proto.ProcessStatus
	// gone says why there is no status.
	gone error
	// lost says that output may be missing.
	lost error
}

// flow is the traffic between a program and its caller. One of its channels
// tells, once, how it ended.
type flow struct {
	// ended: the status and both outputs have ended.
	ended chan ending
	// broken: the caller's own descriptors cannot be written.
	broken chan error
}

// connect starts the copying. Its goroutines end with the streams; the one
// that reads the caller's stdin ends at its next byte after that, or with the
// process.
func (c *Client) connect(s *api.Streams) *flow {
	f := &flow{ended: make(chan ending, 1), broken: make(chan error, 2)}
	if s.Stdin != nil && c.Stdin != nil {
		go feed(s.Stdin, c.Stdin)
	}
	var outputs sync.WaitGroup
	var lost [2]error
	outputs.Go(func() { lost[0] = f.drain(c.Stdout, s.Stdout, "standard output") })
	outputs.Go(func() { lost[1] = f.drain(c.Stderr, s.Stderr, "standard error") })
	go func() {
		var end ending
		end.status, end.gone = proto.ReadStatus(s.Status)
		outputs.Wait()
		end.lost = errors.Join(lost[:]...)
		if len(f.broken) == 0 {
			f.ended <- end
		}
	}()
	return f
}

// drain copies one output and returns why it ended early, if it did.
func (f *flow) drain(dst, src *os.File, name string) error {
	if src == nil {
		return nil
	}
	err := copyStream(dst, src)
	if r, ok := errors.AsType[readError](err); ok {
		return fmt.Errorf("%s of the program broke off: %w", name, r.error)
	}
	switch {
	case err == nil:
	case errors.Is(err, syscall.EPIPE):
		f.broken <- tornError{syscall.SIGPIPE}
	default:
		f.broken <- fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// feed passes the caller's input on and ends it where it ends. Whether the
// program reads it is the program's business.
func feed(dst, src *os.File) {
	_ = copyStream(dst, src)
	if raw, err := dst.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	}
}
