package front

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/xfeldman/aegisvm/api"
)

// The headers that say what a request is for. They go no further.
const (
	// InstanceHeader has the name or id of an instance, and wins over the host.
	InstanceHeader = "X-Aegis-Instance"
	// PortHeader has a port of its guest.
	PortHeader = "X-Aegis-Port"
)

// local is the domain whose names are this host's, wherever they are asked for.
const local = "localhost"

// misdirected is the refusal of a request for another host.
type misdirected struct{ host string }

func (m misdirected) Error() string {
	return "host " + strconv.Quote(shorten(m.host)) + " is not served here: use localhost, 127.0.0.1, [::1] or NAME." + local
}

// checkHost refuses a page of the internet whose name was made to lead here
// (DNS rebinding): a browser takes us for its own server then, and lets it
// read what we answer.
func checkHost(r *http.Request) error {
	host := hostOf(r.Host)
	if host == local || strings.HasSuffix(host, "."+local) {
		return nil
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Unmap().IsLoopback() && a.Zone() == "" {
		return nil
	}
	return misdirected{r.Host}
}

// hostOf is the host without its port, in lower case.
func hostOf(host string) string {
	if inner, bracket := strings.CutPrefix(host, "["); bracket {
		host, _, _ = strings.Cut(inner, "]")
	} else if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host, ':') == i {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// find finds what a request is for.
func (f *Front) find(r *http.Request) (Target, error) {
	port, err := portOf(r)
	if err != nil {
		return Target{}, err
	}
	if name := r.Header.Get(InstanceHeader); name != "" {
		return f.instances.Find(name, port)
	}
	name, sub := strings.CutSuffix(hostOf(r.Host), "."+local)
	if !sub {
		return f.instances.Find("", port)
	}
	t, err := f.instances.Find(name, port)
	if first, rest, more := strings.Cut(name, "."); more && api.CodeOf(err) == api.NotFound {
		// A name may have dots itself; so this is looked for behind it.
		if n, bad := parsePort(first); bad == nil && (port == 0 || port == n) {
			return f.instances.Find(rest, n)
		}
	}
	return t, err
}

func portOf(r *http.Request) (int, error) {
	text := r.Header.Get(PortHeader)
	if text == "" {
		return 0, nil
	}
	return parsePort(text)
}

func parsePort(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, api.Errorf(api.InvalidArgument, "%s %q: expected a port of the guest, 1 to 65535", PortHeader, shorten(text))
	}
	return int(n), nil
}

// shorten keeps what a stranger says fit to be shown.
func shorten(s string) string { return strings.ToValidUTF8(s[:min(len(s), 100)], "?") }
