package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tree writes files below a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// stat is a line of /proc/PID/stat with these times.
func stat(name, flags, times string) string {
	return "7 (" + name + ") S 1 7 7 0 -1 " + flags + " 1 2 3 4 " + times + " 20 0 1 0 5\n"
}

func TestActivityIsThatOfPrograms(t *testing.T) {
	proc := tree(t, map[string]string{
		"1/stat":    stat("harness", "4194560", "1000 1000 3 4"), // its own does not count
		"2/stat":    stat("kthreadd", "2129984", "500 500 0 0"),
		"9/stat":    stat("a) S 1 (b", "4194304", "10 20 30 40"),
		"10/stat":   "broken",
		"self/stat": stat("again", "0", "9 9 9 9"),
		"uptime":    "1 2",
	})
	sys := tree(t, map[string]string{
		"class/net/eth0/statistics/rx_bytes": "100\n",
		"class/net/eth0/statistics/tx_bytes": "11\n",
		"class/net/lo/statistics/tx_bytes":   "9999\n",
		"block/vda/stat":                     " 1 2 3 4 5 6 7 8 9 10 11\n",
		"block/vdb/stat":                     " 1 2 5 4 5 6 1 8 9 10 11\n",
		"block/loop0/stat":                   " 1 2 5 4 5 6 1 8 9 10 11\n",
	})
	r, err := activity(proc, sys)
	if err != nil {
		t.Fatal(err)
	}
	if r.CpuNanos != 107*10_000_000 || r.NetworkBytes != 111 || r.DiskBytes != 16*512 {
		t.Errorf("activity is %v", r)
	}
	if _, err := activity(filepath.Join(proc, "nowhere"), sys); err == nil {
		t.Error("a system without /proc is idle")
	}
}

func TestActivityOfThisSystemGrows(t *testing.T) {
	before, err := activity("/proc", "/sys")
	if err != nil {
		t.Fatal(err)
	}
	busy := exec.Command("sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
	if err := busy.Run(); err != nil {
		t.Fatal(err)
	}
	after, err := activity("/proc", "/sys")
	if err != nil || after.CpuNanos <= before.CpuNanos {
		t.Errorf("from %v to %v, %v", before, after, err)
	}
}
