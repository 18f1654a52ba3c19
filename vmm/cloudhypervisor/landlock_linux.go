package cloudhypervisor

import "golang.org/x/sys/unix"

// landlockABI is the version of the kernel's Landlock, 0 if it has none.
func landlockABI() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}
