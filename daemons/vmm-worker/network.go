package main

import (
	"log/slog"
	"os"

	"github.com/xfeldman/aegisvm/netd/user/stack"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/packet"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// network is a stack with the monitor's end of its link.
type network struct {
	*stack.Stack
	nic *os.File
}

// newNetwork makes the network of a machine that has no tap.
func newNetwork(l worker.Link, log *slog.Logger) (worker.Network, error) {
	ours, nic, err := packet.StreamPair()
	if err != nil {
		return nil, err
	}
	s, err := stack.New(stack.Config{Guest: l.Guest, Gateway: l.Gateway, Link: ours, MTU: vmm.FramesMTU, Log: log})
	if err != nil {
		ours.Close()
		nic.Close()
		return nil, err
	}
	return network{s, nic}, nil
}

// NIC implements worker.Network.
func (n network) NIC() *os.File { return n.nic }
