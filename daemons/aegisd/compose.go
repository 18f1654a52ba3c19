package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/daemons/aegisd/instance"
	"github.com/xfeldman/aegisvm/daemons/aegisd/workspaces"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagebus"
	"github.com/xfeldman/aegisvm/image/registry"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/netbus"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/router/routerbus"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/vmmbus"
)

// parts are what the two compositions differ in.
type parts struct {
	name     string
	images   image.Store
	machines vmm.Manager
	kernel   string
	// workspaces is nil where none can be served.
	workspaces instance.Workspaces
	router     router.Router
	// awaken gives the router of this process its waker.
	awaken func(router.Waker)
	// network is nil where machines can have none; noNetwork says why.
	network   netd.Network
	noNetwork string
	bus       *bus.Conn // nil in the standalone composition
	close     func()
}

// compose wires the composition that the options ask for.
func compose(ctx context.Context, o options, log *slog.Logger, level *slog.LevelVar) (parts, error) {
	if o.system {
		return composeSystem(ctx, o, log, level)
	}
	return composeStandalone(ctx, o, log)
}

// composeSystem reaches imaged and vmmd over the system bus, which starts
// them when they are called.
func composeSystem(ctx context.Context, o options, log *slog.Logger, level *slog.LevelVar) (parts, error) {
	conn, err := bus.Dial(ctx, o.bus)
	if err != nil {
		return parts{}, err
	}
	if err := conn.ExportLogControl("aegisd", level); err != nil {
		conn.Close()
		return parts{}, err
	}
	return parts{
		name: "system", images: imagebus.NewClient(conn), machines: vmmbus.NewClient(conn),
		network: netbus.NewClient(conn),
		kernel:  guestKernel(o.share), bus: conn, close: func() { conn.Close() },
		workspaces: workspaces.New(workspaces.Config{
			Named: filepath.Join(filepath.Dir(o.state), "workspaces"), Everybody: true,
			State: filepath.Join(filepath.Dir(o.state), "mounts"), Connect: workspaces.Dial(o.fs), Log: log,
		}),
		router: routerbus.NewClient(conn), awaken: func(router.Waker) {},
	}, nil
}

// composeStandalone holds the image store and the machine manager in this
// process. Machines live in workers of their own and outlive it.
func composeStandalone(ctx context.Context, o options, log *slog.Logger) (parts, error) {
	images, err := image.Open(o.state, image.Options{
		Base: filepath.Join(o.share, "base"), Log: log,
		Registry: registry.Options{Config: filepath.Join(o.home, "registries.json")},
	})
	if err != nil {
		return parts{}, err
	}
	choice, driver, err := drivers.Choose(ctx, os.Getenv)
	if err != nil {
		images.Close()
		return parts{}, err
	}
	network := openNetwork(ctx, o, driver, log)
	base, users := machineUsers()
	machines, err := manager.Open(ctx, manager.Config{
		Dir: filepath.Join(o.state, "machines"), Keep: filepath.Join(o.state, "kept"), Guest: filepath.Join(o.share, "guest"),
		Driver: driver, Options: choice, Launcher: manager.Children{Binary: o.worker},
		Taps: network.taps, Stacks: network.stacks, UIDBase: base, UIDs: users, Log: log,
	})
	if err != nil {
		network.close()
		images.Close()
		return parts{}, fmt.Errorf("opening the machine manager: %w", err)
	}
	waker := newLateWaker()
	ports, err := router.Open(router.Config{
		Dir: filepath.Join(o.state, "router"), Waker: waker, Log: log,
		FrontConfig: router.FrontConfig{Address: o.front, Missing: frontOff(o)},
	})
	if err != nil {
		machines.Close()
		network.close()
		images.Close()
		return parts{}, err
	}
	return parts{
		name: "standalone", images: images, machines: machines, kernel: guestKernel(o.share),
		workspaces: ownWorkspaces(o, log),
		router:     ports, awaken: waker.set,
		network: network.network, noNetwork: network.none,
		close: func() {
			ports.Close()
			machines.Close()
			network.close()
			images.Close()
		},
	}, nil
}

// frontOff says why there is no front, if there is none.
func frontOff(o options) string {
	if o.front.IsValid() {
		return ""
	}
	return "it is turned off (--front none)"
}

// ownWorkspaces are those of our own user, each served by a child.
func ownWorkspaces(o options, log *slog.Logger) *workspaces.Keeper {
	named, mounts := filepath.Join(o.state, "workspaces"), filepath.Join(o.state, "mounts")
	return workspaces.New(workspaces.Config{
		Named: named, State: mounts, Log: log,
		Connect: workspaces.Spawn(o.fsd, "-state", mounts, "-named", named, "-apart", o.state),
	})
}

// machineUsers is the range of users that machines run as, one each, where we
// are root and may choose: behind the range that vmmd uses, and like it
// between those that systemd gives to containers and to foreign images.
// Otherwise machines run as our own user.
func machineUsers() (base, n uint32) {
	if os.Geteuid() != 0 {
		return 0, 0
	}
	return 2000004096, 4096
}

// guestKernel tells which of our guest kernels machines start with, as the
// manager chooses: our own where it is complete.
func guestKernel(share string) string {
	for _, flavour := range []string{"lean", "distro"} {
		dir := filepath.Join(share, "guest", flavour)
		_, kernel := os.Stat(filepath.Join(dir, "kernel"))
		_, initramfs := os.Stat(filepath.Join(dir, "initramfs.cpio"))
		if kernel == nil && initramfs == nil {
			return flavour
		}
	}
	return ""
}
