package fake

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// newFiles makes the folder that is the root of a guest, for copies: it has
// /tmp and /etc/hostname, which is "fake". It goes with the machine.
func newFiles(dir string) (string, error) {
	root, err := os.MkdirTemp(dir, "aegis-fake-files-")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"tmp", "etc"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			return "", err
		}
	}
	return root, os.WriteFile(filepath.Join(root, "etc/hostname"), []byte("fake\n"), 0o644)
}

// Files is the folder that is the root of the guest.
func (m *Machine) Files() string { return m.guest.files }

// CopyOut prepares a copy to the host.
func (g *guest) CopyOut(_ context.Context, r *proto.CopyOutRequest) (*proto.Empty, error) {
	return g.copies.CopyOut(r)
}

// CopyIn prepares a copy from the host.
func (g *guest) CopyIn(_ context.Context, r *proto.CopyInRequest) (*proto.Empty, error) {
	return g.copies.CopyIn(r)
}

// halfClosed is a connection of which one direction can be ended.
type halfClosed struct{ net.Conn }

// CloseWrite ends what the guest writes.
func (c halfClosed) CloseWrite() error {
	g, ok := c.Conn.(gated)
	if !ok {
		return fmt.Errorf("a connection of type %T cannot be half-closed", c.Conn)
	}
	half, ok := g.Conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("a connection of type %T cannot be half-closed", g.Conn)
	}
	return half.CloseWrite()
}
