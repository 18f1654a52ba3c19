package aegisbus

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

func (s *Server) useSecrets(ctx context.Context, _ *bus.Request, ref string, names []string) (bus.Dict, error) {
	used, err := s.aegis.UseSecrets(ctx, ref, names)
	return dict(used, err)
}

// UseSecrets implements api.Aegis.
func (c *Client) UseSecrets(ctx context.Context, ref string, names []string) (used api.UsedSecrets, err error) {
	var d bus.Dict
	if err := c.call(ctx, "UseSecrets", bus.Args{ref, append([]string{}, names...)}, &d); err != nil {
		return used, err
	}
	return used, fromDict(d, &used)
}
