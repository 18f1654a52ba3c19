package machine

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/harness/process"
)

// Machine is this machine.
type Machine struct {
	off chan time.Duration
}

// New makes the machine ready for programs: it has a loopback interface, and
// programs may open more files than the kernel's default lets them.
func New() (*Machine, error) {
	if err := loopback(); err != nil {
		return nil, err
	}
	limit := unix.Rlimit{Cur: 1024, Max: 512 << 10}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("setting the limit of open files: %w", err)
	}
	return &Machine{off: make(chan time.Duration, 1)}, nil
}

// loopback brings lo up.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	return nil
}

// Poweroff asks for the end of the machine; the first to ask sets the grace.
func (m *Machine) Poweroff(grace time.Duration) {
	select {
	case m.off <- grace:
	default:
	}
}

// Off tells that somebody has asked for the end, and what grace processes
// have.
func (m *Machine) Off() <-chan time.Duration { return m.off }

// End ends every process: SIGTERM, and SIGKILL after grace. Only PID 1 may
// call it, for it signals all there are.
func End(r *process.Reaper, grace time.Duration) {
	unix.Kill(-1, unix.SIGTERM)
	unix.Kill(-1, unix.SIGCONT) // what is stopped would not hear of it
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-r.None():
		return
	case <-timer.C:
	}
	unix.Kill(-1, unix.SIGKILL)
	last := time.NewTimer(stuck)
	defer last.Stop()
	select {
	case <-r.None():
	case <-last.C: // in the kernel; the disks are synced all the same
	}
}

// stuck is how long a killed process may take to go.
const stuck = 2 * time.Second
