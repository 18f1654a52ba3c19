package instance

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
)

// sample is what a guest had done at a time.
type sample struct {
	guestsession.Activity
	at time.Time
}

// The rates above which a guest is at work: what an idle system does by itself,
// such as a program that looks at its clock now and then, is below them.
const (
	workCPU     = 20 * time.Millisecond // a second
	workNetwork = 1 << 10               // bytes a second
	workDisk    = 16 << 10
)

// longestWindow is over how long the rate of an idle guest is measured.
const longestWindow = 10 * time.Second

// window is that for an instance that is paused after so long.
func window(after time.Duration) time.Duration { return min(after/2, longestWindow) }

// work says what a guest has been doing since, empty for nothing.
func (s sample) work(now sample) string {
	seconds := now.at.Sub(s.at).Seconds()
	if seconds <= 0 {
		return "no time has passed"
	}
	var all []string
	if cpu := max(now.CPU-s.CPU, 0); cpu.Seconds() > workCPU.Seconds()*seconds {
		all = append(all, fmt.Sprintf("programs used %.0f%% of a processor", 100*cpu.Seconds()/seconds))
	}
	for _, c := range []struct {
		what        string
		before, now uint64
		most        float64
	}{
		{"its network", s.NetworkBytes, now.NetworkBytes, workNetwork},
		{"its disks", s.DiskBytes, now.DiskBytes, workDisk},
	} {
		if rate := float64(c.now-min(c.before, c.now)) / seconds; rate > c.most {
			all = append(all, fmt.Sprintf("%s carried %.0f KiB/s", c.what, rate/1024))
		}
	}
	return strings.Join(all, ", ")
}

// askActivity asks the guest how much it has done and goes on with the answer,
// if the instance is where it was. Nothing is known of a guest that does not
// tell: it is left alone.
func (o *owner) askActivity(b *boot, then func(sample)) {
	o.sleep.asking = true
	session := b.session
	o.svc.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(b.ctx, o.svc.Timings.CallTimeout)
		defer cancel()
		var now sample
		ask := func(s *guestsession.Session) (err error) {
			now.Activity, err = s.Activity(ctx)
			return err
		}
		err := o.withSession(ctx, b, session, ask)
		if err != nil && session != nil && !guestsession.Refused(err) {
			err = o.withSession(ctx, b, nil, ask) // the connection may have broken meanwhile
		}
		o.postBoot(b, func() {
			o.sleep.asking = false
			if now.at = o.svc.now(); err != nil {
				o.notSlept(fmt.Errorf("%w: it stays awake", err))
				return
			}
			then(now)
		})
	})
}
