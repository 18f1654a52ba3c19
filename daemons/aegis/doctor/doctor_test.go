package doctor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// goodHost is a host on which nothing is missing, but perhaps KVM.
func goodHost(t *testing.T) Host {
	t.Helper()
	root := t.TempDir()
	for _, f := range []string{
		"share/guest/lean/kernel", "share/guest/lean/initramfs.cpio", "share/base/index.json",
		"dev/net/tun", "sys/fs/cgroup/cgroup.controllers", "run/systemd/system", "run/dbus/system_bus_socket",
	} {
		path := filepath.Join(root, f)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return Host{
		Share: filepath.Join(root, "share"), State: filepath.Join(root, "not/there/yet"), Root: root,
		Daemon: func(context.Context) (api.Status, error) {
			return api.Status{Version: "1", Composition: "system", Backend: "qemu", Accel: "kvm", Network: "nat"}, nil
		},
		Driver: func(context.Context) (vmm.Support, error) {
			return vmm.Support{Driver: "qemu", Version: "7.2.22", Accel: "kvm"}, nil
		},
		Walls:    func(bool) []string { return nil },
		LookPath: func(name string) (string, error) { return "/usr/bin/" + name, nil },
	}
}

func noDaemon(context.Context) (api.Status, error) {
	return api.Status{}, errors.New("aegisd is not running")
}

func find(t *testing.T, h Host, check string) (Finding, []Finding) {
	t.Helper()
	all := h.Examine(t.Context())
	for _, f := range all {
		if f.Check == check {
			return f, all
		}
	}
	t.Fatalf("no check named %s", check)
	return Finding{}, nil
}

func TestGoodHostIsUsable(t *testing.T) {
	all := goodHost(t).Examine(t.Context())
	for _, f := range all {
		if f.Level != OK && f.Check != "disk space" {
			t.Errorf("%+v", f)
		}
	}
	if !Usable(all) {
		t.Errorf("not usable: %+v", all)
	}
}

func TestWhatIsMissingIsNamedWithItsRemedy(t *testing.T) {
	without := func(name string) func(*Host) {
		return func(h *Host) {
			h.LookPath = func(n string) (string, error) {
				if strings.Contains(n, name) {
					return "", exec.ErrNotFound
				}
				return "/usr/bin/" + n, nil
			}
		}
	}
	remove := func(path string) func(*Host) {
		return func(h *Host) { os.RemoveAll(filepath.Join(h.Root, path)) }
	}
	lacks := func(walls ...string) func(*Host) {
		return func(h *Host) { h.Walls = func(bool) []string { return walls } }
	}
	status := func(st api.Status) func(*Host) {
		return func(h *Host) { h.Daemon = func(context.Context) (api.Status, error) { return st, nil } }
	}
	for _, c := range []struct {
		name    string
		breakIt func(*Host)
		check   string
		level   Level
		text    string
		remedy  string
	}{
		{"no QEMU", status(api.Status{Backend: "qemu", Missing: "qemu not found"}), "monitor", Fail, "not found, says aegisd", "apt install qemu-system-"},
		{"no Cloud Hypervisor", status(api.Status{Backend: "cloudhypervisor", Missing: "cloud-hypervisor not found"}), "monitor", Fail, "not found", "AEGIS_VMM"},
		{"no machine manager", status(api.Status{Warnings: []string{"machine manager: gone"}}), "monitor", Fail, "machine manager: gone", "journalctl"},
		{"no KVM", status(api.Status{Backend: "qemu", Accel: "tcg", Warnings: []string{"software emulation, slower"}}), "kvm", Warn, "SOFTWARE EMULATION, slower, says aegisd", "firmware"},
		{"no monitor, no word on KVM", status(api.Status{Backend: "qemu"}), "kvm", Warn, "not known", "monitor"},
		{"no mkfs.ext4", without("mkfs"), "mkfs.ext4", Fail, "not found", "e2fsprogs"},
		{"no initramfs", remove("share/guest/lean/initramfs.cpio"), "guest kernel", Fail, "no kernel with an initramfs", "make build"},
		{"no base image", remove("share/base"), "base image", Warn, "--image", "make base-image"},
		{"no tun", remove("dev/net/tun"), "tun", Warn, "no taps", "modprobe tun"},
		{"no network", status(api.Status{Backend: "qemu", Accel: "kvm", Network: "none", NetworkNote: "CAP_NET_ADMIN is needed"}), "network", Warn, "none: CAP_NET_ADMIN", "as root"},
		{"no cgroups", remove("sys/fs/cgroup"), "cgroups", Warn, "no limits", "cgroup2"},
		{"no Landlock", lacks("Landlock"), "jail", Warn, "it lacks Landlock", "kernel with Landlock"},
		{"no namespaces", func(h *Host) {
			h.Daemon = noDaemon
			lacks("a user of its own", "namespaces")(h)
		}, "jail", Warn, "a user of its own, namespaces, as this user sees it", "user namespaces"},
		{"no systemd is fine", remove("run/systemd"), "systemd", OK, "standalone", ""},
		{"no bus", remove("run/dbus"), "systemd", Warn, "no system bus", "dbus"},
		{"no daemon", func(h *Host) {
			h.Daemon = noDaemon
		}, "daemon", Warn, "aegisd is not running", "aegis up"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := goodHost(t)
			c.breakIt(&h)
			f, all := find(t, h, c.check)
			if f.Level != c.level || !strings.Contains(f.Text, c.text) || !strings.Contains(f.Remedy, c.remedy) {
				t.Errorf("%+v; want %s, %q, %q", f, c.level, c.text, c.remedy)
			}
			if Usable(all) != (c.level != Fail) {
				t.Errorf("usable: %v", Usable(all))
			}
		})
	}
}

func TestEveryProblemHasARemedy(t *testing.T) {
	h := Host{
		Share: "/nonexistent", State: "/nonexistent", Root: t.TempDir(),
		Daemon: noDaemon,
		Driver: func(context.Context) (vmm.Support, error) {
			return vmm.Support{Driver: "qemu", Missing: "qemu not found"}, nil
		},
		Walls:    func(bool) []string { return []string{"a user of its own"} },
		LookPath: func(string) (string, error) { return "", exec.ErrNotFound },
	}
	for _, f := range h.Examine(t.Context()) {
		if f.Text == "" || (f.Level != OK) != (f.Remedy != "") {
			t.Errorf("%+v", f)
		}
	}
}

// What aegisd may use counts, not what the caller may; without an aegisd it is
// said whose view it is.
func TestTheDaemonKnowsBestWhatMachinesRunOn(t *testing.T) {
	h := goodHost(t)
	h.Driver = func(context.Context) (vmm.Support, error) {
		return vmm.Support{Driver: "qemu", Version: "7.2.22", Accel: "tcg", Note: "software emulation: /dev/kvm: permission denied"}, nil
	}
	if f, _ := find(t, h, "kvm"); f.Level != OK || f.Text != "usable, says aegisd" {
		t.Errorf("with aegisd: %+v", f)
	}
	h.Daemon = noDaemon
	if f, _ := find(t, h, "kvm"); f.Level != Warn || !strings.Contains(f.Text, "permission denied, as this user sees it") {
		t.Errorf("without: %+v", f)
	}
	if f, _ := find(t, h, "monitor"); f.Level != OK || !strings.Contains(f.Text, "qemu 7.2.22, as this user sees it") {
		t.Errorf("without: %+v", f)
	}
}
