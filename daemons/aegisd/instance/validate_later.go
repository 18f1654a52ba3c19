package instance

import (
	"net/netip"

	"github.com/xfeldman/aegisvm/api"
)

// maxExposes is how many ports an instance may offer.
const maxExposes = 64

func checkExposes(spec api.InstanceSpec) error {
	if n := len(spec.Exposes); n > maxExposes {
		return invalid("%d exposes: at most %d are allowed", n, maxExposes)
	}
	for i, given := range spec.Exposes {
		e := given.WithDefaults()
		if err := checkExpose(e); err != nil {
			return err
		}
		for _, other := range spec.Exposes[:i] {
			if err := checkBeside(e, other.WithDefaults()); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkExpose(e api.Expose) error {
	_, err := netip.ParseAddr(e.Bind)
	switch {
	case err != nil:
		return invalid("exposes: bind %q: expected an IP address of the host", shorten(e.Bind))
	case e.GuestPort < 1 || e.GuestPort > 65535:
		return invalid("exposes: guest_port %d: expected 1 to 65535", e.GuestPort)
	case e.PublicPort < 0 || e.PublicPort > 65535:
		return invalid("exposes: public_port %d: expected 1 to 65535, or 0 for any", e.PublicPort)
	case !e.Protocol.Known():
		return invalid("exposes: protocol %q: expected http, tcp or udp", shorten(string(e.Protocol)))
	}
	return nil
}

// checkBeside refuses two exposes of the same port, of the guest or of the
// host. Those of UDP are others than those of TCP.
func checkBeside(a, b api.Expose) error {
	switch {
	case (a.Protocol == api.ProtocolUDP) != (b.Protocol == api.ProtocolUDP):
		return nil
	case a.GuestPort == b.GuestPort:
		return invalid("exposes: guest_port %d is there twice: name it once", a.GuestPort)
	case a.PublicPort != 0 && a.PublicPort == b.PublicPort && sameAddress(a.Bind, b.Bind):
		return invalid("exposes: public_port %d is there twice: name it once", a.PublicPort)
	}
	return nil
}

// sameAddress tells whether a port of one address is taken by the other's: the
// unspecified address has those of all.
func sameAddress(a, b string) bool {
	x, _ := netip.ParseAddr(a) // checked before
	y, _ := netip.ParseAddr(b)
	return x.Unmap() == y.Unmap() || x.IsUnspecified() || y.IsUnspecified()
}

func checkKit(spec api.InstanceSpec) error {
	if k := spec.Kit; k != "" && (len(k) > maxHandle || !handleGrammar.MatchString(k)) {
		return invalid("kit %q: expected at most %d letters, digits, '.', '_' and '-', beginning with a letter or digit", shorten(k), maxHandle)
	}
	return nil
}

func checkIdle(spec api.InstanceSpec) error {
	_, err := spec.Idle.Parse()
	return atBoundary(err)
}

// exposesWithDefaults are the ports as they are offered.
func exposesWithDefaults(given []api.Expose) []api.Expose {
	var all []api.Expose
	for _, e := range given {
		all = append(all, e.WithDefaults())
	}
	return all
}
