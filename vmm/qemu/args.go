package qemu

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto/link"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

// The virtio-mmio bus of each device. It is part of what a guest sees and of
// every snapshot: a disk that a machine lacks leaves its bus empty, and bus 7
// is free.
const (
	busNet    = 4
	busSerial = 5
	busRandom = 6
)

// args collects a command line and the files that the child inherits.
type args struct {
	argv  []string
	files []*os.File
}

func (a *args) add(argv ...string) { a.argv = append(a.argv, argv...) }

// inherit gives the descriptor number that f will have in the child.
func (a *args) inherit(f *os.File) int {
	a.files = append(a.files, f)
	return monitor.FirstFile + len(a.files) - 1
}

// path names an inherited file for options that take only paths.
func (a *args) path(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", a.inherit(f)) }

// wiring is every file that a machine's monitor inherits.
type wiring struct {
	kernel, initramfs    *os.File
	qmp, serial, console *os.File
	// memory is the guest's; nil is one that only the monitor has.
	memory *os.File
	// shared says that memory is the machine's own and keeps what the guest
	// writes; otherwise it is mapped privately.
	shared bool
	disks  []vmm.Disk
	nic    *os.File
	frames bool // nic is a stream of them, not a tap
}

// The ways to read and write disks.
const (
	aioURing   = "io_uring"
	aioThreads = "threads"
)

// accelerator is how guest instructions are run and disks read.
type accelerator struct {
	kvm bool
	// aio is aioURing or aioThreads.
	aio string
	// tscKHz is the frequency of the guest's time stamp counter under TCG.
	tscKHz int
}

// commandLine is the whole command line for a plan.
func commandLine(p vmm.Plan, w wiring, acc accelerator) *args {
	a := &args{}
	// The second interrupt controller has a broken first pin: a device on
	// bus 0 would never be heard.
	a.add("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-name", "aegis-"+p.ID,
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-M", "microvm,isa-serial=off,ioapic2=off,memory-backend=memory",
		"-m", strconv.Itoa(p.MemoryMiB), "-smp", acc.processors(p.VCPUs))
	acc.add(a)
	a.memory(w, p.MemoryMiB)
	a.add("-kernel", a.path(w.kernel), "-initrd", a.path(w.initramfs), "-append", acc.kernelLine())
	a.add("-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", a.inherit(w.qmp)), "-mon", "chardev=qmp,mode=control")
	for _, d := range w.disks {
		a.disk(d, acc.aio)
	}
	a.network(w.nic, w.frames)
	a.add("-device", fmt.Sprintf("virtio-serial-device,id=serial,max_ports=2,bus=virtio-mmio-bus.%d", busSerial))
	a.add("-chardev", fmt.Sprintf("socket,id=console,fd=%d", a.inherit(w.console)),
		"-device", "virtconsole,bus=serial.0,nr=0,chardev=console")
	a.add("-chardev", fmt.Sprintf("socket,id=link,fd=%d", a.inherit(w.serial)),
		"-device", "virtserialport,bus=serial.0,nr=1,chardev=link,name="+link.PortName)
	a.add("-object", "rng-builtin,id=random",
		"-device", fmt.Sprintf("virtio-rng-device,rng=random,bus=virtio-mmio-bus.%d", busRandom))
	if p.Restore != nil {
		a.add("-incoming", "defer")
	}
	return a
}

// memory adds the guest's memory, always under the same name, by which a
// snapshot finds it.
func (a *args) memory(w wiring, mib int) {
	if w.memory == nil {
		a.add("-object", fmt.Sprintf("memory-backend-ram,id=memory,size=%dM", mib))
		return
	}
	a.add("-object", fmt.Sprintf("memory-backend-file,id=memory,mem-path=%s,size=%dM,share=%s",
		a.path(w.memory), mib, onOff(w.shared)))
}

// disk adds one disk on the bus of its role. The descriptor is the only way
// to the file, so a lock would only stand in the way of machines that share
// an image.
func (a *args) disk(d vmm.Disk, aio string) {
	name, fd := string(d.Role), a.inherit(d.File)
	a.add("-add-fd", fmt.Sprintf("fd=%d,set=%d", fd, fd))
	node := map[string]any{
		"driver": "raw", "node-name": name, "read-only": d.ReadOnly,
		"file": map[string]any{
			"driver": "file", "filename": fmt.Sprintf("/dev/fdset/%d", fd), "locking": "off", "aio": aio,
			"read-only": d.ReadOnly,
		},
	}
	if !d.ReadOnly {
		node["discard"] = "unmap"
		node["file"].(map[string]any)["discard"] = "unmap"
	}
	b, err := json.Marshal(node)
	if err != nil {
		panic(err) // strings and booleans always marshal
	}
	a.add("-blockdev", string(b), "-device", fmt.Sprintf("virtio-blk-device,drive=%s,serial=%s,bus=virtio-mmio-bus.%d",
		name, name, slot(d.Role)))
}

// network adds the guest's network device, if it has one.
func (a *args) network(nic *os.File, frames bool) {
	if nic == nil {
		return
	}
	backend, device := "tap,id=net,fd=%d,vhost=off", ""
	if frames {
		// There is no segmentation offload over a stream: large packets instead.
		backend, device = "stream,id=net,server=off,addr.type=fd,addr.str=%d", fmt.Sprintf(",host_mtu=%d", vmm.FramesMTU)
	}
	a.add("-netdev", fmt.Sprintf(backend, a.inherit(nic)),
		"-device", fmt.Sprintf("virtio-net-device,netdev=net,mac=%s,bus=virtio-mmio-bus.%d%s", net.HardwareAddr(api.GuestMAC[:]), busNet, device))
}

// slot is the place of a role in vmm.Roles, -1 for one that is not there.
func slot(r vmm.Role) int {
	for i, known := range vmm.Roles {
		if r == known {
			return i
		}
	}
	return -1
}

func (acc accelerator) add(a *args) {
	if acc.kvm {
		a.add("-accel", "kvm", "-cpu", "host")
		return
	}
	// No page is both writable and executable. Nehalem is x86-64-v2, the
	// least that current distributions run on; without arat its guests get
	// neither fine timers nor an idle that is idle.
	a.add("-accel", "tcg,thread=multi,tb-size=128,split-wx=on", "-cpu", "Nehalem,+arat")
}

// processors is how many there are. Where there will never be a second one,
// QEMU emulates locked instructions without a lock and without a barrier,
// although its own threads read the guest's queues at the same time.
func (acc accelerator) processors(n int) string {
	if acc.kvm || n > 1 {
		return strconv.Itoa(n)
	}
	return "1,maxcpus=2"
}

// kernelLine is the kernel's command line: the same for every machine, as
// all that makes a machine somebody's reaches it later.
func (acc accelerator) kernelLine() string {
	line := "console=hvc0 loglevel=1 reboot=t panic=-1 8250.nr_uarts=0 noreplace-smp random.trust_cpu=on " +
		"cryptomgr.notests rcupdate.rcu_expedited=1"
	if acc.kvm {
		return line
	}
	// Without tsc_early_khz an emulated guest calibrates its clock against
	// emulated timers, and hangs now and then on a busy host. What the kernel
	// does against a processor that speculates only costs where none does.
	return fmt.Sprintf("%s mitigations=off no_timer_check tsc=reliable tsc_early_khz=%d", line, acc.tscKHz)
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
