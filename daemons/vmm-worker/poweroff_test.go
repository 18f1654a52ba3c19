package main

import (
	"testing"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake"
)

func TestPoweroffIsAskedForAsTheContractSays(t *testing.T) {
	m, err := (&fake.Driver{}).Start(t.Context(), vmm.Plan{ID: "one", MemoryMiB: 128, VCPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	<-m.Ready()
	if err := poweroff(t.Context(), m); err != nil {
		t.Fatal(err) // the guest refuses whoever has not said hello
	}
	<-m.Done()
	if got := m.Exit().Reason; got != vmm.ReasonPoweroff {
		t.Errorf("the machine ended by %s", got)
	}
}
