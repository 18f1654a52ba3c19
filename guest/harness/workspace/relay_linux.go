package workspace

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/harness/process"
	"github.com/xfeldman/aegisvm/guest/harness/quick"
)

// address is where the kernel finds its server. The port is below those that
// the kernel's client and programs without rights choose for themselves.
const (
	address = "127.0.0.1"
	port    = 650
)

// firstUnprivileged is the first port that any program may call from. Callers
// of lower ones are the kernel, or root, who may do everything anyway.
const firstUnprivileged = 1024

// onTheWay is how many KiB the kernel may have on the way to the host before
// it stops writing back what nobody waits for. The kernel's own choice would be
// a tenth of a small machine's memory, which cannot be reclaimed meanwhile; the
// link holds less than this one.
const (
	congestion = "/proc/sys/fs/nfs/nfs_congestion_kb"
	onTheWay   = "2048"
)

// What programs may have written that is not on the host yet: a share of the
// memory within bounds in bytes. The kernel's own share, a fifth, follows a
// sudden loss of free memory only within seconds, and until then all that could
// be reclaimed is on its way and programs are killed.
const (
	dirtyShare = 32
	dirtyFloor = 4 << 20
	dirtyLimit = 32 << 20
)

// wsize bounds one write: with the kernel's own 1 MiB a machine with little memory
// has too much of it in buffers of sockets, and kills a program for want of it.
const wsize = 128 << 10

// maxStreams is how many streams of the host may wait to be used.
const maxStreams = 4

// Relay carries the connection of the kernel's NFS client to the host.
type Relay struct {
	prepare func() error
	log     func(string)
	ready   chan process.Conn // streams that wait to be used

	mu       sync.Mutex // guards the fields below
	listener net.Listener
	mounted  string
}

// New makes a relay. prepare makes the kernel able to mount, before it has to;
// log gets one line about what goes wrong.
func New(prepare func() error, log func(string)) *Relay {
	return &Relay{prepare: prepare, log: log, ready: make(chan process.Conn, maxStreams)}
}

// Offer takes possession of a stream that the host has dialled. It is closed
// when it is not needed, so that the host need not keep count.
func (r *Relay) Offer(c process.Conn) {
	select {
	case r.ready <- c:
	default:
		c.Close()
	}
}

// Mount mounts the workspace on path, once.
func (r *Relay) Mount(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mounted == path {
		return nil
	}
	if r.mounted != "" {
		return fmt.Errorf("the workspace is mounted on %s already", r.mounted)
	}
	if err := r.prepare(); err != nil {
		return err
	}
	if err := r.listen(); err != nil {
		return err
	}
	if err := os.WriteFile(congestion, []byte(onTheWay), 0); err != nil {
		r.log("workspace: " + err.Error()) // it works as long as there is memory
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("making the mount point: %w", err)
	}
	options := fmt.Sprintf("vers=3,proto=tcp,port=%d,mountvers=3,mountproto=tcp,mountport=%d,addr=%s,mountaddr=%s,"+
		"nolock,hard,sec=sys,timeo=600,retrans=2,wsize=%d", port, port, address, address, wsize)
	if err := unix.Mount(address+":/", path, "nfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mounting the workspace on %s: %w", path, err)
	}
	r.mounted = path
	if err := bound(path); err != nil {
		r.log("workspace: " + err.Error()) // likewise
	}
	return nil
}

// bound makes programs wait that have written too much, by the limits of the
// mount's own backing device. Kernels before 6.2 do not have them.
func bound(path string) error {
	var st unix.Stat_t
	var memory unix.Sysinfo_t
	if err := errors.Join(unix.Stat(path, &st), unix.Sysinfo(&memory)); err != nil {
		return fmt.Errorf("bounding what is not written back: %w", err)
	}
	dirty := min(max(uint64(memory.Totalram)*uint64(memory.Unit)/dirtyShare, dirtyFloor), dirtyLimit)
	device := fmt.Sprintf("/sys/class/bdi/%d:%d/", unix.Major(st.Dev), unix.Minor(st.Dev))
	for _, set := range [][2]string{{"strict_limit", "1"}, {"max_bytes", strconv.FormatUint(dirty, 10)}} {
		err := os.WriteFile(device+set[0], []byte(set[1]), 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("bounding what is not written back: %w", err)
		}
	}
	return nil
}

// listen opens the relay's port and begins to carry bytes.
func (r *Relay) listen() error {
	if r.listener != nil {
		return nil
	}
	if err := neverWait(); err != nil {
		r.log("workspace: " + err.Error()) // it works as long as there is memory
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("%s:%d", address, port))
	if err != nil {
		return fmt.Errorf("listening for the kernel: %w", err)
	}
	r.listener = l
	go r.accept(l) // ends with the machine
	return nil
}

// neverWait keeps our memory from being reclaimed, and us from waiting for
// the reclaim of other memory, which may have to go through us.
func neverWait() error {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("locking memory: %w", err)
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_IO_FLUSHER, 1, 0); errno != 0 {
		return fmt.Errorf("becoming an IO flusher: %w", errno)
	}
	return nil
}

func (r *Relay) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			r.log("workspace: " + err.Error())
			return
		}
		if from, ok := c.RemoteAddr().(*net.TCPAddr); !ok || from.Port >= firstUnprivileged {
			c.Close()
			continue
		}
		go r.carry(c.(*net.TCPConn)) // ends with either side
	}
}

// carry joins the kernel's connection with a stream. When one breaks the other
// is closed, and the kernel connects anew and asks again.
func (r *Relay) carry(c *net.TCPConn) {
	defer c.Close()
	s := r.take()
	defer s.Close()
	kernel, err := c.SyscallConn()
	if err != nil {
		r.log("workspace: " + err.Error())
		return
	}
	done := make(chan struct{}, 2)
	for _, way := range []struct {
		to   io.Writer
		from io.Reader
	}{{onlyWriter{s}, socket{kernel}}, {socket{kernel}, onlyReader{s}}} {
		go func() { // ends when the other way has closed both
			io.CopyBuffer(way.to, way.from, make([]byte, buffer))
			done <- struct{}{}
		}()
	}
	<-done
}

// socket is the kernel's connection.
type socket struct{ raw syscall.RawConn }

func (s socket) Read(b []byte) (int, error)  { return quick.Read(s.raw, b) }
func (s socket) Write(b []byte) (int, error) { return quick.Write(s.raw, b) }

// take waits for a stream that is not known to be broken.
func (r *Relay) take() process.Conn {
	for s := range r.ready { // it is never closed
		if !broken(s) {
			return s
		}
		s.Close()
	}
	return nil
}

func broken(c process.Conn) bool {
	d, ok := c.(interface{ Done() <-chan struct{} })
	if !ok {
		return false
	}
	select {
	case <-d.Done():
		return true
	default:
		return false
	}
}

// buffer is how much is copied at once.
const buffer = 128 << 10

type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// Leave unmounts the workspace, which writes what is in memory to the host.
// A host that does not take it within limit loses it.
func (r *Relay) Leave(limit time.Duration) {
	r.mu.Lock()
	path := r.mounted
	r.mu.Unlock()
	if path == "" {
		return
	}
	done := make(chan error, 1)
	go func() { done <- unix.Unmount(path, 0) }() // ends with the machine at the latest
	timer := time.NewTimer(limit)
	defer timer.Stop()
	err := errors.New("the host did not take all of it in time")
	select {
	case err = <-done:
	case <-timer.C:
	}
	if err != nil {
		r.log("leaving the workspace: " + err.Error())
		unix.Unmount(path, unix.MNT_FORCE|unix.MNT_DETACH)
	}
}
