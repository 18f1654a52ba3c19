// Package netbus carries a netd.Network over D-Bus as org.aegisvm.Network1:
// Serve exports one, Client is one. It decides nothing about networks; who may
// ask for what is in bus/xml and in the callers of each interface.
package netbus

import (
	"context"
	"net/netip"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// Callers are the users that may call beside root; a user that this host does
// not have may not. Taps are for vmmd alone, which is root.
type Callers struct {
	// Manager is aegisd's user, Names routerd's.
	Manager, Names string
}

// Serve exports a network on conn, claims the name org.aegisvm.Network1, calls
// ready, if not nil, and returns when ctx (nil) or the connection
// (Unavailable) has ended.
func Serve(ctx context.Context, conn *bus.Conn, n netd.Network, who Callers, ready func()) error {
	s := &server{n}
	managers, err := bus.Users(who.Manager)
	if err != nil {
		return err
	}
	resolvers, err := bus.Users(who.Names)
	if err != nil {
		return err
	}
	root, err := conn.Export(bus.NetworkPath,
		bus.Interface{
			Name: bus.NetworkManager, Allow: bus.AllowUIDs(managers...),
			Methods: s.manager(), Properties: bus.Properties{"Version": api.Version},
		},
		bus.Interface{Name: bus.NetworkTaps, Allow: bus.AllowUIDs(), Methods: s.taps()},
		bus.Interface{Name: bus.NetworkNames, Allow: bus.AllowUIDs(resolvers...), Methods: s.names()})
	if err != nil {
		return err
	}
	defer root.Unexport()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.signal(ctx, root); err != nil {
		return err
	}
	return conn.Hold(ctx, bus.NetworkName, ready)
}

// signal sends what the network tells until ctx ends.
func (s *server) signal(ctx context.Context, root *bus.Exported) error {
	gateways, err := s.network.Gateways(ctx)
	if err != nil {
		return err
	}
	if err := s.signalDenials(ctx, root); err != nil {
		return err
	}
	go func() {
		for all := range gateways {
			_ = root.Emit(bus.NetworkNames, "GatewaysChanged", writeAddresses(all)) // fails only with the connection
		}
	}()
	return nil
}

// signalDenials sends nothing where the network tells nobody.
func (s *server) signalDenials(ctx context.Context, root *bus.Exported) error {
	denials, err := s.network.Denials(ctx)
	if api.CodeOf(err) == api.Unavailable {
		return nil // it has said so, and says so as a note of its Support
	}
	if err != nil {
		return err
	}
	go func() {
		for d := range denials {
			_ = root.Emit(bus.NetworkManager, "Denied", d.Machine, d.Packets) // fails only with the connection
		}
	}()
	return nil
}

type server struct{ network netd.Network }

func (s *server) manager() bus.Methods {
	return bus.Methods{
		"Attach": func(ctx context.Context, _ *bus.Request, machine string, d bus.Dict) (bus.Dict, error) {
			p, err := readPolicy(d)
			if err != nil {
				return nil, err
			}
			return dict(s.network.Attach(ctx, machine, p))
		},
		"SetPolicy": func(ctx context.Context, _ *bus.Request, machine string, d bus.Dict) error {
			p, err := readPolicy(d)
			if err != nil {
				return err
			}
			return s.network.SetPolicy(ctx, machine, p)
		},
		"Detach": func(ctx context.Context, _ *bus.Request, machine string) error { return s.network.Detach(ctx, machine) },
		"Get": func(ctx context.Context, _ *bus.Request, machine string) (bus.Dict, error) {
			return dict(s.network.Get(ctx, machine))
		},
		"List": s.list,
		"Support": func(ctx context.Context, _ *bus.Request) (bus.Dict, error) {
			return dict(s.network.Support(ctx))
		},
	}
}

func (s *server) list(ctx context.Context, _ *bus.Request) ([]bus.Dict, error) {
	leases, err := s.network.List(ctx)
	return bus.ToDicts(leases, err)
}

func (s *server) taps() bus.Methods {
	return bus.Methods{
		"OpenTap": func(ctx context.Context, r *bus.Request, machine string) (dbus.UnixFD, error) {
			f, err := s.network.OpenTap(ctx, machine)
			return r.Send(f), err
		},
	}
}

func (s *server) names() bus.Methods {
	return bus.Methods{
		"Guest": func(ctx context.Context, _ *bus.Request, address string) (bus.Dict, error) {
			addr, err := readAddress(address)
			if err != nil {
				return nil, err
			}
			return dict(s.network.Guest(ctx, addr))
		},
		"Pin":      s.pin,
		"Gateways": s.gateways,
	}
}

// maxAddresses is more than a name has in any answer that is no attack.
const maxAddresses = 256

func (s *server) pin(ctx context.Context, _ *bus.Request, machine, name string, addresses []string, ttl uint64) error {
	if len(addresses) > maxAddresses {
		return api.Errorf(api.LimitExceeded, "%d addresses of one name: at most %d are possible", len(addresses), maxAddresses)
	}
	addrs, err := readAddresses(addresses)
	if err != nil {
		return err
	}
	const day = uint64(24 * time.Hour / time.Millisecond)
	return s.network.Pin(ctx, machine, name, addrs, time.Duration(min(ttl, day))*time.Millisecond)
}

// gateways answers what the network tells a reader first.
func (s *server) gateways(ctx context.Context, _ *bus.Request) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	now, err := s.network.Gateways(ctx)
	if err != nil {
		return nil, err
	}
	return writeAddresses(<-now), nil
}

func writeAddresses(all []netip.Addr) []string {
	texts := []string{}
	for _, a := range all {
		texts = append(texts, a.String())
	}
	return texts
}

func readAddresses(texts []string) ([]netip.Addr, error) {
	all := make([]netip.Addr, len(texts))
	for i, text := range texts {
		var err error
		if all[i], err = readAddress(text); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func readAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, api.Errorf(api.InvalidArgument, "%.80q is no address", s)
	}
	return a, nil
}

func readPolicy(d bus.Dict) (p policy.Policy, err error) {
	if err := bus.FromDictStrict(d, &p); err != nil {
		return p, api.Errorf(api.InvalidArgument, "policy: %w", err)
	}
	return p, nil
}

func dict[T any](v T, err error) (bus.Dict, error) {
	if err != nil {
		return nil, err
	}
	return bus.ToDict(v)
}
