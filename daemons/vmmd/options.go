package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/xfeldman/aegisvm/vmm/manager"
)

// options are the flags.
type options struct {
	bus, dir, state, share, libexec, user string
	guest, worker                         string // derived
	uidBase, uids                         uint
}

func (o *options) define(f *flag.FlagSet) {
	f.StringVar(&o.bus, "bus", "system", "the message bus: system, or a D-Bus `address`")
	f.StringVar(&o.dir, "dir", "/run/aegis/vmm", "`directory` of the machines")
	f.StringVar(&o.state, "state", cmp.Or(os.Getenv("STATE_DIRECTORY"), "/var/lib/aegis/vmmd"), "`directory` of what outlives machines: snapshots and their kernels")
	f.StringVar(&o.share, "share", "", "`directory` with guest/ (default: share/aegisvm beside this program, else /usr/share/aegisvm)")
	f.StringVar(&o.libexec, "libexec", "", "`directory` of aegis-vmm-worker (default: that of this program, else /usr/libexec/aegisvm)")
	f.StringVar(&o.user, "user", "aegis", "the `name` or number of aegisd's user, who may call beside root")
	f.UintVar(&o.uidBase, "uid-base", manager.DefaultUIDBase, "first `user` for machines, one each")
	f.UintVar(&o.uids, "uids", manager.DefaultUIDs, "how many users, and so machines, there are")
}

func (o *options) check(f *flag.FlagSet) error {
	if f.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q", f.Arg(0))
		fmt.Fprintln(f.Output(), "aegis-vmmd:", err)
		f.Usage()
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	here := filepath.Dir(exe)
	if o.share == "" {
		o.share = firstDir(filepath.Join(here, "../share/aegisvm"), "/usr/share/aegisvm")
	}
	o.guest = filepath.Join(o.share, "guest")
	if o.libexec == "" {
		o.libexec = here
		if _, err := os.Stat(filepath.Join(here, "aegis-vmm-worker")); err != nil {
			o.libexec = "/usr/libexec/aegisvm"
		}
	}
	o.worker = filepath.Join(o.libexec, "aegis-vmm-worker")
	return nil
}

func firstDir(dirs ...string) string {
	for _, d := range dirs[:len(dirs)-1] {
		if _, err := os.Stat(d); err == nil {
			return d
		}
	}
	return dirs[len(dirs)-1]
}
