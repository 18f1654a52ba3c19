package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// Activity tells how much programs have done so far.
func (m *Machine) Activity() (*proto.ActivityResponse, error) { return activity("/proc", "/sys") }

func activity(proc, sys string) (*proto.ActivityResponse, error) {
	cpu, err := programTime(proc)
	if err != nil {
		return nil, fmt.Errorf("reading what programs have used: %w", err)
	}
	r := &proto.ActivityResponse{CpuNanos: uint64(cpu)}
	for _, counter := range []string{"rx_bytes", "tx_bytes"} { // no eth0 is no traffic
		r.NetworkBytes += number(filepath.Join(sys, "class/net/eth0/statistics", counter))
	}
	disks, _ := filepath.Glob(filepath.Join(sys, "block/vd*/stat")) // the pattern is good
	for _, path := range disks {
		r.DiskBytes += diskBytes(path)
	}
	return r, nil
}

// tick is the unit of times in /proc, the same on all of Linux.
const tick = 10 * time.Millisecond

// programTime adds up the processor time of all processes but ours and the
// kernel's. Those that have ended are in the sums of whoever waited for them,
// in the end in ours.
func programTime(proc string) (time.Duration, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0, err
	}
	var ticks uint64
	for _, e := range entries {
		if _, err := strconv.ParseUint(e.Name(), 10, 32); err != nil {
			continue
		}
		if raw, err := os.ReadFile(filepath.Join(proc, e.Name(), "stat")); err == nil { // else it has just gone
			ticks += processTicks(string(raw), e.Name() == "1")
		}
	}
	return time.Duration(ticks) * tick, nil
}

// The fields of /proc/PID/stat behind the name of the program, from 0.
const (
	fieldFlags = 6
	fieldUser  = 11
	fieldKids  = 13 // and 14
)

// kernelThread is PF_KTHREAD.
const kernelThread = 0x200000

// processTicks reads one line of /proc/PID/stat; of the harness only what it has
// waited for counts.
func processTicks(stat string, harness bool) (ticks uint64) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // a name may hold anything
	if len(fields) <= fieldKids+1 {
		return 0
	}
	if flags, _ := strconv.ParseUint(fields[fieldFlags], 10, 64); flags&kernelThread != 0 {
		return 0
	}
	from := fieldUser
	if harness {
		from = fieldKids
	}
	for _, f := range fields[from : fieldKids+2] {
		n, _ := strconv.ParseUint(f, 10, 64) // that of children may be -1 in theory
		ticks += n
	}
	return ticks
}

// diskBytes reads /sys/block/DISK/stat: sectors of 512 bytes, whatever the
// disk's are, are the third and the seventh number.
func diskBytes(path string) uint64 {
	raw, err := os.ReadFile(path)
	fields := strings.Fields(string(raw))
	if err != nil || len(fields) < 7 {
		return 0
	}
	read, _ := strconv.ParseUint(fields[2], 10, 64)
	written, _ := strconv.ParseUint(fields[6], 10, 64)
	return (read + written) * 512
}

func number(path string) uint64 {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	return n
}
