package cloudhypervisor

import (
	"fmt"
	"net"
	"os"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

// kernelLine is the kernel's command line: the same for every machine, as
// all that makes a machine somebody's reaches it later.
const kernelLine = "console=hvc0 loglevel=1 reboot=t panic=-1 8250.nr_uarts=0 random.trust_cpu=on " +
	"cryptomgr.notests rcupdate.rcu_expedited=1"

// cid is the guest's address; it is private to its process.
const cid = 3

// wiring is what a machine's monitor is given.
type wiring struct {
	kernel, initramfs, events *os.File
	disks                     []vmm.Disk
	nic                       *os.File
	// console is the path of a named pipe, vsock of the socket to be made.
	console, vsock string
	landlock       bool
}

// commandLine is the whole command line for a plan, and the files that the
// child inherits.
func commandLine(p vmm.Plan, w wiring) (argv []string, files []*os.File) {
	inherit := func(f *os.File) int {
		files = append(files, f)
		return monitor.FirstFile + len(files) - 1
	}
	path := func(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", inherit(f)) }
	argv = append(argv,
		"--kernel", path(w.kernel), "--initramfs", path(w.initramfs), "--cmdline", kernelLine,
		"--cpus", fmt.Sprintf("boot=%d", p.VCPUs), "--memory", fmt.Sprintf("size=%dM", p.MemoryMiB),
		"--console", "file="+w.console, "--serial", "off",
		"--vsock", fmt.Sprintf("cid=%d,socket=%s", cid, w.vsock),
		"--event-monitor", fmt.Sprintf("fd=%d", inherit(w.events)),
		"--rng", "src=/dev/urandom", "--seccomp", "true")
	if w.landlock {
		argv = append(argv, "--landlock")
	}
	for _, d := range w.disks {
		opt := fmt.Sprintf("path=%s,image_type=raw,serial=%s,id=%s", path(d.File), d.Role, d.Role)
		if d.ReadOnly {
			opt += ",readonly=on,sparse=off"
		}
		argv = append(argv, "--disk", opt)
	}
	if w.nic != nil {
		argv = append(argv, "--net", fmt.Sprintf("fd=%d,mac=%s,id=net", inherit(w.nic), net.HardwareAddr(api.GuestMAC[:])))
	}
	return argv, files
}
