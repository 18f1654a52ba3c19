package follow

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
)

// Waiter waits for instances, also while aegisd is started again.
type Waiter struct {
	Reader
	// Met says that aegisd was there once: only then it is waited for.
	Met bool
}

// Wait is that of api.Aegis. The instance is the one that ref names at first,
// whatever takes its name later. An aegisd that never was there is an error at
// once.
func (w *Waiter) Wait(ctx context.Context, ref string, until api.Until) (api.Instance, error) {
	p := w.patience()
	in, err := w.insist(ctx, p, func() (api.Instance, error) { return w.Aegis.Get(ctx, ref) })
	if err != nil {
		return in, err
	}
	asked := 0
	got, err := w.insist(ctx, p, func() (api.Instance, error) {
		asked++
		return w.Aegis.Wait(ctx, in.ID, until)
	})
	switch {
	case api.CodeOf(err) != api.NotFound || asked == 1:
		return got, err
	case until == api.UntilRunning:
		return in, api.Errorf(api.BadState, "instance %s was deleted", in.ID)
	default:
		return in, nil // while aegisd was away
	}
}

// insist makes a call until an aegisd that was there once answers it.
func (w *Waiter) insist(ctx context.Context, p *patience, call func() (api.Instance, error)) (api.Instance, error) {
	for {
		in, err := call()
		if api.CodeOf(err) != api.Unavailable || ctx.Err() != nil {
			w.Met = true
			p.here()
			return in, err
		}
		if !w.Met {
			return in, err
		}
		if !p.wait(ctx, err) {
			if ctx.Err() == nil {
				err = api.Errorf(api.Unavailable, "aegisd has been away for more than %v: wait again when it is back: %w", p.limit, err)
			}
			return in, err
		}
	}
}
