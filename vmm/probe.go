package vmm

// KVM is what ProbeKVM found.
type KVM struct {
	// Usable is whether a stock kernel can be expected to run.
	Usable bool
	// Reason says in words why it is not usable; empty when it is.
	Reason string
}
