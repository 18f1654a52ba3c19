package worker

import (
	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// The operations of a worker's socket, one per connection.
const (
	opInfo     = "info"
	opConnect  = "connect"  // Port in, one descriptor out
	opPause    = "pause"    //
	opResume   = "resume"   //
	opSnapshot = "snapshot" // two descriptors in: state, memory
	opStop     = "stop"     // answers when the monitor is gone
	opShutdown = "shutdown" // answers at once; the guest is asked to leave
	opWatch    = "watch"    // one Report per change, until the worker goes
	opNetwork  = "network"  // the connection then is that of Network.Serve
	opDialer   = "dialer"   // Port in; the connection then is one of package dialer
)

// request is one packet from a manager.
type request struct {
	Op   string `json:"op"`
	Port uint32 `json:"port,omitempty"`
}

// response is one packet from a worker.
type response struct {
	Error *api.Error `json:"error,omitempty"`
	Info  *Report    `json:"info,omitempty"`
}

// Report is what a worker tells of its machine.
type Report struct {
	// Seq grows with each change.
	Seq       uint64    `json:"seq"`
	State     vmm.State `json:"state"`
	Accel     string    `json:"accel,omitempty"`
	Pid       int       `json:"pid,omitempty"`
	WorkerPid int       `json:"worker_pid"`
	Exit      *vmm.Exit `json:"exit,omitempty"`
}
