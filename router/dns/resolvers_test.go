package dns_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/router/dns"
)

// told is a log that tells of every new list.
type told chan string

func (c told) Write(line []byte) (int, error) {
	select {
	case c <- string(line):
	default: // nobody waits
	}
	return len(line), nil
}

func TestTheHostsResolversAreFollowed(t *testing.T) {
	dir := t.TempDir()
	etc, run := filepath.Join(dir, "etc"), filepath.Join(dir, "run/resolved")
	must(t, os.MkdirAll(etc, 0o755))
	file, stub := filepath.Join(etc, "resolv.conf"), filepath.Join(run, "stub.conf")
	write := func(path, server string) func() error {
		return func() error { return os.WriteFile(path, []byte("nameserver "+server+"\n"), 0o644) }
	}
	replace := func(server string) func() error {
		return func() error {
			if err := write(file+".new", server)(); err != nil {
				return err
			}
			return os.Rename(file+".new", file)
		}
	}
	must(t, write(file, "192.0.2.1")())
	log := make(told, 100)
	r := dns.Follow(t.Context(), file, slog.New(slog.NewTextHandler(log, nil)))
	for _, step := range []struct {
		name string
		do   func() error
		want string
	}{
		{"at first", func() error { return nil }, "[192.0.2.1:53]"},
		{"written in place", write(file, "192.0.2.2"), "[192.0.2.2:53]"},
		{"replaced", replace("192.0.2.3"), "[192.0.2.3:53]"},
		{"replaced again", replace("192.0.2.4"), "[192.0.2.4:53]"},
		{"gone", func() error { return os.Remove(file) }, "[]"},
		{"a link to what is not there", func() error { return os.Symlink("../run/resolved/stub.conf", file) }, "[]"},
		{"which comes", func() error {
			if err := os.MkdirAll(run, 0o755); err != nil {
				return err
			}
			return write(stub, "127.0.0.53")()
		}, "[127.0.0.53:53]"},
		{"and is replaced", func() error {
			if err := write(stub+".new", "192.0.2.5")(); err != nil {
				return err
			}
			return os.Rename(stub+".new", stub)
		}, "[192.0.2.5:53]"},
		{"the link is replaced by a file", replace("192.0.2.6"), "[192.0.2.6:53]"},
		{"more than count", write(file, "192.0.2.7\nnameserver 192.0.2.8\nnameserver 192.0.2.9\nnameserver 192.0.2.10"), "[192.0.2.7:53 192.0.2.8:53 192.0.2.9:53]"},
	} {
		must(t, step.do())
		late := time.NewTimer(10 * time.Second)
		for fmt.Sprint(r.Upstreams()) != step.want {
			select {
			case <-log:
				continue
			case <-late.C:
			}
			t.Fatalf("%s: %v, expected %s", step.name, r.Upstreams(), step.want)
		}
		late.Stop()
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
