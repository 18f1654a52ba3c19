package policy

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/xfeldman/aegisvm/api"
)

// Rule allows one destination, as it is written: "internet", an address or
// network, or a domain, each but the first with a port if it has one.
type Rule struct {
	// Internet is every public address.
	Internet bool
	// Prefix is a network of IPv4, the zero value where there is none.
	Prefix netip.Prefix
	// Name is a domain, in lower case; "*.example.com" is every name below it.
	Name string
	// Port is one of TCP and UDP; 0 is all ports of all protocols.
	Port uint16
}

// Internet is the word for every public address.
const Internet = "internet"

const syntax = "expected internet, ADDRESS, NETWORK/BITS or DOMAIN, and :PORT if only that is meant"

// label is one part of a domain name.
var label = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

const maxName = 253

// Parse reads a rule.
func Parse(text string) (Rule, error) {
	if text == Internet {
		return Rule{Internet: true}, nil
	}
	host, port, hasPort := strings.Cut(text, ":")
	if strings.ContainsAny(port, ":[]") || strings.HasPrefix(host, "[") {
		return Rule{}, refuse(text, "guests have no IPv6: name an IPv4 address or a domain")
	}
	var r Rule
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '0' || port[0] == '+' {
			return Rule{}, refuse(text, "port: expected 1 to 65535")
		}
		r.Port = uint16(n)
	}
	if err := r.destination(host); err != nil {
		return Rule{}, refuse(text, err.Error())
	}
	return r, r.check()
}

func refuse(text, why string) error {
	if len(text) > 80 {
		text = text[:80] + "..."
	}
	return api.Errorf(api.InvalidArgument, "egress %q: %s", text, why)
}

type reason string

func (r reason) Error() string { return string(r) }

// destination reads what stands before the port.
func (r *Rule) destination(host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		r.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	if strings.Contains(host, "/") {
		p, err := netip.ParsePrefix(host)
		switch {
		case err != nil:
			return reason(syntax)
		case p.Masked() != p:
			return reason("it names an address in a network: did you mean " + p.Masked().String() + "?")
		}
		r.Prefix = p
		return nil
	}
	r.Name = strings.ToLower(strings.TrimSuffix(host, "."))
	return checkName(r.Name)
}

func checkName(name string) error {
	labels := strings.Split(strings.TrimPrefix(name, "*."), ".")
	for _, l := range labels {
		if !label.MatchString(l) {
			return reason(syntax)
		}
	}
	last := labels[len(labels)-1]
	switch {
	case name == Internet:
		return reason("internet is every public address and has no port")
	case len(name) > maxName:
		return reason("a domain has at most 253 characters")
	case strings.Trim(last, "0123456789") == "":
		return reason("it is neither an address nor a domain: " + syntax)
	}
	return nil
}

// check refuses what no rule may open.
func (r Rule) check() error {
	switch {
	case r.Internet && (r.Port != 0 || r.Name != "" || r.Prefix.IsValid()),
		!r.Internet && (r.Name != "") == r.Prefix.IsValid():
		return refuse(r.String(), syntax)
	case r.Name != "":
		if err := checkName(r.Name); err != nil {
			return refuse(r.String(), err.Error())
		}
	case r.Prefix.IsValid() && (!r.Prefix.Addr().Is4() || r.Prefix.Masked() != r.Prefix):
		return refuse(r.String(), "guests have no IPv6: name an IPv4 address or a domain")
	case within(r.Prefix, Never):
		return refuse(r.String(), "it is the host's own, link-local or multicast and never open to guests: for services of the host say --network host-services=PORT")
	}
	return nil
}

// Private tells whether the rule is for a private network, which has to be
// named to be open.
func (r Rule) Private() bool { return r.Prefix.IsValid() && within(r.Prefix, Private) }

// Matches tells whether the rule allows a name.
func (r Rule) Matches(name string) bool {
	if below, wild := strings.CutPrefix(r.Name, "*"); wild {
		return strings.HasSuffix(name, below) && len(name) > len(below)
	}
	return r.Name != "" && r.Name == name
}

// String is the rule as it is written.
func (r Rule) String() string {
	text := r.Name
	switch {
	case r.Internet:
		return Internet
	case r.Prefix.IsValid() && r.Prefix.IsSingleIP():
		text = r.Prefix.Addr().String()
	case r.Prefix.IsValid():
		text = r.Prefix.String()
	}
	if r.Port != 0 {
		text += ":" + strconv.Itoa(int(r.Port))
	}
	return text
}

// MarshalText implements encoding.TextMarshaler.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rule) UnmarshalText(text []byte) (err error) {
	*r, err = Parse(string(text))
	return err
}
