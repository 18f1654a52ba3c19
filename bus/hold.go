package bus

import (
	"context"
	"os/user"
	"strconv"

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

// UIDs are the numbers of the named users that this host has, for AllowUIDs.
func UIDs(names ...string) (uids []uint32) {
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		if uid, err := strconv.ParseUint(u.Uid, 10, 32); err == nil {
			uids = append(uids, uint32(uid))
		}
	}
	return uids
}
