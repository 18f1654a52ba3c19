package instance

import (
	"maps"
	"regexp"
	"slices"

	"github.com/xfeldman/aegisvm/api"
)

// The bounds of what is only kept.
const (
	maxHostname   = 63
	maxLabels     = 64
	maxLabelKey   = 128
	maxLabelValue = 256
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
	for _, k := range slices.Sorted(maps.Keys(spec.Labels)) {
		switch v := spec.Labels[k]; {
		case len(k) > maxLabelKey || !labelGrammar.MatchString(k):
			return invalid("label %q: expected at most %d letters, digits, '.', '_', '/' and '-', beginning with a letter or digit", shorten(k), maxLabelKey)
		case len(v) > maxLabelValue:
			return invalid("label %s: its value of %d bytes is too long: at most %d are allowed", k, len(v), maxLabelValue)
		case !printable(v):
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
