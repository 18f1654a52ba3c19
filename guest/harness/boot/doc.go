// Package boot makes a root file system out of what a machine was started
// with: it loads a distribution kernel's modules, finds the disks by their
// serial numbers, lays the writable disk over the image and moves into the
// result. It starts no process and knows nothing of the host.
package boot
