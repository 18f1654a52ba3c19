//go:build !(linux && amd64)

package vmm

import (
	"context"
	"runtime"
)

// ProbeKVM tells that KVM is probed on Linux on x86-64 only.
func ProbeKVM(context.Context) (KVM, error) {
	return KVM{Reason: "KVM is used on Linux on x86-64 only, this is " + runtime.GOOS + " on " + runtime.GOARCH}, nil
}
