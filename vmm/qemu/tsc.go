package qemu

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// clock is the frequency that the driver was given or finds.
func (d *Driver) clock() (int, error) {
	if d.ClockKHz != 0 {
		return d.ClockKHz, nil
	}
	return tscKHz()
}

// tscKHz is the frequency of the host's time stamp counter, which an emulated
// guest sees as its own.
func tscKHz() (int, error) {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 0, fmt.Errorf("reading the processor's clock: %w", err)
	}
	return parseTSC(string(b))
}

// parseTSC finds the frequency in a /proc/cpuinfo. The kernel presets its
// delay loop from the counter, so bogomips tells its frequency to a few parts
// in a million; "cpu MHz" is the processor's speed of the moment.
func parseTSC(cpuinfo string) (int, error) {
	for line := range strings.Lines(cpuinfo) {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "bogomips" {
			continue
		}
		mips, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || mips < 1 {
			return 0, fmt.Errorf("bogomips %q in /proc/cpuinfo: a positive number expected", strings.TrimSpace(value))
		}
		return int(mips * 500), nil
	}
	return 0, fmt.Errorf("no bogomips in /proc/cpuinfo")
}
