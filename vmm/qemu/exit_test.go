package qemu

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

func TestVerdictWeighsWhatItKnows(t *testing.T) {
	const panicked = "Kernel panic - not syncing: x\n"
	for name, c := range map[string]struct {
		shutdown, death, console string
		stop, cut, early         bool
		want                     vmm.Reason
		detail                   string
	}{
		"reset":                          {shutdown: "guest-reset", want: vmm.ReasonPoweroff},
		"reset before it was ready":      {shutdown: "guest-reset", early: true, want: vmm.ReasonPanic, detail: "before it was ready"},
		"poweroff before it was ready":   {shutdown: "guest-shutdown", early: true, want: vmm.ReasonPoweroff},
		"poweroff by ACPI":               {shutdown: "guest-shutdown", want: vmm.ReasonPoweroff},
		"panic":                          {shutdown: "guest-reset", console: panicked, want: vmm.ReasonPanic, detail: "Kernel panic - not syncing: x"},
		"panic told by the monitor only": {shutdown: "guest-panic", want: vmm.ReasonPanic, detail: "without a word"},
		"stopped after a panic":          {stop: true, death: "killed", console: panicked, want: vmm.ReasonStopped},
		"killed":                         {death: "qemu was killed by signal 9", want: vmm.ReasonCrashed, detail: "signal 9"},
		"killed after it broke the link": {death: "killed", cut: true, want: vmm.ReasonCrashed, detail: "link"},
		"gone in order before the cut":   {shutdown: "guest-reset", cut: true, want: vmm.ReasonPoweroff},
		"terminated by somebody":         {shutdown: "host-signal", want: vmm.ReasonCrashed, detail: "host-signal"},
	} {
		t.Run(name, func(t *testing.T) {
			var v verdict
			if c.shutdown != "" {
				v.event("SHUTDOWN", json.RawMessage(`{"guest": true, "reason": "`+c.shutdown+`"}`))
			}
			v.event("RESET", json.RawMessage(`{"reason": "guest-panic"}`))
			v.event("SHUTDOWN", json.RawMessage(`nonsense`))
			if c.stop {
				v.stop()
			}
			if c.cut {
				v.cut(errors.New("it sent noise"))
			}
			console := monitor.NewConsole(nil)
			console.Copy(strings.NewReader(c.console))
			e := v.exit(c.death, console, !c.early)
			if e.Reason != c.want || !strings.Contains(e.Detail, c.detail) || e.Time.IsZero() {
				t.Errorf("exit %+v, want %s with %q", e, c.want, c.detail)
			}
		})
	}
}
