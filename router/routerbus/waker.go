package routerbus

import (
	"context"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/router"
)

// WakerInterface is what aegisd exports for the router: w, for root and the
// given users.
func WakerInterface(w router.Waker, uids []uint32) bus.Interface {
	return bus.Interface{Name: bus.AegisWaker, Allow: bus.AllowUIDs(uids...), Methods: bus.Methods{
		"Wake": func(ctx context.Context, r *bus.Request, instance string, renew bool) (lease, dialer dbus.UnixFD, started int64, address string, err error) {
			a, err := w.Wake(ctx, instance, renew)
			if a.Address.IsValid() {
				address = a.Address.String()
			}
			return r.Send(a.Lease), r.Send(a.Dialer), a.Started.UnixMicro(), address, err
		},
	}}
}
