package tests

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

// counted lists, on a host, all that a run could leave behind: what monitors
// and workers hold, machine directories, writable disks, logs, scopes, state of
// workspaces, taps, tables of rules, leases, mounts, exposed ports, sockets that
// systemd keeps, and records. Both hold files of their machine, and nothing on
// their command
// lines tells whose they are.
const counted = `
home=$1 ours=$2 mark=$3
count() { printf '%s %s\n' "$1" "$(eval "$2" | wc -l)"; }
count held "ls -l /proc/[0-9]*/fd 2>/dev/null | grep -E '$ours'"
count machines "find $home/data/machines /run/aegis/vmm -mindepth 1 -maxdepth 1 -type d 2>/dev/null"
count disks "find $home -path '*disks*' -type f -name 'i*' 2>/dev/null"
count logs "find $home -path '*/logs/inst-*' 2>/dev/null"
count scopes "systemctl list-units --plain --no-legend 'aegis-vm-*.scope' 2>/dev/null"
count served "find $home/data/mounts $home/mounts -mindepth 1 -maxdepth 1 2>/dev/null"
count taps "cat /sys/class/net/*/ifalias 2>/dev/null | grep '^$mark:'"
count rules "nft list tables 2>/dev/null | grep ' $mark\$'"
count leases "find $home/data/networks /run/aegis/net -type f 2>/dev/null"
count mounts "grep aegis-vm /proc/mounts"
count ports "cat $home/data/router/ports.json $home/routerd/ports.json 2>/dev/null | grep actual_port"
count kept "[ ! -d /run/systemd/system ] || systemctl show --value --property=NFileDescriptorStore aegis-routerd | grep -v '^0$'"
`

// inventory counts what runs and lies about on a host.
func inventory(t *testing.T, h *testbed.Host) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	// What is of networks tells whose it is by a hash of the daemon's folder.
	sum := sha256.Sum256([]byte(h.Home))
	home, ours, mark := h.Home, h.Home+"/data/(machines|disks)/", "aegis-"+hex.EncodeToString(sum[:4])
	if h.Name == "system" {
		home, ours, mark = "/var/lib/aegis", "/run/aegis/vmm/m-|/var/lib/aegis/.*disks/", "aegis"
	}
	files := finish(ctx, t, h.Command(ctx, "sh", "-c", counted, "sh", home, ours, mark), nil)
	records := aegis(t, h, nil, "status", "-o", "json")
	return files.stdout + files.stderr + passing.ReplaceAllString(records.stdout, "")
}

// passing is what a daemon that was started anew may tell otherwise: where its
// front is, and which guest an upgrade brought.
var passing = regexp.MustCompile(`"(front|kernel)": "[^"]*",`)

// held tells how many files of machines some process has open.
func held(t *testing.T, inventory string) int {
	t.Helper()
	var n int
	for line := range strings.Lines(inventory) {
		if _, err := fmt.Sscanf(line, "held %d", &n); err == nil {
			return n
		}
	}
	t.Fatalf("no such count in %q", inventory)
	return 0
}
