package instance

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/xfeldman/aegisvm/api"
)

// idPrefix begins every id and no handle, so that neither can be mistaken
// for the other.
const idPrefix = "inst-"

var handleGrammar = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)

// withDefaults fills what the client left to us.
func withDefaults(spec api.InstanceSpec) api.InstanceSpec {
	if spec.MemoryMB == 0 {
		spec.MemoryMB = defaultMemoryMiB
	}
	if spec.VCPUs == 0 {
		spec.VCPUs = defaultVCPUs
	}
	if spec.DiskMB == 0 {
		spec.DiskMB = defaultDiskMiB
	}
	if spec.Restart == "" {
		spec.Restart = api.RestartNever
	}
	spec.Exposes = exposesWithDefaults(spec.Exposes)
	return spec
}

// validate refuses, in one line, what cannot work on this host.
func (l Limits) validate(given api.InstanceSpec) error {
	spec := withDefaults(given)
	for _, check := range []func(api.InstanceSpec) error{
		checkHandle, checkCommand, checkEnv, checkPlace, l.checkSize, checkFlags, checkSecrets, checkWorkspace,
		checkHostname, checkLabels, checkRestart, checkExposes, checkKit, checkIdle, checkPull, checkTTY, checkNetwork,
	} {
		if err := check(spec); err != nil {
			return err
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return api.Errorf(api.InvalidArgument, format, args...)
}

func checkHandle(spec api.InstanceSpec) error {
	switch h := spec.Handle; {
	case h == "":
	case len(h) > maxHandle:
		return invalid("handle of %d characters: at most %d are allowed", len(h), maxHandle)
	case !handleGrammar.MatchString(h):
		return invalid("handle %q: expected letters, digits, '.', '_' and '-', beginning with a letter or digit", h)
	case strings.HasPrefix(h, idPrefix):
		return invalid("handle %q: the prefix %q is kept for ids: choose another", h, idPrefix)
	}
	return nil
}

func checkCommand(spec api.InstanceSpec) error {
	brought := len(spec.Command) == 0 && spec.Kit != ""
	if !brought && (len(spec.Command) == 0 || spec.Command[0] == "") {
		return invalid("command is empty: expected a program and its arguments, such as echo hello")
	}
	total := 0
	for _, a := range spec.Command {
		if strings.ContainsRune(a, 0) {
			return invalid("command: argument %q contains a NUL byte: remove it", shorten(a))
		}
		if len(a) >= maxArgument {
			return invalid("command: an argument of %d bytes: less than %d are allowed: pass it on stdin", len(a), maxArgument)
		}
		total += len(a) + 1
	}
	for k, v := range spec.Env {
		total += len(k) + len(v) + 2
	}
	if total > maxArguments {
		return invalid("command and environment take %d bytes: at most %d are allowed: pass data on stdin", total, maxArguments)
	}
	return nil
}

func checkEnv(spec api.InstanceSpec) error {
	for _, k := range slices.Sorted(maps.Keys(spec.Env)) {
		odd := func(r rune) bool { return r == '=' || unicode.IsSpace(r) || !unicode.IsPrint(r) }
		switch v := spec.Env[k]; {
		case k == "" || strings.ContainsFunc(k, odd):
			return invalid("env name %q: expected a name without spaces and '='", shorten(k))
		case strings.ContainsRune(v, 0):
			return invalid("env %s: its value contains a NUL byte: remove it", k)
		case len(k)+len(v)+1 >= maxArgument:
			return invalid("env %s: its value of %d bytes is too long: less than %d are allowed", shorten(k), len(v), maxArgument)
		}
	}
	return nil
}

func checkPlace(spec api.InstanceSpec) error {
	switch {
	case spec.Workdir != "" && !path.IsAbs(spec.Workdir):
		return invalid("workdir %q: expected an absolute path in the guest", shorten(spec.Workdir))
	case strings.ContainsRune(spec.Workdir, 0):
		return invalid("workdir %q contains a NUL byte: remove it", shorten(spec.Workdir))
	case len(spec.User) > 256 || strings.ContainsFunc(spec.User, unprintable):
		return invalid("user %q: expected NAME, UID, NAME:GROUP or UID:GID", shorten(spec.User))
	case len(spec.ImageRef) > 4096 || strings.ContainsFunc(spec.ImageRef, unprintable):
		return invalid("image %q: expected a name, a path of an OCI layout or a digest", shorten(spec.ImageRef))
	}
	return nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// printable tells whether a text may be shown to people as it is.
func printable(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unprintable) }

func (l Limits) checkSize(spec api.InstanceSpec) error {
	cpus := min(maxVCPUs, l.CPUs)
	switch {
	case spec.MemoryMB < minMemoryMiB:
		return invalid("memory of %d MiB: a guest needs at least %d", spec.MemoryMB, minMemoryMiB)
	case spec.MemoryMB > l.MemoryMiB:
		return api.Errorf(api.LimitExceeded, "memory of %d MiB: this host has %d: ask for less", spec.MemoryMB, l.MemoryMiB)
	case spec.DiskMB < minDiskMiB:
		return invalid("disk of %d MiB: at least %d are needed", spec.DiskMB, minDiskMiB)
	case spec.DiskMB > maxDiskMiB:
		return api.Errorf(api.LimitExceeded, "disk of %d MiB: at most %d (1 TiB) are possible", spec.DiskMB, maxDiskMiB)
	case spec.VCPUs < 1:
		return invalid("%d cpus: expected 1 to %d", spec.VCPUs, cpus)
	case spec.VCPUs > cpus:
		return api.Errorf(api.LimitExceeded, "%d cpus: this host can give a guest 1 to %d: ask for less", spec.VCPUs, cpus)
	}
	return nil
}

func checkFlags(spec api.InstanceSpec) error {
	switch {
	case spec.TimeoutMS < 0 || spec.TimeoutMS > maxTimeoutMS:
		return invalid("timeout of %d ms: expected 0 (none) to %d", spec.TimeoutMS, int64(maxTimeoutMS))
	case spec.Stdin && !spec.Attach:
		return invalid("stdin without attach: ask for attach as well")
	}
	return nil
}

// maxTimeoutMS is ten years, far below what a Duration holds.
const maxTimeoutMS = 10 * 365 * 24 * 3600 * 1000

// shorten keeps a hostile value from filling a terminal.
func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
