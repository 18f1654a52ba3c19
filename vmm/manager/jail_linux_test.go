package manager_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func procFile(pid int, name string) string { return filepath.Join("/proc", fmt.Sprint(pid), name) }

// lives tells whether a process does more than wait for init to collect it.
func lives(pid int) bool {
	raw, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(raw), ") ")
	return !strings.HasPrefix(state, "Z")
}

// status reads /proc/PID/status.
func status(t *testing.T, pid int) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.Join(strings.Fields(value), " ")
	}
	return fields
}

// checkJail looks at a process from outside: what the kernel says of its
// rights, not what we meant to do.
func checkJail(t *testing.T, who string, pid int, root bool) {
	t.Helper()
	s := status(t, pid)
	for name, want := range map[string]string{
		"NoNewPrivs": "1", "CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "0000000000000000",
		"CapAmb": "0000000000000000", "Seccomp": "2",
	} {
		if s[name] != want {
			t.Errorf("%s has %s %s, %s expected", who, name, s[name], want)
		}
	}
	if root && (!strings.HasPrefix(s["Uid"], "20000") || !strings.HasPrefix(s["Gid"], "20000")) {
		t.Errorf("%s is user %s, group %s", who, s["Uid"], s["Gid"])
	}
	for _, ns := range []string{"mnt", "net", "ipc", "uts"} {
		its, err := os.Readlink(procFile(pid, "ns/"+ns))
		if err != nil {
			t.Fatal(err)
		}
		if ours, _ := os.Readlink("/proc/self/ns/" + ns); its == ours {
			t.Errorf("%s is in our %s namespace", who, ns)
		}
	}
	checkFiles(t, who, pid)
	seen, err := os.ReadDir(procFile(pid, "root"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range seen {
		switch e.Name() {
		case "aegis", "bin", "dev", "etc", "lib", "lib32", "lib64", "nix", "proc", "run", "sbin", "usr":
		default:
			t.Errorf("%s sees /%s", who, e.Name())
		}
	}
	links, err := os.ReadFile(procFile(pid, "net/dev"))
	if err != nil || strings.Count(string(links), ":") != 1 {
		t.Errorf("%s has more than a loopback: %s (%v)", who, links, err)
	}
}

// checkFiles looks at what a process holds open: beside sockets, pipes and
// memory, files by which nothing but the machine can be reached.
func checkFiles(t *testing.T, who string, pid int) {
	t.Helper()
	all, err := os.ReadDir(procFile(pid, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		name, err := os.Readlink(procFile(pid, "fd/"+e.Name()))
		if err != nil {
			continue // closed since
		}
		switch {
		case !strings.HasPrefix(name, "/"): // pipe:[1], socket:[2], anon_inode:
		case strings.HasPrefix(name, "/memfd:"), strings.HasPrefix(name, "/dev/"), strings.HasPrefix(name, "/aegis/"):
		case filepath.Base(name) == "worker.log", filepath.Base(name) == "console.log", filepath.Base(name) == "run":
		case strings.HasPrefix(name, "/run/"): // in the jail
		default:
			t.Errorf("%s has %s open", who, name)
		}
	}
}
