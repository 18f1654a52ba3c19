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
	// memory is the guest's, a file of memoryMiB; api a listening socket.
	memory, api *os.File
	disks       []vmm.Disk
	nic         *os.File
	// console is the path of a named pipe, vsock of the socket to be made,
	// saved of the directory that a snapshot is written to and read from.
	console, vsock, saved string
	landlock              bool
}

// The names of devices, by which a saved machine has them.
const (
	netID   = "net"
	vsockID = "vsock"
)

// places are the names of inherited files in the monitor.
type places struct {
	kernel, initramfs, memory string
	api, events, nic          int
	disks                     []string // as those of the wiring
}

// inherit gives every file a descriptor in the child.
func (w wiring) inherit() (at places, files []*os.File) {
	number := func(f *os.File) int {
		files = append(files, f)
		return monitor.FirstFile + len(files) - 1
	}
	path := func(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", number(f)) }
	at = places{
		kernel: path(w.kernel), initramfs: path(w.initramfs), memory: path(w.memory),
		api: number(w.api), events: number(w.events),
	}
	for _, d := range w.disks {
		at.disks = append(at.disks, path(d.File))
	}
	if w.nic != nil {
		at.nic = number(w.nic)
	}
	return at, files
}

// commandLine is the whole command line for a plan.
func commandLine(p vmm.Plan, w wiring, at places) []string {
	argv := []string{
		"--api-socket", fmt.Sprintf("fd=%d", at.api), "--event-monitor", fmt.Sprintf("fd=%d", at.events), "--seccomp", "true",
	}
	if w.landlock {
		argv = append(argv, "--landlock")
	}
	if p.Restore != nil {
		return append(argv, "--restore", w.restore(at))
	}
	if w.landlock {
		argv = append(argv, "--landlock-rules", fmt.Sprintf("path=%s,access=rw", w.saved))
	}
	return append(argv, w.boot(p, at)...)
}

// boot are the options of a machine that begins anew. Its memory is a file
// that is shared with us and has a name, so that a snapshot leaves it to us.
func (w wiring) boot(p vmm.Plan, at places) []string {
	argv := []string{
		"--kernel", at.kernel, "--initramfs", at.initramfs, "--cmdline", kernelLine,
		"--cpus", fmt.Sprintf("boot=%d", p.VCPUs), "--memory", "size=0",
		"--memory-zone", fmt.Sprintf("id=memory,size=%dM,file=%s,shared=on", p.MemoryMiB, at.memory),
		"--console", "file=" + w.console, "--serial", "off",
		"--vsock", fmt.Sprintf("cid=%d,socket=%s,id=%s", cid, w.vsock, vsockID),
		"--rng", "src=/dev/urandom",
	}
	for i, d := range w.disks {
		opt := fmt.Sprintf("path=%s,image_type=raw,serial=%s,id=%s", at.disks[i], d.Role, d.Role)
		if d.ReadOnly {
			opt += ",readonly=on,sparse=off"
		}
		argv = append(argv, "--disk", opt)
	}
	if w.nic != nil {
		argv = append(argv, "--net", fmt.Sprintf("fd=%d,mac=%s,id=%s", at.nic, net.HardwareAddr(api.GuestMAC[:]), netID))
	}
	return argv
}

// restore is the option of a machine that goes on: all else is in the saved
// configuration.
func (w wiring) restore(at places) string {
	opt := "source_url=" + fileURL(w.saved)
	if w.nic != nil {
		opt += fmt.Sprintf(",net_fds=[%s@[%d]]", netID, at.nic)
	}
	return opt
}

// fileURL names a directory of snapshots; Cloud Hypervisor takes what follows
// the scheme as it is.
func fileURL(dir string) string { return "file://" + dir }
