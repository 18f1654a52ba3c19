package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// groups makes a control group of its own for each process that may have to be
// ended with all that it started, whatever sessions that has made.
type groups struct {
	dir string // on a cgroup2 file system; empty where there is none

	mu   sync.Mutex // guards the fields below
	last int
	// left are the groups of processes that have ended while something of them
	// went on.
	left []string
}

// group is one of them.
type group struct {
	of  *groups
	dir *os.File
}

// make makes a group, nil where the kernel has none: then its session stands
// for what a process started.
func (g *groups) make() *group {
	if g.dir == "" {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweep()
	g.last++
	name := filepath.Join(g.dir, strconv.Itoa(g.last))
	if err := os.MkdirAll(name, 0o755); err != nil {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		os.Remove(name)
		return nil
	}
	return &group{of: g, dir: f}
}

// sweep removes groups that have become empty; g.mu is held.
func (g *groups) sweep() {
	left := g.left[:0]
	for _, name := range g.left {
		if err := os.Remove(name); errors.Is(err, syscall.EBUSY) {
			left = append(left, name)
		}
	}
	g.left = left
}

// join makes a program start in the group.
func (g *group) join(attr *syscall.SysProcAttr) {
	if g != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(g.dir.Fd())
	}
}

// started says that the process has been started, or will not be.
func (g *group) started() {
	if g != nil {
		g.dir.Close()
	}
}

// kill kills all that is in the group.
func (g *group) kill() error {
	err := os.WriteFile(filepath.Join(g.dir.Name(), "cgroup.kill"), []byte("1"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // else nothing was left
		return fmt.Errorf("killing what is left of a process: %w", err)
	}
	return nil
}

// end removes the group once nothing is in it; its process has ended.
func (g *group) end() {
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	g.of.left = append(g.of.left, g.dir.Name())
	g.of.sweep()
}
