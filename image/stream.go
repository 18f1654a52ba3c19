package image

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// withStream lends f to work so that a pipe that nobody fills or empties holds
// nobody longer than ctx. A pipe must be the call's own: it is made
// non-blocking.
func withStream(ctx context.Context, f *os.File, work func(*os.File) error) error {
	if f == nil {
		return api.Errorf(api.InvalidArgument, "no file was handed over: expected a file, a pipe or a directory")
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return work(f)
	}
	own, err := pollable(f)
	if err != nil {
		return err
	}
	defer own.Close()
	defer context.AfterFunc(ctx, func() { own.SetDeadline(time.Unix(1, 0)) })()
	err = work(own)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// pollable makes a copy of a file that Go's poller waits for.
func pollable(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, failed := -1, error(nil)
	err = raw.Control(func(old uintptr) {
		if fd, failed = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); failed != nil {
			return
		}
		if failed = unix.SetNonblock(fd, true); failed != nil {
			unix.Close(fd)
		}
	})
	if err != nil || failed != nil {
		return nil, os.NewSyscallError("dup", failed)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
