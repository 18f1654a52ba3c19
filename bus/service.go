package bus

import (
	"context"
	"log/slog"
)

// Service is a service of the suite, of which systemd hears: it says when it
// ends, and lets the level of its log be changed.
type Service struct {
	// Name is the program's.
	Name string
	// Address is that of the bus, as for Dial.
	Address string
	Log     *slog.Logger
	Level   *slog.LevelVar
}

// Stay is Stay for the service.
func (s Service) Stay(ctx context.Context, serve func(context.Context, *Conn) error) error {
	defer context.AfterFunc(ctx, func() { _ = NotifyStopping() })()
	return Stay(ctx, s.Address, s.Log, func(ctx context.Context, conn *Conn) error {
		if err := conn.ExportLogControl(s.Name, s.Level); err != nil {
			return err
		}
		return serve(ctx, conn)
	})
}

// Ready tells systemd that the service is; a failure is only logged.
func (s Service) Ready() {
	if err := NotifyReady(); err != nil {
		s.Log.Error("systemd was not told", "error", err)
	}
}
