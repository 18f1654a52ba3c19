package doctor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
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
		Daemon:   func(context.Context) (string, error) { return "version 1", nil },
		LookPath: func(name string) (string, error) { return "/usr/bin/" + name, nil },
		Output: func(context.Context, string, ...string) (string, error) {
			return "emulator version 7.2.22 (Debian)", nil
		},
	}
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
		if f.Level != OK && f.Check != "kvm" && f.Check != "disk space" {
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
	for _, c := range []struct {
		name    string
		breakIt func(*Host)
		check   string
		level   Level
		text    string
		remedy  string
	}{
		{"no QEMU", without("qemu"), "monitor", Fail, "not found", "apt install qemu-system-"},
		{"no Cloud Hypervisor is fine", without("cloud-hypervisor"), "monitor", OK, "7.2.22", ""},
		{"no mkfs.ext4", without("mkfs"), "mkfs.ext4", Fail, "not found", "e2fsprogs"},
		{"no initramfs", remove("share/guest/lean/initramfs.cpio"), "guest kernel", Fail, "no kernel with an initramfs", "make build"},
		{"no base image", remove("share/base"), "base image", Warn, "--image", "make base-image"},
		{"no tun", remove("dev/net/tun"), "tun", Warn, "no network", "modprobe tun"},
		{"no cgroups", remove("sys/fs/cgroup"), "cgroups", Warn, "no limits", "cgroup2"},
		{"no systemd is fine", remove("run/systemd"), "systemd", OK, "standalone", ""},
		{"no bus", remove("run/dbus"), "systemd", Warn, "no system bus", "dbus"},
		{"no daemon", func(h *Host) {
			h.Daemon = func(context.Context) (string, error) { return "", errors.New("aegisd is not running") }
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
		Daemon:   func(context.Context) (string, error) { return "", errors.New("not there") },
		LookPath: func(string) (string, error) { return "", exec.ErrNotFound },
	}
	for _, f := range h.Examine(t.Context()) {
		if f.Text == "" || (f.Level != OK) != (f.Remedy != "") {
			t.Errorf("%+v", f)
		}
	}
}
