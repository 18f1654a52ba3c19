package qemu

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

// verdict collects what tells how a machine ended.
type verdict struct {
	mu      sync.Mutex
	stopped bool
	broken  error // how the guest broke the link
	// shutdown is the reason of QEMU's SHUTDOWN event.
	shutdown string
}

func (v *verdict) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stopped = true
}

func (v *verdict) cut(why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.broken = why
}

// event takes QEMU's events; only SHUTDOWN matters here.
func (v *verdict) event(name string, data json.RawMessage) {
	var d struct {
		Reason string `json:"reason"`
	}
	if name != "SHUTDOWN" || json.Unmarshal(data, &d) != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shutdown = d.Reason
}

// silentReset is what a kernel leaves that panics before it has a console.
const silentReset = "the guest reset before it was ready, without a word on its console"

// exit weighs it once the monitor is gone and its console read to the end.
// death is how the process ended, empty if in order; ready tells whether the
// guest ever was.
func (v *verdict) exit(death string, c *monitor.Console, ready bool) vmm.Exit {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := vmm.Exit{Time: time.Now()}
	panicked := c.Panic()
	switch {
	case v.stopped:
		e.Reason = vmm.ReasonStopped
	case v.broken != nil && death != "":
		e.Reason, e.Detail = vmm.ReasonCrashed, "the guest broke its link to the host: "+v.broken.Error()
	case death != "":
		e.Reason, e.Detail = vmm.ReasonCrashed, death
	case panicked != "":
		e.Reason, e.Detail = vmm.ReasonPanic, panicked
	case v.shutdown == "guest-reset" && !ready:
		e.Reason, e.Detail = vmm.ReasonPanic, silentReset
	case v.shutdown == "guest-reset" || v.shutdown == "guest-shutdown" || v.shutdown == "":
		e.Reason = vmm.ReasonPoweroff
	case v.shutdown == "guest-panic":
		e.Reason, e.Detail = vmm.ReasonPanic, "the guest's kernel panicked without a word"
	default:
		e.Reason, e.Detail = vmm.ReasonCrashed, "qemu was told to quit: "+monitor.Printable(v.shutdown)
	}
	return e
}
