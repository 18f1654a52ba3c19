package instance_test

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// restartWithin restarts the service, which then waits for clients as long.
func (w *world) restartWithin(grace time.Duration) {
	w.t.Helper()
	w.timings.AttachGrace = grace
	w.restart()
}

func (w *world) rejoin(ref string) *os.File {
	w.t.Helper()
	session, err := w.Rejoin(w.t.Context(), ref)
	if err != nil {
		w.t.Fatalf("rejoining %s: %v", ref, err)
	}
	w.t.Cleanup(func() { session.Close() })
	return session
}

// stillThere checks that the streams of `cat` work to their end.
func stillThere(t *testing.T, s *api.Streams) {
	t.Helper()
	if _, err := io.WriteString(s.Stdin, "still here\n"); err != nil {
		t.Fatal(err)
	}
	s.Stdin.Close()
	if got := readAll(t, s.Stdout); got != "still here\n" {
		t.Errorf("stdout is %q", got)
	}
	if st, err := proto.ReadStatus(s.Status); err != nil || st.Code != 0 {
		t.Errorf("status: %+v, %v", st, err)
	}
}

func TestClientThatDiesWithItsDaemonIsNotWaitedForForEver(t *testing.T) {
	w := newWorld(t)
	in := w.create(run("sleep"))
	s := w.attach(in.ID)
	w.kill()
	s.Close()
	w.timings.AttachGrace = 50 * time.Millisecond
	w.start()
	w.awaitGone(in.ID)
}

func TestClientThatRejoinsGoesOn(t *testing.T) {
	w := newWorld(t)
	spec := run("cat")
	spec.Stdin = true
	faithful, other := w.create(spec), w.create(run("sleep"))
	s := w.attach(faithful.ID)
	w.attach(other.ID)
	w.restartWithin(time.Second)
	session := w.rejoin(faithful.ID)
	w.await(other.ID, "the end", func(_ api.Instance, err error) bool { return api.CodeOf(err) == api.NotFound })
	stillThere(t, s)
	session.Close()
	w.awaitGone(faithful.ID)
}

func TestClientThatRejoinsAndDiesTearsARunDown(t *testing.T) {
	w := newWorld(t)
	in := w.create(run("sleep"))
	w.attach(in.ID)
	w.restart()
	w.rejoin(in.ID).Close()
	w.awaitGone(in.ID)
}

func TestSessionThatWasRejoinedTellsTheEnd(t *testing.T) {
	w := newWorld(t)
	in := w.create(run("sleep"))
	w.attach(in.ID)
	w.restart()
	session := w.rejoin(in.ID)
	w.machine(in.ID).Crash("killed by signal 9")
	if got := readAll(t, session); got != "" {
		t.Errorf("session says %q", got)
	}
	if got, err := w.Get(t.Context(), in.ID); err != nil || got.Phase != api.PhaseFailed {
		t.Errorf("record: %+v, %v", got, err)
	}
	_, err := w.Rejoin(t.Context(), in.ID)
	if api.CodeOf(err) != api.BadState {
		t.Errorf("rejoining what is at rest: %v", err)
	}
}
