package instance_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/bus/bustest"
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
	if err := api.TakeSession(session); err != nil {
		w.t.Fatal(err)
	}
	return session
}

// lose is a rejoin whose session does not arrive.
func (w *world) lose(ref string) {
	w.t.Helper()
	session, err := w.Rejoin(w.t.Context(), ref)
	if err != nil {
		w.t.Fatalf("rejoining %s: %v", ref, err)
	}
	session.Close()
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

func TestASessionThatGetsLostOnItsWayIsAskedForAgain(t *testing.T) {
	w := newWorld(t)
	spec := run("cat")
	spec.Stdin = true
	in := w.create(spec)
	s := w.attach(in.ID)
	w.restart()
	for range 10 {
		w.lose(in.ID)
	}
	held, err := w.Rejoin(t.Context(), in.ID) // one that a client forgot
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	session := w.rejoin(in.ID)
	if got := readAll(t, held); got != "" {
		t.Errorf("the session that was replaced says %q", got)
	}
	stillThere(t, s)
	session.Close()
	w.awaitGone(in.ID)
}

func TestAClientWhoseSessionsGetLostIsNotWaitedForForEver(t *testing.T) {
	w := newWorld(t)
	in := w.create(run("sleep"))
	w.attach(in.ID)
	w.restartWithin(50 * time.Millisecond)
	w.lose(in.ID)
	w.awaitGone(in.ID)
}

func TestARejoinOverATransportIsTaken(t *testing.T) {
	address := bustest.Start(t)
	for name, over := range map[string]func(t *testing.T, w *world) api.Aegis{
		"REST":  func(t *testing.T, w *world) api.Aegis { return overREST(t, w) },
		"D-Bus": func(t *testing.T, w *world) api.Aegis { return overDBus(t, address, w) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			in := w.create(run("sleep"))
			w.attach(in.ID)
			w.restart()
			session, err := over(t, w).Rejoin(t.Context(), in.ID)
			if err != nil {
				t.Fatal(err)
			}
			session.Close()
			w.awaitGone(in.ID) // at once: it is not waited for
		})
	}
}

func TestARejoinThatIsHungUpOnIsAskedForAgain(t *testing.T) {
	w := newWorld(t)
	in := w.create(run("sleep"))
	w.attach(in.ID)
	w.restart()
	path := onSocket(t, w)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/instances/%s/rejoin HTTP/1.1\r\nHost: aegisd\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", in.ID, restapi.Protocol)
	head, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(head, "101") {
		t.Fatalf("rejoining: %q, %v", head, err)
	}
	conn.Close() // before it fetched the session
	client := restapi.NewClient(path)
	defer client.Close()
	session, err := client.Rejoin(t.Context(), in.ID)
	if err != nil {
		t.Fatal(err)
	}
	session.Close()
	w.awaitGone(in.ID)
}
