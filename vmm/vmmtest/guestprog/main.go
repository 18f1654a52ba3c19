// Command guestprog carries the programs of vmm/fake/program into a real
// guest: it runs the one that it was called by the name of. Called as init it
// does nothing for ever, as a guest without a harness.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/vmm/fake/program"
)

func main() {
	name := filepath.Base(os.Args[0])
	if name == "init" {
		hang()
	}
	run := program.Builtins()[name]
	if run == nil {
		fmt.Fprintf(os.Stderr, "guestprog: no program %q\n", name)
		os.Exit(127)
	}
	os.Exit(run(context.Background(), proc()))
}

// hang never returns. It waits for signals, for Go takes a program that waits
// for nothing that can come for a deadlock.
func hang() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	for range c {
		continue
	}
}

func proc() *program.Proc {
	signals := make(chan int, 16)
	return &program.Proc{
		Argv: os.Args, Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Signals: signals,
		Catch:   func() { catch(signals) },
		Size:    size,
		Kill:    func(n int) { syscall.Kill(os.Getpid(), syscall.Signal(n)) },
		Sysrq:   func(c byte) error { return os.WriteFile("/proc/sysrq-trigger", []byte{c}, 0) },
		Disk:    openDisk,
	}
}

// catch forwards every signal that can be caught.
func catch(to chan<- int) {
	c := make(chan os.Signal, 16)
	signal.Notify(c, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	go func() {
		for s := range c {
			to <- int(s.(syscall.Signal))
		}
	}()
}

// size is that of the terminal that is standard input.
func size() (rows, cols int, ok bool) {
	w, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, false
	}
	return int(w.Row), int(w.Col), true
}

// openDisk finds a disk by its serial number.
func openDisk(role string, write bool) (program.Disk, error) {
	serials, err := filepath.Glob("/sys/block/*/serial")
	if err != nil {
		return nil, err
	}
	for _, s := range serials {
		if b, err := os.ReadFile(s); err != nil || strings.TrimSpace(string(b)) != role {
			continue
		}
		flag := os.O_RDONLY
		if write {
			flag = os.O_RDWR
		}
		f, err := os.OpenFile("/dev/"+filepath.Base(filepath.Dir(s)), flag, 0)
		if err != nil {
			return nil, err
		}
		return device{f}, nil
	}
	return nil, fmt.Errorf("disk %q: no such device", role)
}

// device is a block device.
type device struct{ *os.File }

// Size is where the end is: a device's Stat does not tell.
func (d device) Size() (int64, error) { return d.Seek(0, 2) }
