package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// note is worker.pid: which process a worker is, now and after a restart of
// the host.
type note struct {
	Pid int `json:"pid"`
	// Start is when the process started, in ticks since Boot.
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
}

// noteWorker writes down which process is the worker of a machine. It is
// called before the worker knows its plan: one that is not noted does nothing.
func noteWorker(dir string, pid int) error {
	s, err := readStat(pid)
	if err != nil {
		return fmt.Errorf("noting the worker: %w", err)
	}
	boot, err := bootID()
	if err != nil {
		return fmt.Errorf("noting the worker: %w", err)
	}
	raw, err := json.Marshal(note{pid, s.start, boot})
	if err != nil {
		return fmt.Errorf("noting the worker: %w", err)
	}
	// Whole and on disk: who comes after us finds the worker by nothing else.
	if err := renameio.WriteFile(filepath.Join(dir, workerName), raw, 0o600); err != nil {
		return fmt.Errorf("noting the worker: %w", err)
	}
	return nil
}

// endWorker kills the worker that was noted, with the children that it has,
// and waits until they are gone. Notes are written whole: one that says
// nothing was torn by the end of its boot, and of its worker.
func endWorker(ctx context.Context, dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, workerName))
	if errors.Is(err, os.ErrNotExist) {
		return nil // its manager died before it gave it a plan
	}
	if err != nil {
		return fmt.Errorf("reading which process the worker is: %w", err)
	}
	var n note
	if json.Unmarshal(raw, &n) != nil {
		return nil
	}
	if boot, err := bootID(); err != nil || boot != n.Boot {
		return err
	}
	return endTree(ctx, n)
}

// endTree kills a process and its children, and waits for all of them. Who a
// process is, is asked after it is held: its number cannot go to another then.
func endTree(ctx context.Context, n note) error {
	worker, err := holdIf(n.Pid, func(s stat) bool { return s.start == n.Start })
	if worker == nil {
		return err
	}
	defer worker.release()
	held := []*foreign{worker}
	for _, pid := range children(n.Pid) {
		child, err := holdIf(pid, func(s stat) bool { return s.parent == n.Pid })
		if err != nil {
			return err
		}
		if child != nil {
			defer child.release()
			held = append(held, child)
		}
	}
	for _, p := range held {
		if err := p.Kill(); err != nil {
			return fmt.Errorf("killing the worker: %w", err)
		}
	}
	for _, p := range held {
		if err := wait(ctx, p); err != nil {
			return fmt.Errorf("waiting for the end of the worker, process %d: %w", n.Pid, err)
		}
	}
	return nil
}

// holdIf holds a process if it is the one that is meant; nil if that is gone.
func holdIf(pid int, meant func(stat) bool) (*foreign, error) {
	p, err := hold(pid)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("holding process %d: %w", pid, err)
	}
	s, err := readStat(pid)
	switch {
	case err == nil && meant(s):
		return p, nil
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ESRCH):
		err = nil
	}
	p.release()
	return nil, err
}

// children are the processes that the threads of a process have started.
func children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, l := range lists {
		raw, _ := os.ReadFile(l)
		for field := range strings.FieldsSeq(string(raw)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// stat is what /proc says of a process.
type stat struct {
	parent int
	start  uint64
}

// readStat reads fields 4 and 22 of a process's stat; the second, its name,
// may have anything in it.
func readStat(pid int) (s stat, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, err
	}
	const parent, start = 4 - 3, 22 - 3 // behind the name come the third and on
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) <= start {
		return s, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	if s.parent, err = strconv.Atoi(fields[parent]); err == nil {
		s.start, err = strconv.ParseUint(fields[start], 10, 64)
	}
	return s, err
}

func bootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}
