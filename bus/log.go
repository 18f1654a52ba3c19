package bus

import (
	"context"
	"log/slog"

	"github.com/xfeldman/aegisvm/api"
)

// ExportLogControl exports org.freedesktop.LogControl1, through which
// "systemctl service-log-level UNIT debug" changes level while the daemon
// runs. Only root may.
func (c *Conn) ExportLogControl(identifier string, level *slog.LevelVar) error {
	_, err := c.Export(LogControlPath, Interface{
		Name:       logInterface,
		Allow:      AllowUIDs(),
		Properties: Properties{"LogLevel": levelName(level.Level()), "LogTarget": "console", "SyslogIdentifier": identifier},
		Write: map[string]func(context.Context, *Request, any) (any, error){
			"LogLevel": func(_ context.Context, _ *Request, v any) (any, error) {
				l, err := parseLevel(v.(string))
				if err != nil {
					return nil, err
				}
				level.Set(l)
				return levelName(l), nil
			},
			"LogTarget": func(_ context.Context, _ *Request, v any) (any, error) {
				if v == "console" || v == "auto" {
					return "console", nil
				}
				return nil, api.Errorf(api.InvalidArgument, "log target %q is not supported: only console is, which the journal reads", v)
			},
		},
	})
	return err
}

// parseLevel knows the levels of syslog; slog has four of them.
func parseLevel(name string) (slog.Level, error) {
	switch name {
	case "emerg", "alert", "crit", "err":
		return slog.LevelError, nil
	case "warning":
		return slog.LevelWarn, nil
	case "notice", "info":
		return slog.LevelInfo, nil
	case "debug":
		return slog.LevelDebug, nil
	}
	return 0, api.Errorf(api.InvalidArgument, "log level %q is unknown: emerg, alert, crit, err, warning, notice, info or debug expected", name)
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warning"
	}
	return "err"
}
