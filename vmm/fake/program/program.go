// Package program has the small programs that tests run inside a machine:
// plain Go functions, so that the fake driver runs them as they are and a
// static binary carries the same ones into a real guest. They use nothing but
// what they are given.
package program

import (
	"context"
	"fmt"
	"io"
	"maps"
)

// Proc is what a program sees of its process.
type Proc struct {
	Argv, Env      []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Signals delivers signal numbers once Catch was called; it is nil where
	// signals cannot be caught.
	Signals <-chan int
	// Catch makes every later signal but SIGKILL go to Signals instead of
	// ending the program.
	Catch func()
	// Size tells the size of its terminal; not ok if it has none. A change of it
	// is signal 28.
	Size func() (rows, cols int, ok bool)
	// Kill ends the program by a signal to itself.
	Kill func(signal int)
	// Sysrq does what writing c to /proc/sysrq-trigger does.
	Sysrq func(c byte) error
	// Disk opens the disk with the serial number of a role.
	Disk func(role string, write bool) (Disk, error)
}

// Disk is an open disk of the machine.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size is the length in bytes.
	Size() (int64, error)
	// Sync returns when all that was written is on the disk.
	Sync() error
}

// Program runs until it ends by itself or ctx, which ends with its process,
// is done. It returns the exit code.
type Program func(ctx context.Context, p *Proc) int

// Builtins returns the programs by name: echo cat true false exit kill sleep
// yes lines bytes env trap size count disk panic reboot.
func Builtins() map[string]Program {
	m := map[string]Program{
		"true":  func(context.Context, *Proc) int { return 0 },
		"false": func(context.Context, *Proc) int { return 1 },
		"echo":  echo,
		"cat":   cat,
		"exit":  exit,
		"kill":  kill,
		"sleep": sleep,
		"env":   env,
		"trap":  trap,
		"size":  size,
	}
	maps.Copy(m, outputs)
	maps.Copy(m, machine)
	return m
}

func echo(_ context.Context, p *Proc) int {
	line := []byte{}
	for i, a := range p.Argv[1:] {
		if i > 0 {
			line = append(line, ' ')
		}
		line = append(line, a...)
	}
	return wrote(p.Stdout.Write(append(line, '\n')))
}

func cat(_ context.Context, p *Proc) int {
	n, err := io.Copy(p.Stdout, p.Stdin)
	return wrote(int(n), err)
}

// exit ends with the code of its argument and says so on stderr.
func exit(_ context.Context, p *Proc) int {
	code := number(p, 1, 0)
	fmt.Fprintf(p.Stderr, "exit %d\n", code)
	return code
}

// kill ends by the signal of its argument.
func kill(ctx context.Context, p *Proc) int {
	p.Kill(number(p, 1, 9))
	<-ctx.Done()
	return 0
}

// sleep ends when it is signalled, or its machine goes.
func sleep(ctx context.Context, _ *Proc) int {
	<-ctx.Done()
	return 0
}

func env(_ context.Context, p *Proc) int {
	for _, e := range p.Env {
		fmt.Fprintln(p.Stdout, e)
	}
	return 0
}

// trap says "ready", then names each signal that it gets; SIGTERM ends it
// with code 0.
func trap(ctx context.Context, p *Proc) int {
	p.Catch()
	fmt.Fprintln(p.Stdout, "ready")
	for {
		select {
		case s := <-p.Signals:
			fmt.Fprintf(p.Stdout, "signal %d\n", s)
			if s == 15 {
				return 0
			}
		case <-ctx.Done():
			return 1
		}
	}
}

// size tells the size of its terminal, again when that changes, and names every
// other signal; SIGTERM ends it with code 0.
func size(ctx context.Context, p *Proc) int {
	p.Catch()
	for s := windowChanged; ; {
		if rows, cols, ok := p.Size(); !ok {
			fmt.Fprintln(p.Stderr, "no terminal")
			return 1
		} else if s == windowChanged {
			fmt.Fprintln(p.Stdout, rows, cols)
		} else {
			fmt.Fprintf(p.Stdout, "signal %d\n", s)
		}
		select {
		case s = <-p.Signals:
			if s == 15 {
				return 0
			}
		case <-ctx.Done():
			return 1
		}
	}
}

// windowChanged is SIGWINCH.
const windowChanged = 28

func wrote(_ int, err error) int {
	if err != nil {
		return 1
	}
	return 0
}

func number(p *Proc, i, def int) int {
	n := def
	if i < len(p.Argv) {
		fmt.Sscan(p.Argv[i], &n)
	}
	return n
}
