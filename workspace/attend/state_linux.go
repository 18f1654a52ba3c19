package attend

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// state is the folder of what the server of the machine must know.
func (a *attendant) state() string { return filepath.Join(a.State, a.Machine) }

// openState makes it the owner's, and holds it: nobody but root can enter the
// folder that it is in, and root cannot read it here once it is the owner's.
func (a *attendant) openState() (*os.File, error) {
	if err := os.MkdirAll(a.state(), 0o700); err != nil {
		return nil, fmt.Errorf("the server's state: %w", err)
	}
	f, err := os.OpenFile(a.state(), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("the server's state: %w", err)
	}
	if a.Everybody {
		if err := unix.Fchownat(int(f.Fd()), "", int(a.Owner), -1, unix.AT_EMPTY_PATH); err != nil {
			f.Close()
			return nil, fmt.Errorf("the server's state: %w", err)
		}
	}
	return f, nil
}

// lock waits for the server before this one, which may still be on its way
// out. The lock is held until it is closed.
func lock(state *os.File) (*os.File, error) {
	f, err := os.Open(pathOf(state))
	if err != nil {
		return nil, fmt.Errorf("the server's state: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("waiting for the server before: %w", err)
		}
	}
}

// forget removes the state of a machine's server. It is taken back first:
// root has no power over the folders of others here.
func (a *attendant) forget() error {
	if a.Everybody {
		if err := os.Lchown(a.state(), 0, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the server's state: %w", err)
		}
	}
	if err := os.RemoveAll(a.state()); err != nil {
		return fmt.Errorf("the server's state: %w", err)
	}
	return nil
}
