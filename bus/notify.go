package bus

import (
	"fmt"

	"github.com/coreos/go-systemd/v22/daemon"
)

// NotifyReady tells systemd that the daemon serves. It does nothing where
// systemd did not start it.
func NotifyReady() error { return notify(daemon.SdNotifyReady) }

// NotifyStopping tells systemd that the daemon is on its way out, so that
// calls for it wait for its successor.
func NotifyStopping() error { return notify(daemon.SdNotifyStopping) }

func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notifying systemd (%s): %w", state, err)
	}
	return nil
}
