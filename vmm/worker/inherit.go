package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// planFD is the descriptor that the plan comes through; the files follow it.
const planFD = 3

// diskFD is the descriptor of the plan's nth disk: listener, run directory and
// console come before.
func diskFD(n int) int { return planFD + 4 + n }

// files is how many descriptors follow that of the plan.
func (p Plan) files() int {
	n := 3 + len(p.Disks)
	if p.Network {
		n++
	}
	if p.Restore {
		n += 2
	}
	return n
}

// heldName begins the path of a file that the first stage of a worker has
// opened for the second.
const heldName = "/proc/self/fd/"

// maxPlan bounds a plan in bytes.
const maxPlan = 64 << 10

// Inherit reads the plan and takes the descriptors that this process was born
// with. It waits for the manager's word; a manager that dies before it gives
// io.EOF.
func Inherit() (Plan, Files, error) {
	in := os.NewFile(planFD, "plan")
	if in == nil {
		return Plan{}, Files{}, errors.New("no plan on descriptor 3: this program is started by aegis-vmmd or aegisd only")
	}
	defer in.Close()
	raw, err := io.ReadAll(io.LimitReader(in, maxPlan))
	if err != nil {
		return Plan{}, Files{}, fmt.Errorf("reading the plan from descriptor 3: %w", err)
	}
	if len(raw) == 0 {
		return Plan{}, Files{}, io.EOF
	}
	var p Plan
	if err := json.Unmarshal(raw, &p); err != nil {
		return Plan{}, Files{}, fmt.Errorf("reading the plan from descriptor 3: %w", err)
	}
	return p, p.take(), nil
}

// take makes files of the inherited descriptors and keeps them from the
// monitor, which gets its own copies of what it needs.
func (p Plan) take() Files {
	next := planFD
	file := func(name string) *os.File {
		next++
		unix.CloseOnExec(next)
		return os.NewFile(uintptr(next), name)
	}
	f := Files{Listener: file(SocketName), RunDir: file("run directory"), Console: file("console")}
	for _, d := range p.Disks {
		f.Disks = append(f.Disks, file("disk "+string(d.Role)))
	}
	if p.Network {
		f.Tap = file("tap")
	}
	if p.Restore {
		f.State, f.Memory = file("snapshot state"), file("snapshot memory")
	}
	for _, path := range []string{p.Kernel, p.Initramfs} {
		if n, held := strings.CutPrefix(path, heldName); held {
			if fd, err := strconv.Atoi(n); err == nil {
				unix.CloseOnExec(fd)
			}
		}
	}
	if p.Cgroup != nil {
		unix.CloseOnExec(p.Cgroup.Procs)
		unix.CloseOnExec(p.Cgroup.Events)
	}
	return f
}

// WritePlan gives a waiting worker its plan and lets it go.
func WritePlan(pipe *os.File, p Plan) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encoding the plan: %w", err)
	}
	if len(raw) > maxPlan {
		return fmt.Errorf("the plan has %d bytes, at most %d are read", len(raw), maxPlan)
	}
	if _, err := pipe.Write(raw); err != nil {
		return fmt.Errorf("giving the worker its plan: %w", err)
	}
	return nil
}
