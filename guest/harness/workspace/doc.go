// Package workspace mounts the workspace in a guest. The kernel's NFS client
// speaks TCP only, so this package listens on the loopback interface and
// carries the bytes of its connection over a stream that the host has dialled.
// It looks at none of them. Memory that the kernel wants to write back may go
// through here, so nothing here may wait for memory.
package workspace
