package vmm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The ioctls of linux/kvm.h that the probe uses, on x86-64.
const (
	kvmGetAPIVersion    = 0xae00
	kvmCreateVM         = 0xae01
	kvmCheckExtension   = 0xae03
	kvmGetVCPUMmapSize  = 0xae04
	kvmGetSupportedID   = 0xc008ae05
	kvmCreateVCPU       = 0xae41
	kvmSetUserMemory    = 0x4020ae46
	kvmSetTSSAddr       = 0xae47
	kvmRun              = 0xae80
	kvmSetRegs          = 0x4090ae82
	kvmGetSregs         = 0x8138ae83
	kvmSetSregs         = 0x4138ae84
	kvmSetCPUID2        = 0x4008ae90
	kvmAPIVersion       = 12
	kvmDefaultGuestPort = 0xe9
)

// kvmExtensions are what the monitors need, by their number in linux/kvm.h.
var kvmExtensions = []struct {
	number uintptr
	name   string
}{
	{0, "IRQCHIP"},
	{3, "USER_MEMORY"},
	{4, "SET_TSS_ADDR"},
	{7, "EXT_CPUID"},
	{14, "MP_STATE"},
	{32, "IRQFD"},
	{36, "IOEVENTFD"},
	{41, "VCPU_EVENTS"},
	{136, "IMMEDIATE_EXIT"},
}

// probeDeadline is how long the probe's guest may take for its 30
// instructions.
const probeDeadline = 2 * time.Second

// ProbeKVM tells whether KVM can run a stock kernel: the processor must have
// vmx or svm, /dev/kvm the interfaces that monitors use, and a guest of a few
// instructions must come from 16-bit through 32-bit to 64-bit mode. That
// /dev/kvm opens means little: paravirtual KVMs open too, and stock kernels
// hang in them. The error tells only that ctx ended.
func ProbeKVM(ctx context.Context) (KVM, error) {
	err := probeKVM(ctx)
	if ctx.Err() != nil {
		return KVM{}, fmt.Errorf("probing KVM: %w", ctx.Err())
	}
	if err != nil {
		return KVM{Reason: err.Error()}, nil
	}
	return KVM{Usable: true}, nil
}

func probeKVM(ctx context.Context) error {
	dev, err := openKVM()
	if err != nil {
		return err
	}
	defer dev.Close()
	if err := checkInterface(dev); err != nil {
		return err
	}
	if err := checkProcessor(); err != nil {
		return err
	}
	if err := checkOthers(dev); err != nil {
		return err
	}
	return runProbeGuest(ctx, dev, probeCode)
}

func openKVM() (*os.File, error) {
	dev, err := os.OpenFile("/dev/kvm", os.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("there is no /dev/kvm: virtualisation is off in the firmware, or this is a machine without it")
	case errors.Is(err, fs.ErrPermission):
		return nil, errors.New("/dev/kvm may not be opened: add the user to its group, usually kvm")
	case err != nil:
		return nil, fmt.Errorf("/dev/kvm does not open: %w", err)
	}
	return dev, nil
}

// checkOthers refuses a device that only root may open: as root we could, but
// each machine has a user of its own, in the device's group.
func checkOthers(dev *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dev.Fd()), &st); err != nil {
		return fmt.Errorf("/dev/kvm cannot be looked at: %w", err)
	}
	if os.Geteuid() == 0 && !machinesMayOpen(st.Mode, st.Gid) {
		return fmt.Errorf("/dev/kvm has mode %04o and group %d, so that machines, which do not run as root, may not open it: "+
			"run chgrp kvm /dev/kvm && chmod 0660 /dev/kvm", st.Mode&0o7777, st.Gid)
	}
	return nil
}

// machinesMayOpen tells whether a device can be read and written by somebody
// who is not root but in its group; root's own group is nobody's.
func machinesMayOpen(mode, gid uint32) bool {
	return mode&0o006 == 0o006 || gid != 0 && mode&0o060 == 0o060
}

func checkInterface(dev *os.File) error {
	if v, err := ioctl(dev, kvmGetAPIVersion, 0); err != nil || v != kvmAPIVersion {
		return fmt.Errorf("/dev/kvm has API version %d, %d expected", v, kvmAPIVersion)
	}
	var lacking []string
	for _, e := range kvmExtensions {
		if v, err := ioctl(dev, kvmCheckExtension, e.number); err != nil || v == 0 {
			lacking = append(lacking, e.name)
		}
	}
	if len(lacking) > 0 {
		return fmt.Errorf("/dev/kvm lacks %s", strings.Join(lacking, ", "))
	}
	return nil
}

// checkProcessor looks for what every KVM for stock kernels stands on.
func checkProcessor() error {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return fmt.Errorf("the processor's features cannot be read: %w", err)
	}
	if hasVirtualisation(string(b)) {
		return nil
	}
	return errors.New("/dev/kvm opens but the processor has neither vmx nor svm: " +
		"this is a paravirtual KVM, in which stock kernels do not run")
}

// hasVirtualisation looks for vmx or svm in the flags of a /proc/cpuinfo.
func hasVirtualisation(cpuinfo string) bool {
	for line := range strings.Lines(cpuinfo) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		for f := range strings.FieldsSeq(flags) {
			if f == "vmx" || f == "svm" {
				return true
			}
		}
	}
	return false
}

// ioctl calls f's driver with a plain number.
func ioctl(f *os.File, request, arg uintptr) (uintptr, error) {
	v, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, arg)
	if errno != 0 {
		return 0, errno
	}
	return v, nil
}
