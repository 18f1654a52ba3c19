package main

import (
	"cmp"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCompositionAndFoldersFollowFlagsAndEnvironment(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		env   map[string]string
		want  options
		error string
	}{
		"nothing":                  {nil, nil, options{home: "/home/u/.aegis", state: "/home/u/.aegis/data"}, ""},
		"AEGIS_HOME":               {nil, map[string]string{"AEGIS_HOME": "/x/"}, options{home: "/x", state: "/x/data"}, ""},
		"--home wins":              {[]string{"--home", "/y"}, map[string]string{"AEGIS_HOME": "/x"}, options{home: "/y", state: "/y/data"}, ""},
		"a passed socket":          {nil, map[string]string{"LISTEN_FDS": "1", "STATE_DIRECTORY": "/s"}, options{system: true, state: "/s"}, ""},
		"--system":                 {[]string{"--system"}, nil, options{system: true, state: systemState}, ""},
		"--standalone wins":        {[]string{"--standalone"}, map[string]string{"LISTEN_FDS": "1"}, options{home: "/home/u/.aegis", state: "/home/u/.aegis/data"}, ""},
		"both compositions":        {[]string{"--standalone", "--system"}, nil, options{}, "exclude one another"},
		"no ready timeout":         {[]string{"--ready-timeout", "0s"}, nil, options{}, `ready timeout "0s": expected 1ms to 1h`},
		"a ready timeout":          {[]string{"--ready-timeout", "5s"}, map[string]string{"AEGIS_READY_TIMEOUT": "1s"}, options{home: "/home/u/.aegis", state: "/home/u/.aegis/data", ready: 5 * time.Second}, ""},
		"one of the machine":       {nil, map[string]string{"AEGIS_READY_TIMEOUT": "100ms"}, options{home: "/home/u/.aegis", state: "/home/u/.aegis/data", ready: 100 * time.Millisecond}, ""},
		"a wrong one of it":        {nil, map[string]string{"AEGIS_READY_TIMEOUT": "60"}, options{}, `ready timeout "60"`},
		"no front":                 {[]string{"--front", "none"}, nil, options{home: "/home/u/.aegis", state: "/home/u/.aegis/data"}, ""},
		"a front":                  {nil, map[string]string{"AEGIS_FRONT": "[::1]:0"}, options{home: "/home/u/.aegis", state: "/home/u/.aegis/data", front: netip.MustParseAddrPort("[::1]:0")}, ""},
		"a front for all":          {[]string{"--front", "0.0.0.0:80"}, nil, options{}, `front "0.0.0.0:80": expected a loopback address`},
		"other resolvers":          {[]string{"--resolv-conf", "/r"}, map[string]string{"AEGIS_RESOLV_CONF": "/e"}, options{home: "/home/u/.aegis", state: "/home/u/.aegis/data", resolvConf: "/r"}, ""},
		"those of the environment": {nil, map[string]string{"AEGIS_RESOLV_CONF": "/e"}, options{home: "/home/u/.aegis", state: "/home/u/.aegis/data", resolvConf: "/e"}, ""},
		"a network without rights": {[]string{"--network", "user"}, map[string]string{"AEGIS_NETWORK": "tap"}, options{home: "/home/u/.aegis", state: "/home/u/.aegis/data", network: networkUser}, ""},
		"taps or nothing":          {nil, map[string]string{"AEGIS_NETWORK": "tap"}, options{home: "/home/u/.aegis", state: "/home/u/.aegis/data", network: networkTap}, ""},
		"another network":          {[]string{"--network", "bridge"}, nil, options{}, `network "bridge": expected auto, tap or user`},
		"an unknown flag":          {[]string{"--nosuch"}, nil, options{}, "nosuch"},
		"an unknown argument":      {[]string{"start"}, nil, options{}, `unexpected argument "start"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", "/home/u")
			got, err := parse(c.args, func(k string) string { return c.env[k] })
			if c.error != "" {
				if err == nil || !strings.Contains(err.Error(), c.error) {
					t.Errorf("error is %v, want %q", err, c.error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := cmp.Or(c.want.ready, time.Minute); got.ready != want {
				t.Errorf("ready timeout %v, want %v", got.ready, want)
			}
			if want := cmp.Or(c.want.resolvConf, "/etc/resolv.conf"); got.resolvConf != want {
				t.Errorf("the resolvers are in %s, want %s", got.resolvConf, want)
			}
			if want := cmp.Or(c.want.network, networkAuto); got.network != want {
				t.Errorf("networks are %s, want %s", got.network, want)
			}
			if got.system != c.want.system || got.home != c.want.home || got.state != c.want.state {
				t.Errorf("options are %+v, want %+v", got, c.want)
			}
			if asked := c.want.front; (asked.IsValid() || name == "no front" || got.system) && got.front != asked {
				t.Errorf("front at %v, want %v", got.front, asked)
			}
			if !got.system && (!filepath.IsAbs(got.share) || !filepath.IsAbs(got.worker)) {
				t.Errorf("parts are at %q and %q", got.share, got.worker)
			}
		})
	}
}
