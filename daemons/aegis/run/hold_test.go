package run

import (
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// restarted ends the session of a program as the end of aegisd does, and has
// the client's next ones answered: by nobody, then by the next aegisd.
func restarted(g *guest) (session *os.File) {
	theirs, ours := socketpair()
	rejoined := make(chan struct{})
	g.session.Close()
	g.fake.rejoining <- func() (*os.File, error) { return nil, api.Errorf(api.Unavailable, "nobody there") }
	g.fake.rejoining <- func() (*os.File, error) {
		close(rejoined)
		return theirs, nil
	}
	<-rejoined
	return ours
}

func TestRunTellsTheNextDaemonThatItIsThere(t *testing.T) {
	f := &fakeAegis{rejoining: make(chan func() (*os.File, error), 2)}
	left := make(chan error, 1)
	f.program = func(g *guest) {
		session := restarted(g)
		io.WriteString(g.stdout, "still here\n")
		g.exit(proto.ProcessStatus{Code: 5})
		go func() {
			_, err := session.Read(make([]byte, 1))
			left <- err
		}()
	}
	c := newCaller(t, f)
	if got, err := c.run(t, api.InstanceSpec{}); got != 5 || err != nil {
		t.Errorf("exit code %d, %v", got, err)
	}
	if got := content(t, c.stdout); got != "still here\n" {
		t.Errorf("stdout is %q", got)
	}
	if err := <-left; err != io.EOF {
		t.Errorf("the session did not end with the run: %v", err)
	}
}

func TestRunGetsTheReasonFromTheNextDaemon(t *testing.T) {
	f := &fakeAegis{rejoining: make(chan func() (*os.File, error), 2)}
	f.program = func(g *guest) {
		session := restarted(g)
		f.set(func(f *fakeAegis) {
			f.record = api.Instance{ID: "inst-1", Phase: api.PhaseFailed, LastError: "the guest's kernel panicked"}
		})
		g.closeStreams()
		f.rejoining <- func() (*os.File, error) { return nil, api.Errorf(api.BadState, "at rest") }
		session.Close()
	}
	if got, err := newCaller(t, f).run(t, api.InstanceSpec{}); got != 125 || text(err) != "the guest's kernel panicked" {
		t.Errorf("exit code %d, %v", got, err)
	}
}

// An instance goes when its client has left, and its reason with it.
func TestRunDoesNotLeaveBeforeItHasTheReason(t *testing.T) {
	f := &fakeAegis{}
	f.program = func(g *guest) {
		f.asked = func() {
			fds := []unix.PollFd{{Fd: int32(g.session.Fd()), Events: unix.POLLIN}}
			if n, err := unix.Poll(fds, 0); n != 0 || err != nil {
				t.Errorf("it has left before it asked: %v, %v", fds[0].Revents, err)
			}
		}
		f.set(func(f *fakeAegis) {
			f.record = api.Instance{ID: "inst-1", Phase: api.PhaseFailed, LastError: "killed"}
		})
		g.closeStreams()
		unix.Shutdown(int(g.session.Fd()), unix.SHUT_WR)
	}
	if got, err := newCaller(t, f).run(t, api.InstanceSpec{}); got != 125 || text(err) != "killed" {
		t.Errorf("exit code %d, %v", got, err)
	}
}
