package bench

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

// throughputBytes go in and come back in every round, throughputRounds of
// them on each side in turns.
const (
	throughputBytes  = 256 << 20
	throughputRounds = 5
)

// BenchmarkCat compares 256 MiB through `aegis run -i -- cat` with the same
// bytes through a C program that echoes the raw port.
func BenchmarkCat(b *testing.B) {
	h := up(b)
	raw := rawPort(b, "echo")
	for b.Loop() {
		var ours, plain []time.Duration
		for range throughputRounds {
			plain = append(plain, pump(b, raw, raw))
			ours = append(ours, cat(b, h))
		}
		b.ReportMetric(throughput(ours), "ours-MiB/s")
		b.ReportMetric(throughput(plain), "raw-MiB/s")
		b.ReportMetric(throughput(ours)/throughput(plain), "ours/raw")
		b.ReportMetric(0, "ns/op")
	}
}

func throughput(d []time.Duration) float64 {
	return throughputBytes / (1 << 20) / median(d).Seconds()
}

// cat measures from the first byte in to the last byte out, without the
// machine's boot.
func cat(b *testing.B, h *testbed.Host) time.Duration {
	cmd := h.Command(b.Context(), "aegis", "run", "-i", "--", "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	// One byte there and back: cat runs.
	if _, err := in.Write([]byte{'!'}); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	took := pump(b, in, out)
	in.Close()
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	return took
}

// pump sends the bytes and compares every one that comes back.
func pump(b *testing.B, in io.Writer, out io.Reader) time.Duration {
	block := make([]byte, 1<<20)
	rand.Read(block)
	sent := make(chan error, 1)
	begin := time.Now()
	go func() {
		for range throughputBytes / len(block) {
			if _, err := in.Write(block); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	got := make([]byte, len(block))
	for i := range throughputBytes / len(block) {
		if _, err := io.ReadFull(out, got); err != nil {
			b.Fatalf("after %d MiB: %v", i, err)
		}
		if !bytes.Equal(got, block) {
			b.Fatalf("other bytes came back in MiB %d", i)
		}
	}
	took := time.Since(begin)
	if err := <-sent; err != nil {
		b.Fatal(err)
	}
	return took
}

// rawPort boots a machine whose PID 1 is a C program of testdata and returns its
// port. It has the flags and the kernel's command line that our driver gives.
func rawPort(b *testing.B, program string) io.ReadWriter {
	b.Helper()
	dir := b.TempDir()
	initramfs := filepath.Join(dir, "initramfs.cpio")
	tool(b, "gcc", "-O2", "-static", "-o", filepath.Join(dir, program), filepath.Join("testdata", program+".c"))
	tool(b, "go", "run", "../../guest/initramfs", "-init", filepath.Join(dir, program), "-o", initramfs)
	ours, theirs, err := socketpair()
	if err != nil {
		b.Fatal(err)
	}
	khz, err := tscKHz()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-M", "microvm,isa-serial=off,ioapic2=off", "-m", "512", "-smp", "1,maxcpus=2",
		"-accel", "tcg,thread=multi,tb-size=128,split-wx=on", "-cpu", "Nehalem,+arat",
		"-kernel", filepath.Join(testbed.LeanGuest(b), "kernel"), "-initrd", initramfs,
		"-append", fmt.Sprintf("console=hvc0 loglevel=1 reboot=t panic=-1 8250.nr_uarts=0 noreplace-smp random.trust_cpu=on "+
			"cryptomgr.notests rcupdate.rcu_expedited=1 mitigations=off no_timer_check tsc=reliable tsc_early_khz=%d", khz),
		"-device", "virtio-serial-device,bus=virtio-mmio-bus.5",
		"-chardev", "socket,id=port,fd=3", "-device", "virtserialport,chardev=port,name=raw")
	cmd.ExtraFiles, cmd.Stderr = []*os.File{theirs}, os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	theirs.Close()
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := io.ReadFull(ours, make([]byte, 1)); err != nil {
		b.Fatalf("waiting for the program: %v", err)
	}
	return ours
}

func tool(b *testing.B, argv ...string) {
	b.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		b.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// socketpair gives one end to this process and the other to somebody else.
func socketpair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "ours")
	defer f.Close()
	if ours, err = net.FileConn(f); err != nil {
		return nil, nil, err
	}
	return ours, os.NewFile(uintptr(fds[1]), "theirs"), nil
}

// tscKHz is the host's clock, as the qemu driver gives it to a guest.
func tscKHz() (int, error) {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(b, []byte("cpu MHz\t\t: "))
	var mhz float64
	if _, err := fmt.Sscan(string(rest), &mhz); err != nil {
		return 0, fmt.Errorf("reading the clock of the host: %w", err)
	}
	return int(mhz * 1000), nil
}
