package process

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// Terminal is what a new terminal is like.
type Terminal struct {
	Rows, Cols uint16
	// Term becomes TERM where the environment has none.
	Term string
}

// console makes a terminal and returns the program's end, three times.
func (p *process) console(t Terminal, attr *syscall.SysProcAttr) ([]*os.File, error) {
	ours, theirs, err := openTerminal(t)
	if err != nil {
		return nil, fmt.Errorf("making a terminal: %w", err)
	}
	if c := attr.Credential; c != nil {
		// Best effort: programs that open it by name need it.
		_ = theirs.Chown(int(c.Uid), -1)
	}
	s := &stream{process: p, kind: proto.Terminal, file: ours}
	p.streams[proto.Terminal] = s
	fd, err := unix.FcntlInt(theirs.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return []*os.File{theirs}, fmt.Errorf("making a terminal: %w", err)
	}
	s.peer = os.NewFile(uintptr(fd), "terminal")
	attr.Setctty, attr.Ctty = true, 0
	return []*os.File{theirs, theirs, theirs}, nil
}

// openTerminal makes a pseudoterminal with the modes that a new one has, and
// erasing of whole UTF-8 characters. Our end waits by events.
func openTerminal(t Terminal) (ours, theirs *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("opening /dev/ptmx: %w", err)
	}
	ours = os.NewFile(uintptr(fd), "terminal")
	if theirs, err = peer(fd); err == nil {
		err = setSize(fd, t.Rows, t.Cols)
	}
	if err == nil {
		err = setUTF8(int(theirs.Fd()))
	}
	if err != nil {
		ours.Close()
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// peer opens the program's end without its name, which another mount may hide.
func peer(fd int) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlocking it: %w", err)
	}
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, flags)
	if errno != 0 {
		return nil, fmt.Errorf("opening its other end: %w", errno)
	}
	return os.NewFile(n, "terminal"), nil
}

func setUTF8(fd int) error {
	modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		modes.Iflag |= unix.IUTF8
		err = unix.IoctlSetTermios(fd, unix.TCSETS, modes)
	}
	return err
}

func setSize(fd int, rows, cols uint16) error {
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
}

// Resize sets the size of a process's terminal; the kernel tells the group in
// its foreground. One that has ended is no error.
func (t *Table) Resize(id string, rows, cols uint16) error {
	p, err := t.get(id)
	if err != nil {
		return err
	}
	s := p.streams[proto.Terminal]
	if s == nil && !p.ended() {
		return fmt.Errorf("process %q: %w", id, ErrNoTTY)
	}
	if s == nil {
		return nil
	}
	if err := s.resize(rows, cols); err != nil {
		return fmt.Errorf("resizing the terminal of process %q: %w", id, err)
	}
	return nil
}

func (s *stream) resize(rows, cols uint16) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = setSize(int(fd), rows, cols) })
	if err != nil {
		return err
	}
	return failed
}

// talk moves bytes both ways between c and the terminal f. When the host's
// half of c ends, its user has gone: the terminal hangs up, which the kernel
// tells the program when f is closed.
func (s *stream) talk(c Conn, f *os.File) (broken bool) {
	left := make(chan error, 1)
	go func() { // ends with c's reading half, which has a deadline below
		err := typed(c, f)
		s.wake(f)
		left <- err
	}()
	broken = s.output(c, f)
	c.SetReadDeadline(past)
	if err := <-left; err != nil && !s.over() && dead(c) {
		return true
	}
	return broken
}

// typed moves what the user types, until the user goes. A program that has
// closed its terminal does not read it any more.
func typed(c Conn, f *os.File) error {
	buf := make([]byte, 4<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		_, _ = f.Write(buf[:n])
	}
}
