package machine

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// BootID names this boot. It is the kernel's, which comes from the random pool
// as it is: to wait until that is seeded costs an emulated machine a second,
// and SetIdentity seeds it anyway. So nothing may ask for random bytes before.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot id: %w", err)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(b)), "-", ""), nil
}

// Identify makes the machine somebody's: random pool and clock first, because
// clones of one snapshot share both.
func (m *Machine) Identify(id *proto.Identity) error {
	if err := reseed(id.GetEntropy()); err != nil {
		return fmt.Errorf("seeding the random pool: %w", err)
	}
	if id.GetUnixNano() > 0 {
		if err := m.SetTime(time.Unix(0, id.GetUnixNano())); err != nil {
			return err
		}
	}
	if err := unix.Sethostname([]byte(id.GetHostname())); err != nil {
		return fmt.Errorf("setting the hostname: %w", err)
	}
	if err := connect(id.GetNetwork()); err != nil {
		return err
	}
	if err := writeNames("/", id); err != nil {
		return err
	}
	return writeResolvers("/", id.GetNetwork())
}

// SetTime sets the clock.
func (m *Machine) SetTime(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("setting the clock to %s: %w", t.UTC().Format(time.RFC3339), err)
	}
	return nil
}

// reseed mixes entropy into the kernel's pool, credits it and makes the
// kernel use it at once.
func reseed(entropy []byte) error {
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// struct rand_pool_info: bits, bytes, data.
	info := binary.NativeEndian.AppendUint32(nil, uint32(len(entropy)*8))
	info = binary.NativeEndian.AppendUint32(info, uint32(len(entropy)))
	info = append(info, entropy...)
	if err := ioctl(f.Fd(), unix.RNDADDENTROPY, unsafe.Pointer(&info[0])); err != nil {
		return err
	}
	return ioctl(f.Fd(), rndReseedCRNG, nil)
}

// rndReseedCRNG is RNDRESEEDCRNG, which x/sys lacks.
const rndReseedCRNG = 0x5207

func ioctl(fd uintptr, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// writeNames writes the files below root that name the machine.
func writeNames(root string, id *proto.Identity) error {
	files := map[string]string{"etc/hostname": id.GetHostname() + "\n"}
	if id.GetMachineId() != "" {
		files["etc/machine-id"] = id.GetMachineId() + "\n"
	}
	hosts := filepath.Join(root, "etc/hosts")
	if b, err := os.ReadFile(hosts); err == nil {
		files["etc/hosts"] = withHost(string(b), id)
	}
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		return fmt.Errorf("naming the machine: %w", err)
	}
	for name, content := range files {
		if err := replace(filepath.Join(root, name), content); err != nil {
			return fmt.Errorf("naming the machine: %w", err)
		}
	}
	return nil
}

// own marks the line of /etc/hosts that is ours; hostName ends the other one.
const own = "127.0.1.1\t"

// withHost makes the machine's own name resolve, so that no program waits for
// a resolver to look it up, and that of the host.
func withHost(hosts string, id *proto.Identity) string {
	var out strings.Builder
	for line := range strings.Lines(hosts) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, own) && !strings.HasSuffix(line, "\t"+hostName) {
			out.WriteString(line + "\n")
		}
	}
	if n := id.GetNetwork(); n != nil {
		fmt.Fprintf(&out, "%s\t%s\n", net.IP(n.GetGateway()), hostName)
	}
	return out.String() + own + id.GetHostname() + "\n"
}

// replace writes a file that readers see whole.
func replace(path, content string) error {
	if b, err := os.ReadFile(path); err == nil && string(b) == content {
		return nil
	}
	if err := os.WriteFile(path+".aegis", []byte(content), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".aegis", path)
}
