package manager

import "context"

// serveStack has what the network in the worker asks for opened, until the
// worker or the manager goes. Connections that are open by then do not need
// it.
func (x *machine) serveStack() {
	c, err := x.client.Network(x.manager.ctx)
	if err != nil {
		if x.manager.ctx.Err() == nil && x.current().Exit == nil {
			x.manager.config.Log.Warn("the network of a machine opens nothing", "machine", x.id, "err", err)
		}
		return
	}
	defer context.AfterFunc(x.manager.ctx, func() { c.Close() })()
	x.manager.config.Stacks.Serve(x.stack, c)
}
