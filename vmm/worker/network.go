package worker

import (
	"fmt"
	"net"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// makeNetwork makes the network of a machine whose plan says that it is here.
func (s *server) makeNetwork() error {
	if s.plan.Link == nil {
		return nil
	}
	if s.config.Network == nil {
		return fmt.Errorf("machine %s is to have its network in this worker, which has none", s.plan.ID)
	}
	var err error
	if s.network, err = s.config.Network(*s.plan.Link, s.config.Log); err != nil {
		return fmt.Errorf("making the network of machine %s: %w", s.plan.ID, err)
	}
	if s.config.Confine == nil {
		close(s.confined)
	}
	return nil
}

// serveNetwork makes the connection that asked for it that of the network, as
// soon as that may get something.
func (s *server) serveNetwork(c *net.UnixConn) {
	_, report, _ := s.now()
	if s.network == nil {
		packet.Send(c, response{Error: api.Errorf(api.BadState, "the machine has no network in its worker")})
		return
	}
	select {
	case <-s.confined:
	case <-s.ctx.Done():
		return
	}
	if packet.Send(c, response{Info: &report}) == nil {
		s.network.Serve(s.ctx, c)
	}
}
