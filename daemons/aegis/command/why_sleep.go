package command

import (
	"fmt"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// sleepReasons says what keeps an instance awake or has put it to sleep.
func sleepReasons(in api.Instance, now time.Time) (lines []string) {
	s := in.Sleep
	if s == nil {
		return nil
	}
	if s.Reason != "" {
		asleep := map[bool]string{true: "awake again", false: "asleep"}[in.Phase == api.PhaseRunning]
		lines = append(lines, asleep+": "+printable(s.Reason)+agoText(s.Since, now))
	}
	if s.SnapshotBytes > 0 {
		lines = append(lines, fmt.Sprintf("its memory takes %d MiB on disk", s.SnapshotBytes>>20))
	}
	for _, use := range s.InUse {
		lines = append(lines, "kept awake: "+printable(use))
	}
	if s.Obstacle != "" {
		lines = append(lines, "does not sleep: "+printable(s.Obstacle))
	}
	if s.NextAt != nil {
		lines = append(lines, fmt.Sprintf("%s in %v, if nobody uses it and its guest is idle", s.Next, max(s.NextAt.Sub(now), 0).Round(time.Second)))
	}
	return lines
}

func agoText(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return fmt.Sprintf(" (%v ago)", now.Sub(*t).Round(time.Second))
}

// sleepText is all of that in a few words.
func sleepText(in api.Instance) string {
	switch s := in.Sleep; {
	case s == nil:
		return ""
	case s.Obstacle != "":
		return printable(s.Obstacle)
	case len(s.InUse) > 0:
		return printable(s.InUse[0])
	case s.NextAt != nil:
		return string(s.Next) + " at " + timeText(s.NextAt)
	default:
		return printable(s.Reason)
	}
}
