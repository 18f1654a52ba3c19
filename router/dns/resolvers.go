package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/fsnotify/fsnotify"
	"github.com/miekg/dns"
)

// ResolvConf is where a host says who its resolvers are.
const ResolvConf = "/etc/resolv.conf"

// maxUpstreams is how many resolvers of a file count, as for programs of the
// host.
const maxUpstreams = 3

// Upstreams are the resolvers that a resolv.conf names.
func Upstreams(file string) ([]string, error) {
	c, err := dns.ClientConfigFromFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the host's resolvers: %w", err)
	}
	var all []string
	for _, s := range c.Servers[:min(len(c.Servers), maxUpstreams)] {
		all = append(all, net.JoinHostPort(s, c.Port))
	}
	return all, nil
}

// Resolvers are those that a resolv.conf names now: it is read again when it,
// or a link on the way to it, changes.
type Resolvers struct {
	file  string
	log   *slog.Logger
	watch *fsnotify.Watcher // nil where the host has no more of them
	now   atomic.Pointer[[]string]
}

// Follow reads a resolv.conf and follows it until ctx ends. Where it cannot be
// followed, it is read for every question.
func Follow(ctx context.Context, file string, log *slog.Logger) *Resolvers {
	r := &Resolvers{file: file, log: log.With("component", "dns")}
	var err error
	if r.watch, err = fsnotify.NewWatcher(); err != nil {
		r.log.Warn("the host's resolvers are read for every question", "file", file, "error", err)
		r.watch = nil
		return r
	}
	r.refresh()
	go r.run(ctx)
	return r
}

// Upstreams are the resolvers, ADDRESS:PORT.
func (r *Resolvers) Upstreams() []string {
	if r.watch == nil {
		r.read()
	}
	return *r.now.Load()
}

// run reads the file again whenever something on the way to it changes.
func (r *Resolvers) run(ctx context.Context) {
	defer r.watch.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-r.watch.Events:
			if !r.concerns(ev.Name) {
				continue
			}
		case err := <-r.watch.Errors: // such as more events than the kernel keeps
			r.log.Warn("looking at the host's resolvers again", "error", err)
		}
		r.refresh()
	}
}

// concerns tells whether a file is on the way to ours.
func (r *Resolvers) concerns(name string) bool {
	return slices.ContainsFunc(links(r.file), func(path string) bool {
		return path == name || strings.HasPrefix(path, name+"/")
	})
}

// refresh watches the way as it is now, and only then reads.
func (r *Resolvers) refresh() {
	for _, path := range links(r.file) {
		_ = r.watch.Add(path) // it may not be there; its folder tells when it is
		for range maxLinks {
			if !r.watchAbove(path) {
				break
			}
		}
	}
	r.read()
}

// watchAbove watches the nearest folder of a path that is there, and tells
// whether a nearer one has come before it did.
func (r *Resolvers) watchAbove(path string) (again bool) {
	dir, missing := filepath.Dir(path), ""
	for r.watch.Add(dir) != nil && dir != filepath.Dir(dir) {
		dir, missing = filepath.Dir(dir), dir
	}
	if missing == "" {
		return false
	}
	_, err := os.Lstat(missing)
	return err == nil
}

func (r *Resolvers) read() {
	all, err := Upstreams(r.file)
	if err != nil {
		r.log.Warn("the host names no resolver", "error", err)
	}
	if old := r.now.Swap(&all); old == nil || !slices.Equal(*old, all) {
		r.log.Info("the host's resolvers", "upstreams", all)
	}
}

// maxLinks is how many links the way to a file may have.
const maxLinks = 8

// links are a file and what it leads to, link by link.
func links(file string) (all []string) {
	for range maxLinks {
		all = append(all, file)
		target, err := os.Readlink(file)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(file), target)
		}
		file = target
	}
	return all
}
