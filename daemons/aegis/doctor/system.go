package doctor

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
)

// tun looks for what networks of machines stand on.
func (h Host) tun(context.Context) Finding {
	path := filepath.Join("/", h.Root, "dev/net/tun")
	if runtime.GOOS != "linux" {
		return ok("not used on this system")
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return Finding{Level: Warn, Text: err.Error() + ": machines have no taps, and networks in user mode with QEMU only", Remedy: "modprobe tun, or give this container the device"}
	}
	f.Close()
	return ok("%s", path)
}

// network tells whether machines can have one, as aegisd says.
func (h Host) network(context.Context) Finding {
	st := h.seen.status
	switch {
	case h.seen.statusErr != nil:
		return ok("not known: aegisd did not answer")
	case st.NetworkNote != "":
		return Finding{
			Level: Warn, Text: st.Network + ": " + st.NetworkNote,
			Remedy: "run aegisd as root or as a service, on a kernel with nftables and /dev/net/tun, or start instances with --network none",
		}
	}
	if st.NetworkWhy != "" {
		return ok("%s, %s mode, in the machines' own jails: %s", st.Network, st.NetworkKind, st.NetworkWhy)
	}
	return ok("%s", st.Network)
}

// cgroups tells what limits machines can have.
func (h Host) cgroups(context.Context) Finding {
	root := filepath.Join("/", h.Root, "sys/fs/cgroup")
	switch {
	case runtime.GOOS != "linux":
		return ok("not used on this system")
	case exists(filepath.Join(root, "cgroup.controllers")):
		return ok("version 2")
	case exists(filepath.Join(root, "memory")), exists(filepath.Join(root, "unified")):
		return Finding{
			Level: Warn, Text: "version 1: machines have no limits but their own size",
			Remedy: "boot with systemd.unified_cgroup_hierarchy=1",
		}
	}
	return Finding{Level: Warn, Text: "no cgroups in " + root + ": machines have no limits but their own size", Remedy: "mount cgroup2 there"}
}

// systemd tells which composition is possible.
func (h Host) systemd(context.Context) Finding {
	if !exists(filepath.Join("/", h.Root, "run/systemd/system")) {
		return ok("not the first process here: aegisd runs standalone")
	}
	if !exists(filepath.Join("/", h.Root, "run/dbus/system_bus_socket")) {
		return Finding{Level: Warn, Text: "no system bus: aegisd runs standalone only", Remedy: install("dbus", "dbus-broker")}
	}
	return ok("present, with the system bus")
}
