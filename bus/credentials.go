package bus

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
)

// maxCredentials bounds the cache; when it is full it starts anew.
const maxCredentials = 1024

// noGroup stands for a primary group that the bus does not know.
const noGroup = 65534

// Credentials tells who owns a unique bus name. A bus never uses such a name
// twice, so the answer is remembered.
func (c *Conn) Credentials(ctx context.Context, unique string) (api.Caller, error) {
	c.mu.Lock()
	who, ok := c.creds[unique]
	c.mu.Unlock()
	if ok {
		return who, nil
	}
	var d Dict
	if err := c.bus().Call(ctx, "GetConnectionCredentials", Args{unique}, &d); err != nil {
		return api.Caller{}, fmt.Errorf("asking the bus who %s is: %w", unique, err)
	}
	who, err := callerOf(d)
	if err != nil {
		return api.Caller{}, fmt.Errorf("asking the bus who %s is: %w", unique, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.creds) >= maxCredentials {
		clear(c.creds)
	}
	c.creds[unique] = who
	return who, nil
}

func callerOf(d Dict) (api.Caller, error) {
	uid, ok := d["UnixUserID"].Value().(uint32)
	if !ok {
		return api.Caller{}, api.Errorf(api.Denied, "the bus does not know the sender's user")
	}
	who := api.Caller{UID: uid, GID: noGroup}
	if pid, ok := d["ProcessID"].Value().(uint32); ok {
		who.PID = int32(pid)
	}
	if groups, ok := variantValue[[]uint32](d["UnixGroupIDs"]); ok && len(groups) > 0 {
		who.GID = groups[0] // the primary group comes first
	}
	return who, nil
}

func variantValue[T any](v dbus.Variant) (T, bool) {
	t, ok := v.Value().(T)
	return t, ok
}
