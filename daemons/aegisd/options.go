package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/xfeldman/aegisvm/router/dns"
)

// options are the command line and the environment, resolved.
type options struct {
	system      bool
	showVersion bool
	logLevel    slog.Level
	// state has the database; in the standalone composition everything else
	// as well. home has the socket and is empty in the system composition.
	state, home string
	// bus is the address of the message bus, system composition only.
	bus string
	// share has the guest's kernels and the base image; worker is the
	// program that runs one machine, standalone only.
	share, worker string
	// ready is how long a guest may take to be ready.
	ready time.Duration
	// fsd is the program that serves one workspace, standalone only.
	fsd string
	// fs is the socket behind which workspaces are served, system only.
	fs string
	// front is where the HTTP front is to be, invalid for nowhere; standalone
	// only.
	front netip.AddrPort
	// network is how machines get theirs: networkAuto, networkTap or networkUser;
	// standalone only.
	network string
	// resolvConf names the resolvers that are asked for guests, standalone only.
	resolvConf string
	// credentials is systemd's folder of them, system composition only.
	credentials string
}

// systemState is where the system composition keeps its records, unless the
// unit says otherwise with StateDirectory=.
const systemState = "/var/lib/aegis/aegisd"

// parse reads the command line. Without --system and --standalone the
// composition is the system one where systemd passed a socket.
func parse(args []string, env func(string) string) (options, error) {
	o := options{logLevel: slog.LevelInfo}
	flags := flag.NewFlagSet("aegisd", flag.ContinueOnError)
	system := flags.Bool("system", false, "use the other services of the system over D-Bus (default where systemd passes the socket)")
	standalone := flags.Bool("standalone", false, "do everything in this process (default elsewhere)")
	flags.StringVar(&o.bus, "bus", "system", "system: the message bus, system or a D-Bus address")
	flags.StringVar(&o.home, "home", env("AEGIS_HOME"), "standalone: folder for socket and state (default $AEGIS_HOME, else ~/.aegis)")
	flags.StringVar(&o.share, "share", "", "folder with guest kernels and base image (default beside the program, else /usr/share/aegisvm)")
	flags.StringVar(&o.worker, "vmm-worker", "", "standalone: the program that runs one machine (default aegis-vmm-worker beside this one, else in /usr/libexec/aegisvm)")
	ready := flags.String("ready-timeout", cmp.Or(env("AEGIS_READY_TIMEOUT"), "60s"), "how long the guest of a machine may take to be ready (default $AEGIS_READY_TIMEOUT, else 60s)")
	front := flags.String("front", cmp.Or(env("AEGIS_FRONT"), defaultFront), "standalone: `address` of the HTTP front for all instances, a loopback one, or none (default $AEGIS_FRONT, else "+defaultFront+")")
	flags.StringVar(&o.fsd, "fsd", "", "standalone: the program that serves one workspace (default aegis-fsd beside this one, else in /usr/libexec/aegisvm)")
	flags.StringVar(&o.fs, "fs", "/run/aegis/fs.sock", "system: the socket behind which workspaces are served")
	flags.StringVar(&o.network, "network", cmp.Or(env("AEGIS_NETWORK"), networkAuto), "standalone: how machines get networks: tap, user (needs no rights), or auto: tap where this process may, else user (default $AEGIS_NETWORK, else auto)")
	flags.StringVar(&o.resolvConf, "resolv-conf", cmp.Or(env("AEGIS_RESOLV_CONF"), dns.ResolvConf), "standalone: the file that names the resolvers that are asked for guests (default $AEGIS_RESOLV_CONF)")
	flags.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	flags.BoolVar(&o.showVersion, "version", false, "print the version")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q: see aegisd --help", flags.Arg(0))
	case *system && *standalone:
		return o, errors.New("--system and --standalone exclude one another: give one")
	}
	var err error
	if o.ready, err = time.ParseDuration(*ready); err != nil || o.ready < time.Millisecond || o.ready > time.Hour {
		return o, fmt.Errorf("ready timeout %q: expected 1ms to 1h, such as 60s", *ready)
	}
	if o.front, err = parseFront(*front); err != nil {
		return o, err
	}
	if !slices.Contains([]string{networkAuto, networkTap, networkUser}, o.network) {
		return o, fmt.Errorf("network %q: expected %s, %s or %s", o.network, networkAuto, networkTap, networkUser)
	}
	o.system = *system || !*standalone && env("LISTEN_FDS") != ""
	return o.resolve(env)
}

// The ways in which machines get networks.
const (
	networkAuto = "auto"
	networkTap  = "tap"
	networkUser = "user"
)

// defaultFront is where the HTTP front has always been.
const defaultFront = "127.0.0.1:8099"

// parseFront reads where the front is to be. Nobody is asked who he is there,
// so it is for this host alone.
func parseFront(text string) (netip.AddrPort, error) {
	if text == "none" {
		return netip.AddrPort{}, nil
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil || !at.Addr().IsLoopback() {
		return at, fmt.Errorf("front %q: expected a loopback address with a port, such as %s, or none", text, defaultFront)
	}
	return at, nil
}

func (o options) resolve(env func(string) string) (options, error) {
	o.share = cmp.Or(o.share, beside("../share/aegisvm", "/usr/share/aegisvm"))
	if o.system {
		o.front = netip.AddrPort{} // routerd has it
		o.home, o.state = "", cmp.Or(env("STATE_DIRECTORY"), systemState)
		o.credentials = env("CREDENTIALS_DIRECTORY")
		return o, nil
	}
	if o.home == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return o, fmt.Errorf("no folder for the state: %w: set AEGIS_HOME", err)
		}
		o.home = filepath.Join(home, ".aegis")
	}
	home, err := filepath.Abs(o.home)
	if err != nil {
		return o, fmt.Errorf("folder for the state: %w", err)
	}
	o.home, o.state = home, filepath.Join(home, "data")
	o.fsd = cmp.Or(o.fsd, beside("aegis-fsd", "/usr/libexec/aegisvm/aegis-fsd"))
	o.worker = cmp.Or(o.worker, beside("aegis-vmm-worker", "/usr/libexec/aegisvm/aegis-vmm-worker"))
	return o, nil
}

// beside finds what belongs to us: relative to our program where it is there,
// so that a build tree uses its own parts, else where packages install it.
func beside(relative, installed string) string {
	exe, err := os.Executable()
	if err == nil {
		if resolved, err := filepath.EvalSymlinks(exe); err == nil {
			exe = resolved
		}
		near := filepath.Join(filepath.Dir(exe), relative)
		if _, err := os.Stat(near); err == nil {
			return near
		}
	}
	return installed
}
