package doctor

import (
	"context"
	"runtime"
	"slices"
	"strings"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// answers are what one examination asks for once.
type answers struct {
	status    api.Status
	statusErr error
	// support is aegisd's where it runs: another user may be allowed to use
	// what this one is not, or the other way round.
	support    vmm.Support
	supportErr error
	whose      string
}

// ask asks aegisd, and the host itself where aegisd does not answer.
func (h Host) ask(ctx context.Context) (a answers) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if a.status, a.statusErr = h.Daemon(ctx); a.statusErr != nil {
		a.support, a.supportErr = h.Driver(ctx)
		a.whose = ", as this user sees it: aegisd did not answer"
		return a
	}
	a.whose = ", says aegisd"
	a.support = vmm.Support{Driver: a.status.Backend, Accel: a.status.Accel, Missing: a.status.Missing}
	notes := slices.DeleteFunc(slices.Clone(a.status.Warnings), func(w string) bool { return w == a.status.Missing })
	a.support.Note = strings.Join(notes, "; ")
	return a
}

// monitor tells what machines run in.
func (h Host) monitor(context.Context) Finding {
	s, whose := h.seen.support, h.seen.whose
	switch {
	case h.seen.supportErr != nil:
		return Finding{Level: Fail, Text: h.seen.supportErr.Error() + whose, Remedy: "run this command again"}
	case s.Missing != "":
		return Finding{Level: Fail, Text: s.Missing + whose, Remedy: remedyFor(s.Driver)}
	case s.Driver == "":
		return Finding{Level: Fail, Text: s.Note + whose, Remedy: "look at the log: journalctl -u aegis-vmmd -u aegisd"}
	}
	return ok("%s%s", strings.TrimSpace(s.Driver+" "+s.Version), whose)
}

// remedyFor brings the monitor of a driver.
func remedyFor(driver string) string {
	switch {
	case driver != "qemu":
		return "install it, or unset AEGIS_VMM, which names " + driver
	case runtime.GOARCH == "arm64":
		return install("qemu-system-arm", "qemu-system-aarch64-core")
	default:
		return install("qemu-system-x86", "qemu-system-x86-core")
	}
}

// kvm tells what machines run on; without it they do, but slowly.
func (h Host) kvm(context.Context) Finding {
	s, whose := h.seen.support, h.seen.whose
	switch s.Accel {
	case "kvm":
		return ok("usable%s", whose)
	case "tcg":
		return Finding{
			Level: Warn, Text: strings.Replace(s.Note, "software emulation", "SOFTWARE EMULATION", 1) + whose,
			Remedy: "turn virtualisation on in the firmware, or nested virtualisation in the cloud",
		}
	case "":
		return Finding{Level: Warn, Text: "not known without a monitor" + whose, Remedy: "see monitor"}
	}
	return ok("not used: machines run on %s%s", s.Accel, whose)
}

func (h Host) daemon(context.Context) Finding {
	if err := h.seen.statusErr; err != nil {
		return Finding{Level: Warn, Text: err.Error(), Remedy: "aegis up"}
	}
	return ok("version %s, %s", h.seen.status.Version, h.seen.status.Composition)
}
