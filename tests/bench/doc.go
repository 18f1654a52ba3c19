// Package bench measures, as ratios of what was measured side by side in one
// run. `make bench` prints the figures; nothing in it fails for being slow.
//
// Bare is the same QEMU command, kernel, initramfs and disks with no daemon,
// worker, record or jail: this process starts the monitor and talks to the
// harness itself.
package bench
