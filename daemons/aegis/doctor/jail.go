package doctor

import (
	"context"
	"runtime"
	"strings"
)

// jail tells what is missing around a machine's monitor: of aegisd's jails
// where it is standalone, as this user runs it; vmmd has rights of its own.
func (h Host) jail(context.Context) Finding {
	system := h.seen.status.Composition == "system"
	missing := h.Walls(system)
	if len(missing) == 0 {
		return ok("with all its walls")
	}
	f := Finding{Level: Warn, Text: "it lacks " + strings.Join(missing, ", ")}
	if !system {
		f.Text += h.seen.whose
	}
	switch {
	case runtime.GOOS != "linux":
		f.Remedy = "use Linux for guests that you do not trust"
	case system:
		f.Remedy = "boot a kernel with Landlock and seccomp (Debian: linux-image-amd64, and landlock in lsm=)"
	default:
		f.Remedy = "run aegisd as root (in a container with CAP_SYS_ADMIN) or as a service, " +
			"or allow user namespaces (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
	}
	return f
}
