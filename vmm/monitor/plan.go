package monitor

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/xfeldman/aegisvm/vmm"
)

var idPattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// Check refuses a plan that a monitor would refuse in worse words.
func Check(p vmm.Plan) error {
	if !idPattern.MatchString(p.ID) {
		return fmt.Errorf("machine id %q: 1 to 32 characters of a-z, 0-9 and - expected", p.ID)
	}
	if p.MemoryMiB < 1 || p.VCPUs < 1 {
		return fmt.Errorf("%d MiB of memory and %d processors: at least one of each expected", p.MemoryMiB, p.VCPUs)
	}
	seen := map[vmm.Role]bool{}
	for _, d := range p.Disks {
		switch {
		case !slices.Contains(vmm.Roles, d.Role):
			return fmt.Errorf("disk %q: one of %v expected", d.Role, vmm.Roles)
		case seen[d.Role]:
			return fmt.Errorf("disk %q is there twice", d.Role)
		case d.File == nil:
			return fmt.Errorf("disk %q has no file", d.Role)
		}
		seen[d.Role] = true
	}
	return nil
}
