// Package fdstore gives descriptors to systemd to keep over the death of this
// process, and takes those that it has kept. It knows nothing of what they
// are.
package fdstore

import (
	"fmt"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Take gives the descriptors that systemd has kept for this process, by name,
// once: the environment does not tell of them afterwards. Of several with one
// name the last counts.
func Take() map[string]*os.File {
	kept := map[string]*os.File{}
	for _, f := range activation.Files(true) {
		if old := kept[f.Name()]; old != nil {
			old.Close()
		}
		kept[f.Name()] = f
	}
	return kept
}

// Store is the store of this service. The zero value does nothing, as where
// systemd did not start us.
type Store struct{ socket string }

// Open finds the store of this service.
func Open() Store { return Store{os.Getenv("NOTIFY_SOCKET")} }

// Keep gives a copy of f to systemd. It is not watched: a socket whose peer
// has gone stays.
func (s Store) Keep(name string, f *os.File) error {
	return s.tell("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, f)
}

// Drop has systemd close all that it keeps of a name.
func (s Store) Drop(name string) error { return s.tell("FDSTOREREMOVE=1\nFDNAME="+name, nil) }

// tell sends one notification. A socket that is connected would not do: Go
// does not send descriptors over it.
func (s Store) tell(state string, f *os.File) error {
	if s.socket == "" {
		return nil
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("telling systemd: %w", err)
	}
	defer c.Close()
	var rights []byte
	if f != nil {
		raw, err := f.SyscallConn()
		if err != nil {
			return fmt.Errorf("telling systemd: %w", err)
		}
		if err := raw.Control(func(fd uintptr) { rights = unix.UnixRights(int(fd)) }); err != nil {
			return fmt.Errorf("telling systemd: %w", err)
		}
	}
	if _, _, err := c.WriteMsgUnix([]byte(state), rights, &net.UnixAddr{Name: s.socket, Net: "unixgram"}); err != nil {
		return fmt.Errorf("telling systemd: %w", err)
	}
	return nil
}
