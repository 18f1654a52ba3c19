package command

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/connect"
)

// target chooses the aegisd; a bad AEGIS_ADDRESS is a usage error.
func target(ctx context.Context) (connect.Target, error) {
	t, err := connect.Choose(ctx)
	if err != nil {
		return t, exitError{code: exitUsage, err: err}
	}
	return t, nil
}

// connect connects to aegisd; code is the exit code where that fails.
func (a *app) connect(ctx context.Context, code int) (*connect.Client, error) {
	client, err := connect.Dial(ctx)
	switch {
	case api.CodeOf(err) == api.InvalidArgument:
		return nil, exitError{code: exitUsage, err: err}
	case err != nil:
		return nil, exitError{code: code, err: err}
	}
	return client, nil
}
