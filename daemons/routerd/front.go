package main

import (
	"fmt"
	"net"
	"os"

	"github.com/xfeldman/aegisvm/router"
)

// frontName is what the front's socket is called by its unit.
const frontName = "front"

// takeFront takes the socket of the front out of what systemd has passed. The
// ports are served without it.
func takeFront(kept map[string]*os.File) router.FrontConfig {
	f := kept[frontName]
	delete(kept, frontName)
	if f == nil {
		return router.FrontConfig{Missing: "it is not open: see systemctl status aegis-routerd.socket"}
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return router.FrontConfig{Missing: fmt.Sprintf("its socket cannot be used: %v", err)}
	}
	return router.FrontConfig{Socket: l}
}
