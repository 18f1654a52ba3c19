package run

import (
	"cmp"
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
	stdout := &output{name: "standard output", dst: c.Stdout, src: s.Stdout}
	stderr := &output{name: "standard error", dst: c.Stderr, src: s.Stderr}
	if s.Terminal != nil {
		stdout.name, stdout.src = "the terminal", s.Terminal
	}
	outputs.Go(func() {
		defer c.Console.Guard()
		f.drain(stdout)
		c.Console.Restore() // a guest that tells no end must not keep the keys
	})
	outputs.Go(func() { f.drain(stderr) })
	go func() {
		said, err := proto.ReadEnd(s.Status)
		end := ending{status: said.ProcessStatus, gone: err}
		outputs.Wait()
		end.lost = errors.Join(stdout.lost, stderr.lost)
		if written := said.Output; written != nil && end.lost == nil {
			end.lost = cmp.Or(stdout.missing(written.Stdout), stderr.missing(written.Stderr))
		}
		if len(f.broken) == 0 {
			f.ended <- end
		}
	}()
	return f
}

// output is one of a program's.
type output struct {
	name     string
	dst, src *os.File
	copied   int64
	lost     error // why it ended early, if it did
}

// missing tells that fewer bytes came than the program had written when it
// ended: a machine that dies ends its streams as a program does.
func (o *output) missing(written int64) error {
	if o.src == nil || o.copied >= written {
		return nil
	}
	return fmt.Errorf("%s of the program broke off after %d of %d bytes: its machine went before the rest had come", o.name, o.copied, written)
}

// drain copies one output.
func (f *flow) drain(o *output) {
	if o.src == nil {
		return
	}
	var err error
	o.copied, err = copyCounted(o.dst, o.src)
	if r, ok := errors.AsType[readError](err); ok {
		o.lost = fmt.Errorf("%s of the program broke off: %w", o.name, r.error)
		return
	}
	switch {
	case err == nil:
	case errors.Is(err, syscall.EPIPE):
		f.broken <- tornError{syscall.SIGPIPE}
	default:
		f.broken <- fmt.Errorf("writing %s: %w", o.name, err)
	}
}

// feed passes the caller's input on and ends it where it ends. Whether the
// program reads it is the program's business.
func feed(dst, src *os.File) {
	_ = copyStream(dst, src)
	if raw, err := dst.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	}
}
