package instance

import (
	"cmp"
	"runtime"

	"github.com/xfeldman/aegisvm/image"
)

// Limits are what instances may ask for.
type Limits struct {
	// MemoryMiB is the host's memory, CPUs its processors.
	MemoryMiB, CPUs int
	// Instances is how many records there may be: 1000.
	Instances int
}

// The bounds that do not depend on the host. maxVCPUs is what the guest
// kernel is built for; maxArguments, in bytes, keeps command and environment
// well under what a Linux kernel takes and the control channel carries.
const (
	minMemoryMiB     = 128
	defaultMemoryMiB = 512
	minDiskMiB       = image.MinDisk >> 20
	defaultDiskMiB   = image.DiskSize >> 20
	maxDiskMiB       = image.MaxDisk >> 20
	maxVCPUs         = 8
	defaultVCPUs     = 1
	maxHandle        = 63
	maxArguments     = 1 << 20
	maxArgument      = 128 << 10
	maxInstances     = 1000
)

// orHost fills what is zero.
func (l Limits) orHost() Limits {
	return Limits{
		MemoryMiB: cmp.Or(l.MemoryMiB, hostMemoryMiB()),
		CPUs:      cmp.Or(l.CPUs, runtime.NumCPU()),
		Instances: cmp.Or(l.Instances, maxInstances),
	}
}
