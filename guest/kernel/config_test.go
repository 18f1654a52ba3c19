package kernel_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// required is what guests count on, whatever else the fragments say. It is written out here, so that a line that goes
// missing from a fragment is missed.
var required = []string{
	"CONFIG_EXT4_FS_SECURITY", "CONFIG_EXT4_FS_POSIX_ACL", // capabilities and ACLs survive overlay's copy-up
	"CONFIG_TMPFS_POSIX_ACL", "CONFIG_EROFS_FS_SECURITY",
	"CONFIG_USER_NS", "CONFIG_SECCOMP_FILTER", "CONFIG_KEYS", // sandboxes and containers in the guest
	"CONFIG_INET_DIAG", "CONFIG_BPF_SYSCALL", "CONFIG_CGROUP_BPF",
	"CONFIG_HOTPLUG_PCI",
	"CONFIG_FUSE_FS", "CONFIG_NFS_FS", "CONFIG_NFS_V3", "CONFIG_NET_9P", "CONFIG_9P_FS", // workspaces
}

// requiredOff is what guests do without.
var requiredOff = []string{"CONFIG_MODULES", "CONFIG_HZ_100"}

func TestFragmentsAskForWhatIsRequired(t *testing.T) {
	for arch, more := range map[string][]string{
		"x86_64": {"CONFIG_ACPI_REDUCED_HARDWARE_ONLY"},
		"arm64":  nil, // there ACPI has no other kind
	} {
		got := options(t, arch+".fragment")
		for _, name := range slices.Concat(required, more) {
			if got[name] != "y" {
				t.Errorf("%s: %s is %q, y is required", arch, name, got[name])
			}
		}
		for _, name := range requiredOff {
			if got[name] != "" {
				t.Errorf("%s: %s is %q and must be off", arch, name, got[name])
			}
		}
		if _, said := got["CONFIG_MODULES"]; !said {
			t.Errorf("%s: modules are on unless the fragment says that they are off", arch)
		}
		if got["CONFIG_HZ_250"] != "y" && got["CONFIG_HZ_300"] != "y" && got["CONFIG_HZ_1000"] != "y" {
			t.Errorf("%s: a tick faster than 100 Hz is required", arch)
		}
	}
}

// TestConfig holds every line of a fragment against the configuration that Kconfig makes of it: an option that this
// source does not know, or whose dependencies are missing, would otherwise vanish without a word.
func TestConfig(t *testing.T) {
	sources, err := filepath.Glob("/usr/src/linux-source-*.tar.xz")
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) == 0 {
		t.Skip("linux-source is not installed; run: apt-get install linux-source")
	}
	for _, arch := range []string{"x86_64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			want := options(t, arch+".fragment")
			got := options(t, resolve(t, arch))
			if len(want) < 100 {
				t.Fatalf("%s.fragment: %d options, expected over 100: is it being read?", arch, len(want))
			}
			for name, value := range want {
				if got[name] != value {
					t.Errorf("%s: %s: want %q, resolved to %q", arch, name, value, got[name])
				}
			}
		})
	}
}

// resolve returns the path of the configuration for arch, from the cache where it is there.
func resolve(t *testing.T, arch string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("./build", "--config-only", "--arch", arch)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build --config-only --arch %s: %v\n%s", arch, err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// options reads a fragment or a .config. An option that is off, or not there at all, has the value "".
func options(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	opts := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if name, value, ok := strings.Cut(line, "="); ok && strings.HasPrefix(name, "CONFIG_") {
			opts[name] = value
		} else if name, ok := strings.CutSuffix(line, " is not set"); ok {
			opts[strings.TrimPrefix(name, "# ")] = ""
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return opts
}
