package instance

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/xfeldman/aegisvm/api"
)

// The bounds of what is only kept.
const (
	maxHostname   = 63
	maxLabels     = 64
	maxLabelKey   = 128
	maxLabelValue = 256
	maxExposes    = 64
)

var (
	hostnameGrammar = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$`)
	labelGrammar    = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._/-]*$`)
)

func checkHostname(spec api.InstanceSpec) error {
	switch h := spec.Hostname; {
	case h == "":
	case len(h) > maxHostname:
		return invalid("hostname of %d characters: at most %d are allowed", len(h), maxHostname)
	case !hostnameGrammar.MatchString(h):
		return invalid("hostname %q: expected letters, digits, '.' and '-', beginning and ending with a letter or digit", h)
	}
	return nil
}

func checkLabels(spec api.InstanceSpec) error {
	if n := len(spec.Labels); n > maxLabels {
		return invalid("%d labels: at most %d are allowed", n, maxLabels)
	}
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	for _, k := range slices.Sorted(maps.Keys(spec.Labels)) {
		switch v := spec.Labels[k]; {
		case len(k) > maxLabelKey || !labelGrammar.MatchString(k):
			return invalid("label %q: expected at most %d letters, digits, '.', '_', '/' and '-', beginning with a letter or digit", shorten(k), maxLabelKey)
		case len(v) > maxLabelValue:
			return invalid("label %s: its value of %d bytes is too long: at most %d are allowed", k, len(v), maxLabelValue)
		case !utf8.ValidString(v) || strings.ContainsFunc(v, unprintable):
			return invalid("label %s: its value %q is no printable text", k, shorten(v))
		}
	}
	return nil
}

func checkRestart(spec api.InstanceSpec) error {
	switch spec.Restart {
	case "", api.RestartNever:
		return nil
	case api.RestartOnFailure, api.RestartAlways, api.RestartOnDemand:
	default:
		return invalid("restart %q: expected never, on-failure, always or on-demand", shorten(string(spec.Restart)))
	}
	switch {
	case spec.AutoRemove:
		return invalid("restart %s with auto_remove: an instance that goes cannot be started again: ask for one of them", spec.Restart)
	case spec.Attach:
		return invalid("restart %s with attach: nobody would take the streams of the next start: ask for one of them", spec.Restart)
	}
	return nil
}

func checkExposes(spec api.InstanceSpec) error {
	if n := len(spec.Exposes); n > maxExposes {
		return invalid("%d exposes: at most %d are allowed", n, maxExposes)
	}
	guest, public := map[int]bool{}, map[int]bool{}
	for _, e := range spec.Exposes {
		switch {
		case e.Port < 1 || e.Port > 65535:
			return invalid("exposes: port %d: expected 1 to 65535", e.Port)
		case e.PublicPort < 0 || e.PublicPort > 65535:
			return invalid("exposes: public_port %d: expected 1 to 65535, or 0 for any", e.PublicPort)
		case e.Protocol != "" && e.Protocol != "http" && e.Protocol != "tcp":
			return invalid("exposes: protocol %q: expected http or tcp", shorten(e.Protocol))
		case guest[e.Port]:
			return invalid("exposes: port %d is there twice: name it once", e.Port)
		case e.PublicPort != 0 && public[e.PublicPort]:
			return invalid("exposes: public_port %d is there twice: name it once", e.PublicPort)
		}
		guest[e.Port], public[e.PublicPort] = true, true
	}
	return nil
}

func checkKit(spec api.InstanceSpec) error {
	if k := spec.Kit; k != "" && (len(k) > maxHandle || !handleGrammar.MatchString(k)) {
		return invalid("kit %q: expected at most %d letters, digits, '.', '_' and '-', beginning with a letter or digit", shorten(k), maxHandle)
	}
	return nil
}

// shortestIdle keeps a guest from being put to sleep between two packets.
const shortestIdle = time.Second

func checkIdle(spec api.InstanceSpec) error {
	switch spec.Idle {
	case "", "never", "leases_only":
		return nil
	}
	if d, err := time.ParseDuration(spec.Idle); err != nil || d < shortestIdle {
		return invalid("idle %q: expected never, leases_only, or a time of at least %v such as 5m", shorten(spec.Idle), shortestIdle)
	}
	return nil
}
