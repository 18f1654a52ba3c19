package vmm

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probeCode goes from real mode through protected mode to long mode, as every
// kernel does, and writes 1, 2 and 3 to port 0xe9 on the way. It is loaded at
// probeEntry and uses the page tables at probeTables.
var probeCode = []byte{
	// 16 bit: mov $'1',%al; out %al,$0xe9; lgdtl gdtr
	0xb0, 0x31, 0xe6, 0xe9, 0x66, 0x0f, 0x01, 0x16, 0x90, 0x10,
	// mov %cr0,%eax; or $1,%al; mov %eax,%cr0; ljmpl $8,$prot
	0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x1a, 0x10, 0x00, 0x00, 0x08, 0x00,
	// 32 bit, prot: mov $16,%ax; mov %ax to %ds, %es, %ss
	0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0,
	// mov $'2',%al; out %al,$0xe9; cr4 |= PAE; cr3 = 0x2000
	0xb0, 0x32, 0xe6, 0xe9, 0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xe0,
	0xb8, 0x00, 0x20, 0x00, 0x00, 0x0f, 0x22, 0xd8,
	// EFER |= LME; cr0 |= PG; ljmpl $24,$long
	0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32, 0x0d, 0x00, 0x01, 0x00, 0x00, 0x0f, 0x30,
	0x0f, 0x20, 0xc0, 0x0d, 0x00, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0,
	0xea, 0x59, 0x10, 0x00, 0x00, 0x18, 0x00,
	// 64 bit, long: movabs $0x3300000000,%rax; shr $32,%rax; out %al,$0xe9; hlt
	0x48, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x33, 0x00, 0x00, 0x00, 0x48, 0xc1, 0xe8, 0x20, 0xe6, 0xe9, 0xf4,
	// padding; gdt: null, 32-bit code, data, 64-bit code
	0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xcf, 0x00,
	0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00,
	0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xaf, 0x00,
	// gdtr: limit 31, base gdt
	0x1f, 0x00, 0x70, 0x10, 0x00, 0x00,
}

const (
	probeEntry  = 0x1000
	probeTables = 0x2000
	probeMemory = 0x10000
)

// kvmSregs is struct kvm_sregs as far as the probe cares: it starts with the
// code segment.
type kvmSregs struct {
	csBase     uint64
	_          uint32
	csSelector uint16
	_          [0x138 - 14]byte
}

// kvmRegs is struct kvm_regs: sixteen registers, then these two.
type kvmRegs struct {
	_           [16]uint64
	rip, rflags uint64
}

// kvmUserMemory is struct kvm_userspace_memory_region for slot 0 at address 0.
type kvmUserMemory struct {
	_            [2]uint32
	_            uint64
	size, memory uint64
}

// kvmCPUID is struct kvm_cpuid2 with room for 100 entries of 40 bytes.
type kvmCPUID struct {
	n, _ uint32
	_    [100 * 40]byte
}

// probeGuest is a virtual machine of 64 KiB and one processor.
type probeGuest struct {
	code        []byte
	vm, vcpu    *os.File
	memory, run []byte
}

// runProbeGuest runs code, which must behave as probeCode, with a deadline.
func runProbeGuest(ctx context.Context, dev *os.File, code []byte) error {
	g := &probeGuest{code: code}
	defer g.close()
	if err := g.build(dev); err != nil {
		return fmt.Errorf("/dev/kvm cannot make a virtual machine: %w", err)
	}
	ended := make(chan error, 1)
	tid := make(chan int, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		ended <- g.expect("123")
	}()
	thread := <-tid
	timer := time.NewTimer(probeDeadline)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
	case <-ctx.Done():
	}
	return g.interrupt(thread, ended)
}

// interrupt ends a KVM_RUN that does not come back: the flag keeps it from
// entering the guest again, and the signal, which the Go runtime uses itself
// and therefore survives, gets it out.
func (g *probeGuest) interrupt(thread int, ended <-chan error) error {
	g.run[1] = 1 // immediate_exit
	unix.Tgkill(unix.Getpid(), thread, unix.SIGURG)
	timer := time.NewTimer(probeDeadline)
	defer timer.Stop()
	select {
	case <-ended:
		return fmt.Errorf("a guest of 30 instructions did not end within %v", probeDeadline)
	case <-timer.C:
		g.vm, g.vcpu, g.memory, g.run = nil, nil, nil, nil // still in use: leave them
		return fmt.Errorf("a guest of 30 instructions hangs in the host's kernel")
	}
}

func (g *probeGuest) build(dev *os.File) error {
	vm, err := ioctl(dev, kvmCreateVM, 0)
	if err != nil {
		return fmt.Errorf("KVM_CREATE_VM: %w", err)
	}
	g.vm = os.NewFile(vm, "kvm-vm")
	if _, err := ioctl(g.vm, kvmSetTSSAddr, 0xfffbd000); err != nil {
		return fmt.Errorf("KVM_SET_TSS_ADDR: %w", err)
	}
	if g.memory, err = unix.Mmap(-1, 0, probeMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS); err != nil {
		return fmt.Errorf("guest memory: %w", err)
	}
	g.load()
	region := kvmUserMemory{size: probeMemory, memory: uint64(uintptr(unsafe.Pointer(&g.memory[0])))}
	if err := pass(g.vm, kvmSetUserMemory, &region); err != nil {
		return fmt.Errorf("KVM_SET_USER_MEMORY_REGION: %w", err)
	}
	vcpu, err := ioctl(g.vm, kvmCreateVCPU, 0)
	if err != nil {
		return fmt.Errorf("KVM_CREATE_VCPU: %w", err)
	}
	g.vcpu = os.NewFile(vcpu, "kvm-vcpu")
	size, err := ioctl(dev, kvmGetVCPUMmapSize, 0)
	if err != nil {
		return fmt.Errorf("KVM_GET_VCPU_MMAP_SIZE: %w", err)
	}
	if g.run, err = unix.Mmap(int(vcpu), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("mapping the processor: %w", err)
	}
	return g.aim(dev)
}

// load puts the guest's code and page tables that map 2 MiB one to one into memory.
func (g *probeGuest) load() {
	const present, writable, large = 1, 2, 0x80
	copy(g.memory[probeEntry:], g.code)
	for level, entry := range []uint64{
		probeTables + 0x1000 | present | writable,
		probeTables + 0x2000 | present | writable,
		present | writable | large,
	} {
		binary.LittleEndian.PutUint64(g.memory[probeTables+level*0x1000:], entry)
	}
}

// aim gives the processor its features and lets it start at probeEntry.
func (g *probeGuest) aim(dev *os.File) error {
	cpuid := kvmCPUID{n: 100}
	if err := pass(dev, kvmGetSupportedID, &cpuid); err != nil {
		return fmt.Errorf("KVM_GET_SUPPORTED_CPUID: %w", err)
	}
	if err := pass(g.vcpu, kvmSetCPUID2, &cpuid); err != nil {
		return fmt.Errorf("KVM_SET_CPUID2: %w", err)
	}
	var sregs kvmSregs
	if err := pass(g.vcpu, kvmGetSregs, &sregs); err != nil {
		return fmt.Errorf("KVM_GET_SREGS: %w", err)
	}
	sregs.csBase, sregs.csSelector = 0, 0
	if err := pass(g.vcpu, kvmSetSregs, &sregs); err != nil {
		return fmt.Errorf("KVM_SET_SREGS: %w", err)
	}
	if err := pass(g.vcpu, kvmSetRegs, &kvmRegs{rip: probeEntry, rflags: 2}); err != nil {
		return fmt.Errorf("KVM_SET_REGS: %w", err)
	}
	return nil
}

// expect runs the guest until it halts and compares what it wrote.
func (g *probeGuest) expect(want string) error {
	const exitIO, exitHalt = 2, 5
	said := ""
	for {
		if _, err := ioctl(g.vcpu, kvmRun, 0); err != nil {
			if err == unix.EINTR && g.run[1] == 0 {
				continue
			}
			return fmt.Errorf("KVM_RUN after %q of %q: %w", said, want, err)
		}
		reason := binary.LittleEndian.Uint32(g.run[8:])
		switch {
		case reason == exitIO && binary.LittleEndian.Uint16(g.run[34:]) == kvmDefaultGuestPort && len(said) < len(want):
			said += string(rune(g.run[binary.LittleEndian.Uint64(g.run[40:])]))
		case reason == exitHalt && said == want:
			return nil
		default:
			return fmt.Errorf("a small guest failed on its way to 64-bit mode: KVM exit %d after %q, halt (%d) after %q expected",
				reason, said, exitHalt, want)
		}
	}
}

func (g *probeGuest) close() {
	for _, b := range [][]byte{g.run, g.memory} {
		if b != nil {
			unix.Munmap(b)
		}
	}
	for _, f := range []*os.File{g.vcpu, g.vm} {
		if f != nil {
			f.Close()
		}
	}
}

// pass calls f's driver with a structure.
func pass[T any](f *os.File, request uintptr, arg *T) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(arg)))
	runtime.KeepAlive(arg)
	if errno != 0 {
		return errno
	}
	return nil
}
