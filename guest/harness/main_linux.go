// Command harness is PID 1 of every guest. It makes the root file system,
// opens the channel to the host, rings the doorbell and then does what the
// host asks for: it starts processes and carries their bytes. It decides
// nothing by itself and must never end: what it cannot do ends the machine,
// with one line on the console.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/harness/boot"
	"github.com/xfeldman/aegisvm/guest/harness/channel"
	"github.com/xfeldman/aegisvm/guest/harness/listen"
	"github.com/xfeldman/aegisvm/guest/harness/machine"
	"github.com/xfeldman/aegisvm/guest/harness/process"
	"github.com/xfeldman/aegisvm/guest/harness/quick"
	"github.com/xfeldman/aegisvm/guest/harness/service"
	"github.com/xfeldman/aegisvm/guest/harness/uevent"
	"github.com/xfeldman/aegisvm/guest/harness/workspace"
)

// patience is how long devices may take to come.
const patience = 30 * time.Second

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "harness: it is PID 1 of a guest and nothing else; start a machine with aegis run")
		os.Exit(2)
	}
	root := &boot.Root{}
	defer func() {
		if r := recover(); r != nil {
			say(fmt.Sprint("the harness panicked: ", r))
		}
		root.Leave()
		machine.Leave()
	}()
	if err := run(root); err != nil {
		say(err.Error())
	}
}

// say prints one line on the console.
func say(line string) { fmt.Fprintln(os.Stderr, "harness: "+line) }

// run returns when the machine is to end.
func run(root *boot.Root) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, fmt.Errorf("it did not come within %v", patience))
	defer cancel()
	outlive()
	if err := boot.Early(); err != nil {
		return err
	}
	if err := quick.Slacken(); err != nil {
		say(err.Error()) // it is slower without
	}
	events, err := uevent.Listen()
	if err != nil {
		return err
	}
	defer events.Close()
	later, err := boot.LoadModules()
	if err != nil {
		return err
	}
	entered, err := boot.Enter(ctx, events)
	if err != nil {
		return err
	}
	*root = *entered
	m, err := machine.New()
	if err != nil {
		return err
	}
	dial, err := channel.Open(ctx, events)
	if err != nil {
		return err
	}
	return serve(m, dial, later)
}

// outlive keeps signals that end other programs from ending this one. They
// are caught rather than ignored, because programs inherit what is ignored.
func outlive() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE,
		unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM)
	unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)
}

// groups is where the groups of all processes are.
const groups = "/sys/fs/cgroup"

// serve serves the host until it asks for the end of the machine.
func serve(m *machine.Machine, dial channel.Channel, later *boot.Later) error {
	id, err := machine.BootID()
	if err != nil {
		return err
	}
	reaper := process.NewReaper()
	table := process.NewTable(reaper).WithGroups(groups + "/aegis")
	s, err := service.New(api.Version, id, m, table, say)
	if err != nil {
		return err
	}
	relay := workspace.New(later.Load, say)
	s.WithWorkspace(relay)
	s.WithListens(listen.New(groups).Watch)
	if err := dial.Ring(); err != nil {
		return err
	}
	lost := make(chan error, 1)
	go func() { lost <- accept(dial, s) }() // ends with the channel
	select {
	case grace := <-m.Off():
		machine.End(reaper, grace)
		relay.Leave(writeBackLimit)
		lastWords(table, s)
		return nil
	case err := <-lost:
		machine.End(reaper, 0)
		relay.Leave(0)
		return err
	}
}

// writeBackLimit is how long a host may take for what programs wrote last to
// the workspace. The machine's plug is pulled not much later.
const writeBackLimit = 10 * time.Second

// lastWordsLimit is how long a host may take for what programs said last.
const lastWordsLimit = 3 * time.Second

// lastWords lets the host have what is still in the pipes of programs that
// have ended, and how they ended.
func lastWords(t *process.Table, s *service.Service) {
	ctx, cancel := context.WithTimeout(context.Background(), lastWordsLimit)
	defer cancel()
	t.Drain(ctx)
	if err := s.Answer(ctx); err != nil {
		say("the host was not told all: " + err.Error())
	}
}

func accept(dial channel.Channel, s *service.Service) error {
	for {
		c, port, err := dial.Accept()
		if err != nil {
			return fmt.Errorf("lost the host: %w", err)
		}
		s.Serve(c, port)
	}
}
