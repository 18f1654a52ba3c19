package cloudhypervisor

import (
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

// verdict collects what tells how a machine ended.
type verdict struct {
	mu                          sync.Mutex
	stopped, booted, rebooting  bool
	guestPanicked, fellShutDown bool
	restored                    chan struct{} // closed when a snapshot is loaded
}

func (v *verdict) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stopped = true
}

// follow reads events until r ends. leave is called when the guest reboots:
// Cloud Hypervisor would start it again.
func (v *verdict) follow(r io.Reader, leave func()) {
	events := json.NewDecoder(r)
	for {
		var e struct {
			Source string `json:"source"`
			Event  string `json:"event"`
		}
		if events.Decode(&e) != nil {
			io.Copy(io.Discard, r)
			return
		}
		if v.event(e.Source + "/" + e.Event) {
			leave()
		}
	}
}

// event takes one event and tells whether the machine must be left.
func (v *verdict) event(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch name {
	case "vm/booted":
		v.booted = true
	case "vm/restored":
		if !v.booted {
			v.booted = true
			close(v.restored)
		}
	case "vm/shutdown":
		v.fellShutDown = true
	case "guest/panic":
		v.guestPanicked = true
	case "vm/rebooting":
		v.rebooting = true
		return true
	}
	return false
}

// exit weighs it once the monitor is gone and its console read to the end.
// death is how the process ended, empty if in order; ready tells whether the
// guest ever was.
func (v *verdict) exit(death string, c *monitor.Console, ready bool) vmm.Exit {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := vmm.Exit{Time: time.Now()}
	panicked := c.Panic()
	if panicked == "" && v.guestPanicked {
		panicked = "the guest's kernel panicked without a word"
	}
	switch {
	case v.stopped:
		e.Reason = vmm.ReasonStopped
	case !v.rebooting && death != "":
		e.Reason, e.Detail = vmm.ReasonCrashed, death
	case panicked != "":
		e.Reason, e.Detail = vmm.ReasonPanic, panicked
	case v.rebooting && !ready:
		e.Reason, e.Detail = vmm.ReasonPanic, "the guest reset before it was ready, without a word on its console"
	case v.rebooting || v.booted && v.fellShutDown:
		e.Reason = vmm.ReasonPoweroff
	default:
		e.Reason, e.Detail = vmm.ReasonCrashed, "cloud-hypervisor ended before its guest"
	}
	return e
}
