package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

// BenchmarkSteady runs machines one after the other, in both compositions, and
// tells what the daemons' memory and descriptors do, and what is left behind.
func BenchmarkSteady(b *testing.B) {
	for _, c := range []struct {
		name    string
		host    func(testing.TB) *testbed.Host
		daemons []string
		runs    int
	}{
		{"standalone", testbed.Standalone, []string{"aegisd"}, 100},
		{"system", testbed.System, []string{"aegisd", "aegis-vmmd", "aegis-imaged"}, 20},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := ready(b, c.host)
			for b.Loop() {
				steady(b, h, c.daemons, runs(b, c.runs))
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// runs is how many there are, where AEGIS_BENCH_RUNS does not say otherwise.
func runs(b *testing.B, usual int) int {
	b.Helper()
	said := os.Getenv("AEGIS_BENCH_RUNS")
	if said == "" {
		return usual
	}
	n, err := strconv.Atoi(said)
	if err != nil || n < 5 {
		b.Fatalf("AEGIS_BENCH_RUNS=%q: expected a number from 5 on", said)
	}
	return n
}

// steady measures one series of runs.
func steady(b *testing.B, h *testbed.Host, daemons []string, runs int) {
	before := resources(b, h, daemons)
	seen(b, h, daemons, before)
	for i := 1; i <= runs; i++ {
		command(b, h, "run", "--", "true")
		if i == runs/5 || i == runs*3/5 || i == runs {
			now := resources(b, h, daemons)
			for _, d := range daemons {
				b.ReportMetric(float64(now["rss-KiB-of-"+d])/1024, fmt.Sprintf("%s-after-%d-MiB", d, i))
			}
		}
	}
	left := 0
	for what, n := range resources(b, h, daemons) {
		if strings.HasPrefix(what, "rss-KiB-of-") {
			continue
		}
		if n != before[what] {
			b.Logf("%s: %d before, %d after", what, before[what], n)
		}
		left += max(0, n-before[what])
	}
	b.ReportMetric(float64(left), "left-behind")
}

// seen checks that the counts see a machine while there is one.
func seen(b *testing.B, h *testbed.Host, daemons []string, before map[string]int) {
	b.Helper()
	command(b, h, "instance", "start", "--name", "seen", "--", "sleep", "100000")
	now := resources(b, h, daemons)
	command(b, h, "instance", "delete", "seen")
	all := []string{"machines", "disks", "processes", "sockets", "rows"}
	if h.Name == "system" {
		all = append(all, "scopes")
	}
	for _, what := range all {
		if now[what] <= before[what] {
			b.Fatalf("%s: %d while a machine runs, %d before: they are not counted", what, now[what], before[what])
		}
	}
}

// counted lists what the daemons of a host hold and what lies about. Workers
// and monitors hold files of their machine, and nothing on their command lines
// tells whose they are.
const counted = `
home=$1 ours=$2 socket=$3
shift 3
count() { printf '%s %s\n' "$1" "$(eval "$2" | wc -l)"; }
holders() { for p in /proc/[0-9]*; do ls -l $p/fd 2>/dev/null | grep -qE "$ours" && echo $p; done; }
count machines "find $home/data/machines /run/aegis/vmm -mindepth 1 -maxdepth 1 -type d 2>/dev/null"
count disks "find $home -path '*disks*' -type f 2>/dev/null"
count logs "find $home -path '*/logs/inst-*' 2>/dev/null"
count scopes "systemctl list-units --all --plain --no-legend 'aegis-vm-*' 2>/dev/null"
count mounts "cat /proc/mounts"
count sockets "grep $socket /proc/net/unix"
count processes holders
for daemon; do
	case $daemon in /*) pid=$(cat $daemon) daemon=aegisd ;; *) pid=$(systemctl show --value --property=MainPID $daemon) ;; esac
	count descriptors-of-$daemon "ls /proc/$pid/fd"
	echo "rss-KiB-of-$daemon $(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' /proc/$pid/status)"
done
`

// resources counts.
func resources(b *testing.B, h *testbed.Host, daemons []string) map[string]int {
	b.Helper()
	args := []string{"sh", "-c", counted, "sh", h.Home, h.Home + "/data/(machines|disks)/", h.Home, h.Home + "/data/aegisd.pid"}
	if h.Name == "system" {
		args = append([]string{"sh", "-c", counted, "sh", "/var/lib/aegis", "/run/aegis/vmm/m-|/var/lib/aegis/.*disks/", "/run/aegis"}, daemons...)
	}
	out, err := h.Command(b.Context(), args...).CombinedOutput()
	if err != nil {
		b.Fatalf("counting: %v\n%s", err, out)
	}
	r := map[string]int{"rows": strings.Count(command(b, h, "status", "-o", "json"), `"id"`)}
	for line := range strings.Lines(string(out)) {
		what, n := "", 0
		if _, err := fmt.Sscanf(line, "%s %d", &what, &n); err != nil {
			b.Fatalf("counting: %q: %v", line, err)
		}
		r[what] = n
	}
	for _, d := range daemons {
		if r["rss-KiB-of-"+d] == 0 {
			b.Fatalf("%s is not counted:\n%s", d, out)
		}
	}
	return r
}
