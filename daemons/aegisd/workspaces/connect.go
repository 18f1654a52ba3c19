package workspaces

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// Connect reaches a server that nobody has asked for anything yet.
type Connect func(context.Context) (Server, error)

// Server is a connection with a server of its own, which goes with it.
type Server struct {
	*net.UnixConn
	// kill ends the process and returns when it has gone; nil where it is not
	// ours to end.
	kill func()
}

// farewell is how long a server may take to finish what it is at.
const farewell = 5 * time.Second

// end returns when the server has gone, or has had its time.
func (s Server) end() {
	s.CloseWrite()
	s.SetReadDeadline(time.Now().Add(farewell))
	for b := make([]byte, 1); ; {
		if n, err := s.Read(b); err != nil || n == 0 {
			break
		}
	}
	s.Close()
	if s.kill != nil {
		s.kill()
	}
}

// Spawn starts the program as a child for each connection.
func Spawn(program string, args ...string) Connect {
	return func(context.Context) (Server, error) {
		ours, theirs, err := socketPair()
		if err != nil {
			return Server{}, err
		}
		cmd := exec.Command(program, args...)
		cmd.Env = []string{}
		cmd.ExtraFiles, cmd.Stderr = []*os.File{theirs}, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		err = cmd.Start()
		theirs.Close()
		if err != nil {
			ours.Close()
			return Server{}, api.Errorf(api.Unavailable, "workspace: its server: %w: run make build, or install the package aegisvm", err)
		}
		gone := make(chan struct{})
		go func() { // ends with the process
			defer close(gone)
			cmd.Wait()
		}()
		return Server{ours, func() {
			cmd.Process.Kill()
			<-gone
		}}, nil
	}
}

// Dial connects to a socket behind which there is a server for each
// connection.
func Dial(path string) Connect {
	return func(ctx context.Context) (Server, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unixpacket", path)
		switch {
		case err == nil:
			return Server{UnixConn: c.(*net.UnixConn)}, nil
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
			return Server{}, api.Errorf(api.Unavailable, "workspace: nobody listens at %s: start aegis-fs.socket", path)
		}
		return Server{}, api.Errorf(api.Unavailable, "workspace: reaching its server: %w", err)
	}
}

// socketPair makes a connection of packets.
func socketPair() (*net.UnixConn, *os.File, error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, packets, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "server's end")
	mine := os.NewFile(uintptr(fds[0]), "our end")
	defer mine.Close()
	c, err := net.FileConn(mine)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	return c.(*net.UnixConn), theirs, nil
}
