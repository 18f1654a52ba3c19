package listen

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
)

// What the kernel calls the program for, and where it says so: parts of its
// struct bpf_sock_ops, which is part of its interface.
const (
	tcpListen   = 11 // BPF_SOCK_OPS_TCP_LISTEN_CB
	opOffset    = 0
	portOffset  = 68 // local_port, in the processor's order
	recordSize  = 4
	recordSpace = 4096 // bytes; what does not fit in is not needed
)

// kernel is the program and what it writes to: a port for each socket that
// begins to listen.
type kernel struct {
	ports   *ebpf.Map
	program *ebpf.Program
	reader  *ringbuf.Reader
}

// load brings the program into the kernel, which runs it only when attached.
func load() (k *kernel, err error) {
	k = &kernel{}
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	k.ports, err = ebpf.NewMap(&ebpf.MapSpec{Name: "aegis_listen", Type: ebpf.RingBuf, MaxEntries: recordSpace})
	if err != nil {
		return nil, fmt.Errorf("making a buffer of the kernel: %w", err)
	}
	k.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "aegis_listen", Type: ebpf.SockOps, AttachType: ebpf.AttachCGroupSockOps, License: "Apache-2.0",
		Instructions: instructions(k.ports.FD()),
	})
	if err != nil {
		return nil, fmt.Errorf("loading a program of the kernel: %w", err)
	}
	if k.reader, err = ringbuf.NewReader(k.ports); err != nil {
		return nil, fmt.Errorf("reading a buffer of the kernel: %w", err)
	}
	return k, nil
}

// instructions are: if the call is for a listen, write its port; allow it.
func instructions(ports int) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, opOffset, asm.Word),
		asm.JNE.Imm(asm.R2, tcpListen, "done"),
		asm.LoadMem(asm.R2, asm.R1, portOffset, asm.Word),
		asm.StoreMem(asm.RFP, -recordSize, asm.R2, asm.Word),
		asm.LoadMapPtr(asm.R1, ports),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -recordSize),
		asm.Mov.Imm(asm.R3, recordSize),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("done"),
		asm.Return(),
	}
}

func (k *kernel) close() error {
	var errs []error
	if k.reader != nil {
		errs = append(errs, k.reader.Close())
	}
	if k.program != nil {
		errs = append(errs, k.program.Close())
	}
	if k.ports != nil {
		errs = append(errs, k.ports.Close())
	}
	return errors.Join(errs...)
}
