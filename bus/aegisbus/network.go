package aegisbus

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// networkMethods are the root's methods of api.Networks.
func (s *Server) networkMethods() bus.Methods {
	return bus.Methods{
		"GetNetworkState": func(ctx context.Context, _ *bus.Request, ref string) (bus.Dict, error) {
			state, err := s.aegis.NetworkState(ctx, ref)
			return dict(state, err)
		},
		"SetNetworkPolicy": func(ctx context.Context, _ *bus.Request, ref string, d bus.Dict) (bus.Dict, error) {
			var p api.NetworkPolicy
			if err := bus.FromDictStrict(d, &p); err != nil {
				return nil, api.Errorf(api.InvalidArgument, "policy: %w", err)
			}
			state, err := s.aegis.SetNetworkPolicy(ctx, ref, p)
			return dict(state, err)
		},
	}
}

// NetworkState implements api.Aegis.
func (c *Client) NetworkState(ctx context.Context, ref string) (state api.NetworkState, err error) {
	var d bus.Dict
	if err := c.call(ctx, "GetNetworkState", bus.Args{ref}, &d); err != nil {
		return state, err
	}
	return state, fromDict(d, &state)
}

// SetNetworkPolicy implements api.Aegis.
func (c *Client) SetNetworkPolicy(ctx context.Context, ref string, p api.NetworkPolicy) (state api.NetworkState, err error) {
	policy, err := bus.ToDict(p)
	if err != nil {
		return state, err
	}
	var d bus.Dict
	if err := c.call(ctx, "SetNetworkPolicy", bus.Args{ref, policy}, &d); err != nil {
		return state, err
	}
	return state, fromDict(d, &state)
}
