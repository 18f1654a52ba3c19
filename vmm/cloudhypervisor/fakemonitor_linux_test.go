package cloudhypervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestMain is Cloud Hypervisor where it is started as such.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "--api-socket") {
		if err := (&fakeMonitor{}).run(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "fake monitor:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// gateName is a pipe in a machine's directory: an action is done when somebody
// has opened it for writing.
const gateName = "gate"

// fakeState is the state of a machine with one connection.
const fakeState = `{"of": "a fake", "snapshots": {"device-manager": {"snapshots": {
	"own": {"snapshots": {}, "snapshot_data": {"state": "{}"}},
	"vsock": {"snapshots": {}, "snapshot_data": {"state": "{\"connections\":[[1073741825,1024]]}"}}}}}}`

// fakeMonitor answers as Cloud Hypervisor does, without a machine. Its memory
// has a byte of its own, which grows with each resume.
type fakeMonitor struct {
	mu     sync.Mutex // the real one does one thing at a time
	dir    string
	config string
	paused bool
	memory *os.File
	events io.Writer
}

func (f *fakeMonitor) run(args []string) error {
	fd := func(option string) *os.File {
		n, err := strconv.Atoi(strings.TrimPrefix(value(args, option), "fd="))
		if err != nil {
			return nil
		}
		return os.NewFile(uintptr(n), option)
	}
	f.events = fd("--event-monitor")
	l, err := net.FileListener(fd("--api-socket"))
	if err != nil {
		return err
	}
	if url := value(args, "--restore"); url != "" {
		err = f.restore(strings.TrimPrefix(url, "source_url=file://"))
	} else {
		err = f.boot(args)
	}
	if err != nil {
		return err
	}
	return http.Serve(l, f)
}

// value is that of an option, "" if it is not there.
func value(args []string, option string) string {
	if i := slices.Index(args, option); i >= 0 {
		return args[i+1]
	}
	return ""
}

func (f *fakeMonitor) event(name string) { io.WriteString(f.events, event("vm", name)) }

// boot makes the configuration that the real one makes of such options.
func (f *fakeMonitor) boot(args []string) error {
	zone := strings.Split(value(args, "--memory-zone"), ",")
	mib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(zone[1], "size="), "M"))
	if err != nil {
		return err
	}
	socket := strings.TrimPrefix(strings.Split(value(args, "--vsock"), ",")[1], "socket=")
	f.dir = filepath.Dir(socket)
	var disks []string
	for i, a := range args {
		if a == "--disk" {
			o := strings.Split(args[i+1], ",")
			disks = append(disks, fmt.Sprintf(`{"path": %q, "id": %q}`, strings.TrimPrefix(o[0], "path="), strings.TrimPrefix(o[3], "id=")))
		}
	}
	file := strings.TrimPrefix(zone[2], "file=")
	f.config = fmt.Sprintf(`{"memory": {"size": 0, "zones": [{"id": "memory", "size": %d, "file": %q}]},
		"payload": {"kernel": %q, "initramfs": %q}, "console": {"file": %q}, "vsock": {"socket": %q}, "disks": [%s]}`,
		mib<<20, file, value(args, "--kernel"), value(args, "--initramfs"),
		strings.TrimPrefix(value(args, "--console"), "file="), socket, strings.Join(disks, ","))
	f.event("booted")
	if f.memory, err = os.OpenFile(file, os.O_RDWR, 0); err != nil {
		return err
	}
	return f.count()
}

// count grows the byte of the memory.
func (f *fakeMonitor) count() error {
	b := make([]byte, 1)
	if _, err := f.memory.ReadAt(b, memoryAt); err != nil {
		return err
	}
	b[0]++
	_, err := f.memory.WriteAt(b, memoryAt)
	return err
}

// memoryAt is where the guest has its byte.
const memoryAt = 1 << 20

func (f *fakeMonitor) restore(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, configName))
	if err != nil {
		return err
	}
	state, err := os.ReadFile(filepath.Join(dir, stateName))
	if err == nil && !strings.Contains(string(state), "a fake") {
		err = errors.New("the state is of another version")
	}
	var c struct {
		Memory  struct{ Zones []struct{ File string } }
		Payload struct{ Kernel, Initramfs string }
		Console struct{ File string }
		Vsock   struct{ Socket string }
		Disks   []struct{ Path string }
	}
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		return err
	}
	f.dir, f.config, f.paused = filepath.Dir(c.Vsock.Socket), string(raw), true
	names := []string{c.Payload.Kernel, c.Payload.Initramfs, c.Console.File}
	for _, d := range c.Disks {
		names = append(names, d.Path)
	}
	for _, name := range names {
		if _, err := os.Stat(name); err != nil {
			return err
		}
	}
	f.event("restored")
	f.memory, err = os.OpenFile(c.Memory.Zones[0].File, os.O_RDWR, 0)
	return err
}

func (f *fakeMonitor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if gate, err := os.Open(filepath.Join(f.dir, gateName)); err == nil {
		gate.Close()
	}
	if err := f.act(strings.TrimPrefix(r.URL.Path, "/api/v1/"), r.Body); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "[%q]", err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (f *fakeMonitor) act(action string, body io.Reader) error {
	switch action {
	case "vm.pause":
		if f.paused {
			return errors.New("InvalidStateTransition(Paused, Paused)")
		}
		f.paused = true
		return nil
	case "vm.resume":
		if !f.paused {
			return errors.New("InvalidStateTransition(Running, Running)")
		}
		f.paused = false
		return f.count()
	case "vm.snapshot":
		var to struct {
			URL string `json:"destination_url"`
		}
		if err := json.NewDecoder(body).Decode(&to); err != nil {
			return err
		}
		if !f.paused {
			return errors.New("the machine runs")
		}
		return f.snapshot(strings.TrimPrefix(to.URL, "file://"))
	}
	return fmt.Errorf("no such action: %s", action)
}

func (f *fakeMonitor) snapshot(dir string) error {
	for name, content := range map[string]string{configName: f.config, stateName: fakeState} {
		to, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(to, content); err != nil {
			return err
		}
		to.Close()
	}
	return nil
}
