package qemu

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

func line(p vmm.Plan, w wiring, acc accelerator) string {
	return strings.Join(commandLine(p, w, acc).argv, " ")
}

// files are n that can be told apart and are never used.
func files(n int) []*os.File {
	fs := make([]*os.File, n)
	for i := range fs {
		fs[i] = new(os.File)
	}
	return fs
}

func TestDevicesKeepTheirPlacesWhateverDisksThereAre(t *testing.T) {
	f := files(4)
	all := []vmm.Disk{
		{Role: vmm.RoleKit, File: f[0], ReadOnly: true},
		{Role: vmm.RoleImage, File: f[1], ReadOnly: true},
		{Role: vmm.RoleTools, File: f[2], ReadOnly: true},
		{Role: vmm.RoleOwn, File: f[3]},
	}
	places := map[vmm.Role]string{vmm.RoleImage: "0", vmm.RoleOwn: "1", vmm.RoleTools: "2", vmm.RoleKit: "3"}
	for n := range len(all) + 1 {
		got := line(vmm.Plan{ID: "m", MemoryMiB: 128, VCPUs: 1}, wiring{disks: all[:n]}, accelerator{})
		for i, d := range all {
			device := "virtio-blk-device,drive=" + string(d.Role) + ",serial=" + string(d.Role) + ",bus=virtio-mmio-bus." + places[d.Role]
			if strings.Contains(got, device) != (i < n) {
				t.Errorf("with %d disks: %q there: %v", n, device, i >= n)
			}
		}
		for _, device := range []string{"virtio-serial-device,id=serial,max_ports=2,bus=virtio-mmio-bus.5", "virtio-rng-device,rng=random,bus=virtio-mmio-bus.6"} {
			if !strings.Contains(got, device) {
				t.Errorf("with %d disks: %q is missing", n, device)
			}
		}
	}
}

func TestANetworkHasItsPlaceIfThereIsOne(t *testing.T) {
	plan, tap := vmm.Plan{ID: "m", MemoryMiB: 128, VCPUs: 1}, files(1)[0]
	if got := line(plan, wiring{}, accelerator{}); strings.Contains(got, "net") {
		t.Errorf("without a tap: %s", got)
	}
	a := commandLine(plan, wiring{nic: tap}, accelerator{})
	fd := strconv.Itoa(monitor.FirstFile + slices.Index(a.files, tap))
	want := "-netdev tap,id=net,fd=" + fd + ",vhost=off -device virtio-net-device,netdev=net,mac=02:ae:91:50:00:02,bus=virtio-mmio-bus.4"
	if got := strings.Join(a.argv, " "); !strings.Contains(got, want) {
		t.Errorf("%q is not in %s", want, got)
	}
	a = commandLine(plan, wiring{nic: tap, frames: true}, accelerator{})
	fd = strconv.Itoa(monitor.FirstFile + slices.Index(a.files, tap))
	want = "-netdev stream,id=net,server=off,addr.type=fd,addr.str=" + fd +
		" -device virtio-net-device,netdev=net,mac=02:ae:91:50:00:02,bus=virtio-mmio-bus.4,host_mtu=65520"
	if got := strings.Join(a.argv, " "); !strings.Contains(got, want) {
		t.Errorf("%q is not in %s", want, got)
	}
}

func TestDescriptorsOnTheCommandLineAreThoseOfTheChild(t *testing.T) {
	f := files(8)
	w := wiring{
		kernel: f[0], initramfs: f[1], qmp: f[2], serial: f[3], console: f[4], memory: f[5],
		disks: []vmm.Disk{{Role: vmm.RoleImage, ReadOnly: true, File: f[6]}, {Role: vmm.RoleOwn, File: f[7]}},
	}
	a := commandLine(vmm.Plan{ID: "m", MemoryMiB: 128, VCPUs: 1}, w, accelerator{})
	got := strings.Join(a.argv, " ")
	for _, c := range []struct {
		file   *os.File
		option string
	}{
		{f[0], "-kernel /proc/self/fd/#"},
		{f[1], "-initrd /proc/self/fd/#"},
		{f[2], "socket,id=qmp,fd=#"},
		{f[3], "socket,id=link,fd=#"},
		{f[4], "socket,id=console,fd=#"},
		{f[5], "mem-path=/proc/self/fd/#,size=128M,share=off"},
		{f[6], "-add-fd fd=#,set=#"},
		{f[7], "/dev/fdset/#"},
	} {
		fd := strconv.Itoa(3 + slices.Index(a.files, c.file))
		if want := strings.ReplaceAll(c.option, "#", fd); !strings.Contains(got, want) {
			t.Errorf("%q is not in the command line", want)
		}
	}
}

func TestReadOnlyDisksAreReadOnlyAtEveryLayer(t *testing.T) {
	f := files(2)
	a := &args{}
	a.disk(vmm.Disk{Role: vmm.RoleImage, ReadOnly: true, File: f[0]}, aioThreads)
	if got := strings.Join(a.argv, " "); strings.Count(got, `"read-only":true`) != 2 || strings.Contains(got, "discard") || !strings.Contains(got, `"aio":"threads"`) {
		t.Errorf("read-only disk: %s", got)
	}
	a = &args{}
	a.disk(vmm.Disk{Role: vmm.RoleOwn, File: f[1]}, aioURing)
	if got := strings.Join(a.argv, " "); strings.Count(got, `"read-only":false`) != 2 || strings.Count(got, `"discard":"unmap"`) != 2 || !strings.Contains(got, `"aio":"io_uring"`) {
		t.Errorf("writable disk: %s", got)
	}
}

func TestKernelLineIsTheSameForEveryMachine(t *testing.T) {
	acc := accelerator{tscKHz: 2_500_000}
	append1 := func(id string) string {
		argv := commandLine(vmm.Plan{ID: id, MemoryMiB: 128, VCPUs: 1}, wiring{}, acc).argv
		return argv[slices.Index(argv, "-append")+1]
	}
	if append1("one") != append1("two") || strings.Contains(append1("one"), "one") {
		t.Errorf("the kernel is told who it is: %q", append1("one"))
	}
	if !strings.Contains(append1("one"), "tsc_early_khz=2500000") {
		t.Errorf("emulated guest without tsc_early_khz: %q", append1("one"))
	}
	if kvm := (accelerator{kvm: true}).kernelLine(); strings.Contains(kvm, "tsc") || strings.Contains(kvm, "mitigations") {
		t.Errorf("KVM guest with an emulated guest's processor: %q", kvm)
	}
}

func TestAnEmulatedMachineIsNeverOneThatHasASingleProcessorForGood(t *testing.T) {
	for _, c := range []struct {
		vcpus int
		kvm   bool
		want  string
	}{{1, false, "1,maxcpus=2"}, {2, false, "2"}, {1, true, "1"}} {
		if got := (accelerator{kvm: c.kvm}).processors(c.vcpus); got != c.want {
			t.Errorf("%d vCPUs, KVM %v: -smp %s, want %s", c.vcpus, c.kvm, got, c.want)
		}
	}
}

func TestAcceleratorsChooseTheProcessor(t *testing.T) {
	p := vmm.Plan{ID: "m", MemoryMiB: 128, VCPUs: 3}
	for want, acc := range map[string]accelerator{
		"-accel kvm -cpu host": {kvm: true},
		"-accel tcg,thread=multi,tb-size=128,split-wx=on -cpu Nehalem,+arat": {},
	} {
		if got := line(p, wiring{}, acc); !strings.Contains(got, want) || !strings.Contains(got, "-smp 3") {
			t.Errorf("%+v: %q is not in %q", acc, want, got)
		}
	}
}

func TestVersionIsRead(t *testing.T) {
	for out, want := range map[string]string{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright": "7.2.22",

		"QEMU emulator version 10.0\n": "10.0",
		"something else":               "",
		"":                             "",
	} {
		if got := parseVersion(out); got != want {
			t.Errorf("%q: version %q, want %q", out, got, want)
		}
	}
}

func TestClockIsReadFromBogomips(t *testing.T) {
	for cpuinfo, want := range map[string]int{
		"processor : 0\ncpu MHz : 1200.000\nbogomips\t: 5192.27\n": 2_596_135,
		"bogomips : 4000.00\nbogomips : 8000.00\n":                 2_000_000,
		"cpu MHz : 1200.000\n":                                     0,
		"bogomips : many\n":                                        0,
		"bogomips : 0.00\n":                                        0,
	} {
		if got, err := parseTSC(cpuinfo); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d kHz (%v), want %d", cpuinfo, got, err, want)
		}
	}
}
