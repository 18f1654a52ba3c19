package archive

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// pseudoFS are file systems whose files are not data but questions to the
// kernel.
var pseudoFS = []int64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEVPTS_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC,
	unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC,
}

// pseudo tells whether a folder is of such a file system. It is copied, empty,
// as part of another; by itself it is what was asked for.
func pseudo(dir *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(dir.Fd()), &st) == nil && slices.Contains(pseudoFS, int64(st.Type))
}
