package imagebus

import (
	"context"
	"maps"
	"os"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/image"
)

// withLibrary adds the methods of image.Library to those of the root.
func (s *server) withLibrary(m bus.Methods) bus.Methods {
	maps.Copy(m, bus.Methods{
		"Pull": s.pull,
		"Load": s.load,
		"Save": func(ctx context.Context, r *bus.Request, refs []string, to, fd dbus.UnixFD) error {
			return during(ctx, r.File(fd), func(ctx context.Context, _ func(image.Progress)) error {
				return s.store.Save(ctx, refs, r.File(to))
			})
		},
		"Tag": func(ctx context.Context, _ *bus.Request, ref, name string) (bus.Dict, error) {
			info, err := s.store.Tag(ctx, ref, name)
			return dict(info, err)
		},
		"GetImage": func(ctx context.Context, _ *bus.Request, ref string) (bus.Dict, error) {
			info, err := s.store.Info(ctx, ref)
			return dict(info, err)
		},
		"Remove": func(ctx context.Context, _ *bus.Request, ref string, inUse []string) error {
			return s.store.Remove(ctx, ref, inUse)
		},
		"Prune": func(ctx context.Context, _ *bus.Request, inUse []string) ([]bus.Dict, error) {
			infos, err := s.store.Prune(ctx, inUse)
			return bus.ToDicts(infos, err)
		},
	})
	return m
}

func (s *server) pull(ctx context.Context, r *bus.Request, ref, policy string, fd dbus.UnixFD) (d bus.Dict, err error) {
	err = during(ctx, r.File(fd), func(ctx context.Context, report func(image.Progress)) error {
		img, err := s.store.Pull(ctx, ref, api.PullPolicy(policy), report)
		d, err = dict(img, err)
		return err
	})
	return d, err
}

func (s *server) load(ctx context.Context, r *bus.Request, archive dbus.UnixFD, name string, fd dbus.UnixFD) (all []bus.Dict, err error) {
	err = during(ctx, r.File(fd), func(ctx context.Context, report func(image.Progress)) error {
		infos, err := s.store.Load(ctx, r.File(archive), name, report)
		all, err = bus.ToDicts(infos, err)
		return err
	})
	return all, err
}

// Pull implements image.Library. The work ends when ctx does.
func (c *Client) Pull(ctx context.Context, ref string, policy api.PullPolicy, report func(image.Progress)) (image.Image, error) {
	if err := sendable(ref, string(policy)); err != nil {
		return image.Image{}, err
	}
	var d bus.Dict
	if err := c.during(ctx, report, "Pull", bus.Args{ref, string(policy)}, &d); err != nil {
		return image.Image{}, err
	}
	return fromDict[image.Image](d)
}

// Load implements image.Library. The work ends when ctx does.
func (c *Client) Load(ctx context.Context, archive *os.File, name string, report func(image.Progress)) ([]image.Info, error) {
	if err := sendable(name); err != nil {
		return nil, err
	}
	var dicts []bus.Dict
	err := c.during(ctx, report, "Load", bus.Args{archive, name}, &dicts)
	return fromDicts(dicts, err)
}

// Save implements image.Library. The work ends when ctx does.
func (c *Client) Save(ctx context.Context, refs []string, to *os.File) error {
	if err := sendable(refs...); err != nil {
		return err
	}
	return c.during(ctx, nil, "Save", bus.Args{list(refs), to})
}

// list is a list that is not nil, which has no type on the bus.
func list(s []string) []string { return append([]string{}, s...) }

// Tag implements image.Library.
func (c *Client) Tag(ctx context.Context, ref, name string) (image.Info, error) {
	return c.info(ctx, "Tag", ref, name)
}

// Info implements image.Library.
func (c *Client) Info(ctx context.Context, ref string) (image.Info, error) {
	return c.info(ctx, "GetImage", ref)
}

func (c *Client) info(ctx context.Context, method string, args ...string) (image.Info, error) {
	if err := sendable(args...); err != nil {
		return image.Info{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, diskTimeout)
	defer cancel()
	var in bus.Args
	for _, a := range args {
		in = append(in, a)
	}
	var d bus.Dict
	if err := c.manager.Call(ctx, method, in, &d); err != nil {
		return image.Info{}, err
	}
	return fromDict[image.Info](d)
}

// List implements image.Library.
func (c *Client) List(ctx context.Context) ([]image.Info, error) {
	var dicts []bus.Dict
	err := c.manager.Call(ctx, "ListImages", nil, &dicts)
	return fromDicts(dicts, err)
}

// Remove implements image.Library.
func (c *Client) Remove(ctx context.Context, ref string, inUse []string) error {
	if err := sendable(append(list(inUse), ref)...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, diskTimeout)
	defer cancel()
	return c.manager.Call(ctx, "Remove", bus.Args{ref, list(inUse)})
}

// Prune implements image.Library.
func (c *Client) Prune(ctx context.Context, inUse []string) ([]image.Info, error) {
	if err := sendable(inUse...); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, diskTimeout)
	defer cancel()
	var dicts []bus.Dict
	err := c.manager.Call(ctx, "Prune", bus.Args{list(inUse)}, &dicts)
	return fromDicts(dicts, err)
}
