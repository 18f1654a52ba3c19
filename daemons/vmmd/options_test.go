package main

import (
	"flag"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

func parseQuietly(t *testing.T, args ...string) (options, error) {
	t.Helper()
	var o options
	f := flag.NewFlagSet("aegis-vmmd", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	o.define(f)
	if err := f.Parse(args); err != nil {
		return o, err
	}
	return o, o.check(f)
}

func TestUnknownFlagsAndArgumentsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"--bogus"}, {"extra"}, {"--uids", "many"}} {
		if _, err := parseQuietly(t, args...); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

func TestDirectoriesAreFoundFromTheFlags(t *testing.T) {
	o, err := parseQuietly(t, "--share", "/s", "--libexec", "/l")
	if err != nil {
		t.Fatal(err)
	}
	if o.guest != filepath.Join("/s", "guest") || o.worker != filepath.Join("/l", "aegis-vmm-worker") {
		t.Errorf("guest %s, worker %s", o.guest, o.worker)
	}
	o, err = parseQuietly(t)
	if err != nil || !strings.HasSuffix(o.guest, "/aegisvm/guest") || !strings.HasPrefix(o.worker, "/") {
		t.Errorf("without flags: guest %s, worker %s (%v)", o.guest, o.worker, err)
	}
}
