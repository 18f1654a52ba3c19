package tests

import (
	"bufio"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// stopMachines ends all machines as the service manager of a host does.
const stopMachines = `
for m in $(ls "$1" /run/aegis/vmm 2>/dev/null | grep '^m-'); do
	if [ -d "/run/systemd/system" ]; then systemctl stop "aegis-vm-$m.scope"; else
		for p in $(pgrep -f "name aegis-$m"); do kill -TERM $(ps -o ppid= -p $p); done
	fi
	echo stopped
done
`

func TestAMachineThatTheHostStopsLeavesItsInstanceStopped(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		client := restapi.NewClient(h.Socket)
		defer client.Close()
		for name, c := range map[string]struct {
			script string
			code   int
		}{
			"in-order": {"trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done", 3},
			"killed":   {"echo up; exec sleep 1000", 143},
		} {
			if got := aegis(t, h, nil, "instance", "start", "-q", "--name", name, "--", "sh", "-c", c.script); got.code != 0 {
				t.Fatalf("start: %+v", got)
			}
			awaitLine(ctx, t, h, name, "up\n")
			machines := filepath.Join(h.Home, "data/machines")
			if got := finish(ctx, t, h.Command(ctx, "sh", "-c", stopMachines, "sh", machines), nil); got.stdout != "stopped\n" {
				t.Fatalf("stopping the machine: %+v", got)
			}
			in, err := client.Wait(ctx, name, api.UntilStopped)
			if err != nil || in.Phase != api.PhaseStopped || in.LastError != "" || in.ExitCode == nil || *in.ExitCode != c.code {
				t.Errorf("%s came to rest as %+v, %v", name, in, err)
			}
			if log := aegis(t, h, nil, "logs", name).stdout; c.code == 3 && !strings.Contains(log, "bye\n") {
				t.Errorf("its log: %q", log)
			}
			if err := client.Delete(ctx, name); err != nil {
				t.Error(err)
			}
		}
	})
}

// awaitLine returns once the first line of an instance's log is there.
func awaitLine(ctx context.Context, t *testing.T, h *testbed.Host, name, want string) {
	t.Helper()
	cmd := h.Command(ctx, "aegis", "logs", "--follow", "--source", "server", name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != want {
		t.Fatalf("the log begins with %q, %v", line, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
}
