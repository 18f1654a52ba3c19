package bus

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
)

// Hold claims a name for what was exported, calls ready, if not nil, and
// returns when ctx (nil) or the connection (Unavailable) has ended.
func (c *Conn) Hold(ctx context.Context, name string, ready func()) error {
	if err := c.Claim(ctx, name); err != nil {
		return err
	}
	if ready != nil {
		ready()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-c.Done():
		if ctx.Err() != nil {
			return nil // the connection ended with it
		}
		return api.Errorf(api.Unavailable, "the message bus went away")
	}
}
