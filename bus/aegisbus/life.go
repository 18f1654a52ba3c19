package aegisbus

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// waitTimeout is how long one call of Wait lasts at most; the client repeats
// it. A caller that leaves the bus ends its call at once.
const waitTimeout = time.Hour

// verb is a call that takes nothing but the instance.
type verb func(ctx context.Context, ref string) (api.Instance, error)

// verbs are the calls of that kind that api.Life has.
func (s *Server) verbs() map[string]verb {
	return map[string]verb{
		"Restart": s.aegis.Restart, "Enable": s.aegis.Enable, "Disable": s.aegis.Disable,
		"Pause": s.aegis.Pause, "Resume": s.aegis.Resume, "Hibernate": s.aegis.Hibernate,
		"Release": s.aegis.Release,
	}
}

// lifeMethods are the root's methods of api.Life.
func (s *Server) lifeMethods() bus.Methods {
	m := bus.Methods{}
	for name, call := range s.verbs() {
		m[name+"Instance"] = func(ctx context.Context, _ *bus.Request, ref string) (bus.Dict, error) {
			in, err := call(ctx, ref)
			return dict(in, err)
		}
	}
	maps.Copy(m, bus.Methods{
		"RenameInstance": func(ctx context.Context, _ *bus.Request, ref, handle string) (bus.Dict, error) {
			in, err := s.aegis.Rename(ctx, ref, handle)
			return dict(in, err)
		},
		"KeepaliveInstance": func(ctx context.Context, _ *bus.Request, ref string, micros uint64, reason string) (bus.Dict, error) {
			in, err := s.aegis.Keepalive(ctx, ref, lease(micros, reason))
			return dict(in, err)
		},
		"DescribeInstances": s.describe,
		"WaitInstance":      s.wait,
		"PruneInstances": func(ctx context.Context, _ *bus.Request, micros uint64, dry bool) ([]string, error) {
			const most = uint64(1<<63-1) / 1000
			ids, err := s.aegis.Prune(ctx, time.Duration(min(micros, most))*time.Microsecond, dry)
			return append([]string{}, ids...), err
		},
	})
	return m
}

// withLifeOf adds the methods of api.Life to those of an instance.
func (s *Server) withLifeOf(id string, m bus.Methods) bus.Methods {
	for name, call := range s.verbs() {
		m[name] = func(ctx context.Context, _ *bus.Request) error {
			_, err := call(ctx, id)
			return err
		}
	}
	m["Rename"] = func(ctx context.Context, _ *bus.Request, handle string) error {
		_, err := s.aegis.Rename(ctx, id, handle)
		return err
	}
	m["Keepalive"] = func(ctx context.Context, _ *bus.Request, micros uint64, reason string) error {
		_, err := s.aegis.Keepalive(ctx, id, lease(micros, reason))
		return err
	}
	m["Wait"] = func(ctx context.Context, r *bus.Request, until string) (bus.Dict, error) {
		return s.wait(ctx, r, id, until)
	}
	return m
}

// lease is one of so many microseconds, rounded up to what the API counts in.
func lease(micros uint64, reason string) api.Lease {
	return api.Lease{TTLMS: int64(micros/1000 + min(micros%1000, 1)), Reason: reason}
}

// describe is the list as text, which costs a tenth of its structures.
func (s *Server) describe(ctx context.Context, _ *bus.Request) (string, error) {
	all, err := s.aegis.List(ctx)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(append([]api.Instance{}, all...))
	return string(text), err
}

// wait waits as long as the caller is on the bus.
func (s *Server) wait(ctx context.Context, r *bus.Request, ref, until string) (bus.Dict, error) {
	ctx, cancel, err := s.whileCaller(ctx, r)
	if err != nil {
		return nil, err
	}
	defer cancel()
	in, err := s.aegis.Wait(ctx, ref, api.Until(until))
	return dict(in, err)
}

// lifeProperties are those of an instance that api.Life is about.
func lifeProperties(in api.Instance) bus.Properties {
	labels := map[string]string{} // never nil: it has a type of its own
	maps.Copy(labels, in.Labels)
	return bus.Properties{
		"Hostname": in.Hostname, "Labels": labels, "Restart": string(in.Restart), "Starts": in.Starts,
		"RestartCount": uint32(in.RestartCount), "RestartUSec": micros(in.RestartAt),
	}
}

// Restart implements api.Aegis.
func (c *Client) Restart(ctx context.Context, ref string) (api.Instance, error) {
	return c.slowly(ctx, "RestartInstance", ref)
}

// Enable implements api.Aegis.
func (c *Client) Enable(ctx context.Context, ref string) (api.Instance, error) {
	return c.instance(ctx, "EnableInstance", ref)
}

// Disable implements api.Aegis.
func (c *Client) Disable(ctx context.Context, ref string) (api.Instance, error) {
	return c.slowly(ctx, "DisableInstance", ref)
}

// Pause implements api.Aegis.
func (c *Client) Pause(ctx context.Context, ref string) (api.Instance, error) {
	return c.slowly(ctx, "PauseInstance", ref)
}

// Hibernate implements api.Aegis.
func (c *Client) Hibernate(ctx context.Context, ref string) (in api.Instance, err error) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	return c.instance(ctx, "HibernateInstance", ref)
}

// saveTimeout is how long the memory of an instance may take to be written.
const saveTimeout = 11 * time.Minute

// Resume implements api.Aegis.
func (c *Client) Resume(ctx context.Context, ref string) (api.Instance, error) {
	return c.slowly(ctx, "ResumeInstance", ref)
}

// slowly makes a call that waits for a machine.
func (c *Client) slowly(ctx context.Context, member, ref string) (api.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return c.instance(ctx, member, ref)
}

// Keepalive implements api.Aegis.
func (c *Client) Keepalive(ctx context.Context, ref string, lease api.Lease) (in api.Instance, err error) {
	if lease.TTLMS < 0 {
		return in, api.Errorf(api.InvalidArgument, "ttl_ms %d: expected 0 or more", lease.TTLMS)
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	var d bus.Dict
	if err := c.call(ctx, "KeepaliveInstance", bus.Args{ref, uint64(lease.TTLMS) * 1000, lease.Reason}, &d); err != nil {
		return in, err
	}
	return in, fromDict(d, &in)
}

// Release implements api.Aegis.
func (c *Client) Release(ctx context.Context, ref string) (api.Instance, error) {
	return c.instance(ctx, "ReleaseInstance", ref)
}

// Rename implements api.Aegis.
func (c *Client) Rename(ctx context.Context, ref, handle string) (in api.Instance, err error) {
	var d bus.Dict
	if err := c.call(ctx, "RenameInstance", bus.Args{ref, handle}, &d); err != nil {
		return in, err
	}
	return in, fromDict(d, &in)
}

// Wait implements api.Aegis.
func (c *Client) Wait(ctx context.Context, ref string, until api.Until) (in api.Instance, err error) {
	for {
		var d bus.Dict
		bounded, cancel := context.WithTimeout(ctx, waitTimeout)
		err := c.call(bounded, "WaitInstance", bus.Args{ref, string(until)}, &d)
		expired := errors.Is(bounded.Err(), context.DeadlineExceeded) && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			return in, fromDict(d, &in)
		case !expired:
			return in, err
		}
	}
}

// Prune implements api.Aegis.
func (c *Client) Prune(ctx context.Context, olderThan time.Duration, dry bool) (ids []string, err error) {
	if olderThan < 0 {
		return nil, api.Errorf(api.InvalidArgument, "age of %v: expected 0 or more", olderThan)
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return ids, c.call(ctx, "PruneInstances", bus.Args{uint64(olderThan.Microseconds()), dry}, &ids)
}
