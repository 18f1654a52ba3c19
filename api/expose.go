package api

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Expose is a port of the guest that the host offers.
type Expose struct {
	// Bind is the host's address, 127.0.0.1 by default.
	Bind string `json:"bind,omitempty"`
	// GuestPort is the guest's, 1 to 65535; PublicPort the host's, 0 for any.
	GuestPort  int `json:"guest_port"`
	PublicPort int `json:"public_port,omitempty"`
	// Protocol is http, the default, tcp or udp.
	Protocol Protocol `json:"protocol,omitempty"`
}

// Protocol is what a port that is offered speaks.
type Protocol string

// The protocols. HTTP is TCP whose requests the host's front may route.
const (
	ProtocolHTTP Protocol = "http"
	ProtocolTCP  Protocol = "tcp"
	ProtocolUDP  Protocol = "udp"
)

// LocalBind is the address of a port that says none.
const LocalBind = "127.0.0.1"

// exposeGrammar is what an Expose looks like as text.
const exposeGrammar = "[BIND:][PUBLIC:]GUEST[/http|/tcp|/udp]"

// ParseExpose reads [BIND:][PUBLIC:]GUEST[/http|/tcp|/udp], where BIND is an
// address of the host, one of IPv6 in brackets. It fills in no defaults.
func ParseExpose(text string) (e Expose, err error) {
	ports, protocol, given := strings.Cut(text, "/")
	e.Protocol = Protocol(protocol)
	if given && !e.Protocol.Known() {
		return Expose{}, fmt.Errorf("protocol %q: expected http, tcp or udp", protocol)
	}
	if ports, err = e.cutBind(ports); err != nil {
		return Expose{}, err
	}
	public, guest, both := strings.Cut(ports, ":")
	if !both {
		public, guest = "", public
	}
	if e.GuestPort, err = parsePort(guest); err == nil && public != "" {
		e.PublicPort, err = parsePort(public)
	}
	if err != nil {
		return Expose{}, err
	}
	return e, nil
}

// Known tells whether it is one of the protocols.
func (p Protocol) Known() bool { return p == ProtocolHTTP || p == ProtocolTCP || p == ProtocolUDP }

// cutBind takes the address off the front of BIND:PORTS.
func (e *Expose) cutBind(text string) (ports string, err error) {
	bind := ""
	if inner, bracket := strings.CutPrefix(text, "["); bracket {
		var closed bool
		if bind, ports, closed = strings.Cut(inner, "]:"); !closed {
			return "", errors.New("an address in brackets without ]: behind it: expected " + exposeGrammar)
		}
	} else if first, rest, more := strings.Cut(text, ":"); more && (strings.Contains(first, ".") || strings.Contains(rest, ":")) {
		bind, ports = first, rest
	} else {
		return text, nil
	}
	if _, err := netip.ParseAddr(bind); err != nil {
		return "", fmt.Errorf("address %q: expected an IP address, one of IPv6 in brackets", bind)
	}
	e.Bind = bind
	return ports, nil
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %q: expected %s with numbers from 1 to 65535", s, exposeGrammar)
	}
	return int(n), nil
}

// String is what ParseExpose reads.
func (e Expose) String() string {
	text := strconv.Itoa(e.GuestPort)
	if e.PublicPort != 0 {
		text = strconv.Itoa(e.PublicPort) + ":" + text
	}
	if strings.Contains(e.Bind, ":") {
		text = "[" + e.Bind + "]:" + text
	} else if e.Bind != "" {
		text = e.Bind + ":" + text
	}
	if e.Protocol != "" {
		text += "/" + string(e.Protocol)
	}
	return text
}

// WithDefaults fills in what was left open.
func (e Expose) WithDefaults() Expose {
	if e.Bind == "" {
		e.Bind = LocalBind
	}
	if e.Protocol == "" {
		e.Protocol = ProtocolHTTP
	}
	return e
}
