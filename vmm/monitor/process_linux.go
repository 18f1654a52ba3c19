package monitor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process is a running monitor. It dies with this process: the kernel sends
// it SIGKILL.
type Process struct {
	cmd    *exec.Cmd
	stderr tail
	err    error // of Wait; written before done is closed
	done   chan struct{}
	kill   sync.Once
}

// Start starts a monitor with nothing but the given files, which stay the
// caller's. place may be nil; it is told the process as soon as there is one,
// and ends it with an error.
func Start(binary string, argv []string, files []*os.File, place func(pid int) error) (*Process, error) {
	p := &Process{cmd: exec.Command(binary, argv...), done: make(chan struct{})}
	p.cmd.ExtraFiles = files
	p.cmd.Stdout, p.cmd.Stderr = &p.stderr, &p.stderr
	p.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go p.run(started) // ends with the process
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", binary, err)
	}
	if place == nil {
		return p, nil
	}
	if err := place(p.Pid()); err != nil {
		p.Kill()
		<-p.Done()
		return nil, fmt.Errorf("starting %s: %w", binary, p.sooner(err))
	}
	return p, nil
}

// sooner is why a process could not be placed: one that was not there any more
// says better itself how it ended.
func (p *Process) sooner(err error) error {
	if !errors.Is(err, unix.ESRCH) {
		return err
	}
	if death := p.Death(); death != "" {
		return errors.New(death)
	}
	return errors.New("it exited at once, without a word")
}

func (p *Process) run(started chan<- error) {
	// The death signal is sent when the thread that forked dies, not its
	// process: this one stays for as long as the monitor.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Kill sends SIGKILL; Done tells when the process is gone.
func (p *Process) Kill() { p.kill.Do(func() { p.cmd.Process.Kill() }) }

// Done is closed when the process is gone and reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Death says how the process ended, with its last lines on stderr; "" when
// it exited with 0. It may be called after Done.
func (p *Process) Death() string {
	if p.err == nil {
		return ""
	}
	how := p.err.Error()
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		how = fmt.Sprintf("was killed by signal %d (%s)", ws.Signal(), ws.Signal())
	} else if ok {
		how = fmt.Sprintf("exited with status %d", ws.ExitStatus())
	}
	if last := p.stderr.lines(3); last != "" {
		how += ": " + last
	}
	return filepath.Base(p.cmd.Path) + " " + how
}

// Dup gives a descriptor of our own for f, nil for nil.
func Dup(f *os.File) (*os.File, error) {
	if f == nil {
		return nil, nil
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// DiskFile gives a descriptor that allows what a disk does and no more: one
// of a read-only disk that could write is opened again; again tells whether
// the caller must close it.
func DiskFile(f *os.File, readOnly bool) (_ *os.File, again bool, err error) {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return nil, false, os.NewSyscallError("fcntl", err)
	}
	switch mode := flags & unix.O_ACCMODE; {
	case !readOnly && mode != unix.O_RDWR:
		return nil, false, fmt.Errorf("writable disk on a descriptor that is not open for reading and writing")
	case readOnly && mode != unix.O_RDONLY:
		f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		return f, true, err
	}
	return f, false, nil
}
