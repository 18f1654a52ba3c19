package run

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// attached makes a caller whose stdin has a byte for awaitClient.
func attached(t *testing.T) *caller {
	t.Helper()
	c := newCaller(t, nil)
	r, w := pipe(t)
	if _, err := w.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	c.stdin = r
	return c
}

func TestFirstSignalGoesToTheProgram(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		c := attached(t)
		c.aegis = &fakeAegis{program: func(g *guest) {
			g.awaitClient()
			c.signals <- sig
			g.exit(proto.ProcessStatus{Code: <-g.signals})
		}}
		got, err := c.run(t, api.InstanceSpec{})
		if got != int(sig) || err != nil {
			t.Errorf("exit code %d, %v; the program got %d", got, err, sig)
		}
	}
}

func TestSecondSignalTearsDown(t *testing.T) {
	for _, second := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		c := attached(t)
		c.aegis = &fakeAegis{program: func(g *guest) {
			g.awaitClient()
			c.signals <- syscall.SIGINT
			<-g.signals // and ignores it
			c.signals <- second
			<-g.signals // closed by Delete
		}}
		got, err := c.run(t, api.InstanceSpec{})
		if got != 128+int(second) || err != nil {
			t.Errorf("exit code %d, %v; want %d", got, err, 128+int(second))
		}
	}
}

func TestHangupGoesToTheProgramAndTearsDown(t *testing.T) {
	var forwarded int
	c := attached(t)
	c.aegis = &fakeAegis{program: func(g *guest) {
		g.awaitClient()
		c.signals <- syscall.SIGHUP
		forwarded = <-g.signals
		for range g.signals {
		}
	}}
	got, err := c.run(t, api.InstanceSpec{})
	if got != 129 || err != nil || forwarded != 1 {
		t.Errorf("exit code %d, %v, the program got %d", got, err, forwarded)
	}
}

func TestSignalWhileStartingTearsDown(t *testing.T) {
	c := newCaller(t, &fakeAegis{hold: true, entered: make(chan string)})
	go func() {
		<-c.aegis.entered // create
		<-c.aegis.entered // attach
		c.signals <- syscall.SIGINT
	}()
	if got, err := c.run(t, api.InstanceSpec{}); got != 130 || err != nil {
		t.Errorf("exit code %d, %v; want 130", got, err)
	}
}

func TestSignalWhileCreatingWaitsForTheNameOfWhatMustGo(t *testing.T) {
	c := newCaller(t, &fakeAegis{entered: make(chan string), creating: make(chan struct{})})
	c.signals = make(chan os.Signal) // so that a send means it was taken
	go func() {
		<-c.aegis.entered
		c.signals <- syscall.SIGINT
		close(c.aegis.creating)
	}()
	if got, err := c.run(t, api.InstanceSpec{}); got != 130 || err != nil {
		t.Errorf("exit code %d, %v; want 130", got, err)
	}
}

func TestSecondSignalEndsAHangingCreate(t *testing.T) {
	c := newCaller(t, &fakeAegis{entered: make(chan string), creating: make(chan struct{})})
	go func() {
		<-c.aegis.entered
		c.signals <- syscall.SIGINT
		c.signals <- syscall.SIGINT
	}()
	if got, err := c.run(t, api.InstanceSpec{}); got != 130 || err != nil {
		t.Errorf("exit code %d, %v; want 130", got, err)
	}
}

func TestSignalThatDoesNotArriveIsTold(t *testing.T) {
	c := attached(t)
	f := &fakeAegis{signalErr: api.Errorf(api.Unavailable, "aegisd is not running")}
	f.program = func(g *guest) {
		g.awaitClient()
		c.signals <- syscall.SIGINT
		for range g.signals { // closed by Delete
		}
	}
	c.aegis = f
	told := ""
	client := &Client{Aegis: f, Stdin: c.stdin, Stdout: c.stdout, Stderr: c.stderr, Signals: c.signals, Notice: func(line string) {
		told = line
		c.signals <- syscall.SIGINT
	}}
	got, err := client.Run(t.Context(), api.InstanceSpec{})
	if got != 130 || err != nil {
		t.Errorf("exit code %d, %v; want 130", got, err)
	}
	if !strings.Contains(told, "aegisd is not running") {
		t.Errorf("told %q", told)
	}
}
