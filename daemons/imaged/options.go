package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// options are the command line.
type options struct {
	bus, state, share, client, registries string
	version                               bool
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("aegis-imaged", flag.ContinueOnError)
	f.StringVar(&o.bus, "bus", "system", "D-Bus `address` to serve on")
	f.StringVar(&o.state, "state", "/var/lib/aegis/imaged", "`directory` of images and disks")
	f.StringVar(&o.share, "share", "", "`directory` with the base image (default beside the program, else /usr/share/aegisvm)")
	f.StringVar(&o.client, "client", "aegis", "`user` who may call, besides root")
	f.StringVar(&o.registries, "registries", "/etc/aegis/registries.json", "`file` with mirrors and insecure registries")
	f.BoolVar(&o.version, "version", false, "print the version")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: see aegis-imaged --help", f.Arg(0))
	}
	return o, nil
}

// base is the OCI layout of the base image.
func base(share string) string {
	if exe, err := os.Executable(); share == "" && err == nil {
		share = filepath.Join(filepath.Dir(exe), "../share/aegisvm")
	}
	if _, err := os.Stat(share); err != nil {
		share = "/usr/share/aegisvm"
	}
	return filepath.Join(share, "base")
}
