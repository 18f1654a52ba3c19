package tests

import (
	"context"
	"testing"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

// counted lists, on a host, all that a run could leave behind: monitors and
// workers, machine directories, writable disks, scopes, mounts and records.
const counted = `
home=$1
count() { printf '%s %s\n' "$1" "$(eval "$2" | wc -l)"; }
count workers "ps -eo args= | grep -F \"$home\" | grep '[a]egis-vmm-worker'"
count machines "find $home/data/machines /run/aegis/vmm -mindepth 1 -maxdepth 1 -type d 2>/dev/null"
count disks "find $home -path '*disks*' -type f -name 'i*' 2>/dev/null"
count scopes "systemctl list-units --plain --no-legend 'aegis-vm-*.scope' 2>/dev/null"
count mounts "grep -c aegis-vm /proc/mounts"
`

// inventory counts what runs and lies about on a host.
func inventory(t *testing.T, h *testbed.Host) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	home := h.Home
	if h.Name == "system" {
		home = "/var/lib/aegis"
	}
	files := finish(ctx, t, h.Command(ctx, "sh", "-c", counted, "sh", home), nil)
	records := aegis(t, h, nil, "status", "-o", "json")
	return files.stdout + files.stderr + records.stdout
}
